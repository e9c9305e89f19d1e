#include "server/text/tokenizer_components.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace modu::text {
namespace {

using nlohmann::json;

constexpr char kMetaspace[] = "\xE2\x96\x81";

std::string TypeOf(const json& node) { return node.at("type").get<std::string>(); }

bool BoolOr(const json& node, const char* key, bool fallback) {
  const auto it = node.find(key);
  return it == node.end() || it->is_null() ? fallback : it->get<bool>();
}

std::string StringOr(const json& node, const char* key, std::string fallback) {
  const auto it = node.find(key);
  return it == node.end() || it->is_null() ? fallback : it->get<std::string>();
}

absl::Status Unsupported(const char* what, const std::string& type) {
  return absl::UnimplementedError(
      absl::StrCat("tokenizer.json: ", what, " \"", type, "\" is not supported"));
}

absl::StatusOr<Matcher> ReadPattern(const json& node) {
  if (node.is_string()) return Matcher::Literal(node.get<std::string>());
  if (node.contains("String")) return Matcher::Literal(node.at("String").get<std::string>());
  return Matcher::Expression(node.at("Regex").get<std::string>());
}

absl::StatusOr<SplitBehavior> ReadBehavior(const json& node, SplitBehavior fallback) {
  const auto it = node.find("behavior");
  if (it == node.end() || it->is_null()) return fallback;
  const auto name = it->get<std::string>();
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return Unsupported("split behavior", name);
}

absl::StatusOr<PrependScheme> ReadPrependScheme(const json& node) {
  const std::string scheme = StringOr(node, "prepend_scheme", "always");
  if (scheme == "never" || !BoolOr(node, "add_prefix_space", true)) return PrependScheme::kNever;
  if (scheme == "first") return PrependScheme::kFirst;
  if (scheme == "always") return PrependScheme::kAlways;
  return Unsupported("prepend_scheme", scheme);
}

/// How a sequence of each component spells its list.
const json& Parts(const json& node) {
  for (const char* key : {"normalizers", "pretokenizers", "processors", "decoders"}) {
    if (node.contains(key)) return node.at(key);
  }
  return node.at("normalizers");  // throws, and names a key
}

absl::Status AppendDecoder(const json& node, std::vector<DecodeStep>* steps) {
  using Kind = DecodeStep::Kind;
  const std::string type = TypeOf(node);
  DecodeStep step;
  if (type == "Sequence") {
    for (const json& part : Parts(node)) {
      if (absl::Status s = AppendDecoder(part, steps); !s.ok()) return s;
    }
    return absl::OkStatus();
  }
  if (type == "ByteLevel") {
    step.kind = Kind::kByteLevel;
  } else if (type == "ByteFallback") {
    step.kind = Kind::kByteFallback;
  } else if (type == "Fuse") {
    step.kind = Kind::kFuse;
  } else if (type == "Replace") {
    absl::StatusOr<Matcher> pattern = ReadPattern(node.at("pattern"));
    if (!pattern.ok()) return pattern.status();
    step.kind = Kind::kReplace;
    step.pattern = *std::move(pattern);
    step.content = node.at("content").get<std::string>();
  } else if (type == "Strip") {
    step.kind = Kind::kStrip;
    step.content = node.at("content").get<std::string>();
    step.start = node.at("start").get<size_t>();
    step.stop = node.at("stop").get<size_t>();
    if (step.content.empty())
      return absl::InvalidArgumentError("tokenizer.json: decoder Strip: content is empty");
  } else if (type == "Metaspace") {
    absl::StatusOr<PrependScheme> scheme = ReadPrependScheme(node);
    if (!scheme.ok()) return scheme.status();
    step.kind = Kind::kMetaspace;
    step.content = StringOr(node, "replacement", kMetaspace);
    step.prefixed = *scheme != PrependScheme::kNever;
  } else if (type == "BPEDecoder") {
    step.kind = Kind::kSuffix;
    step.content = StringOr(node, "suffix", "</w>");
  } else {
    return Unsupported("decoder", type);
  }
  steps->push_back(std::move(step));
  return absl::OkStatus();
}

void AppendLeafTypes(const json& node, std::vector<std::string>* types) {
  if (!node.is_object()) return;
  const std::string type = TypeOf(node);
  if (type != "Sequence") {
    types->push_back(type);
    return;
  }
  for (const json& part : Parts(node)) AppendLeafTypes(part, types);
}

absl::Status WrapTemplate(const json& node, AroundText* around) {
  AroundText outer;
  bool behind = false;
  for (const json& item : node.at("single")) {
    if (item.contains("Sequence")) {
      behind = true;
      continue;
    }
    const auto name = item.at("SpecialToken").at("id").get<std::string>();
    const json& ids = node.at("special_tokens").at(name).at("ids");
    for (const json& id : ids) (behind ? outer.suffix : outer.prefix).push_back(id.get<int32_t>());
  }
  around->prefix.insert(around->prefix.begin(), outer.prefix.begin(), outer.prefix.end());
  around->suffix.insert(around->suffix.end(), outer.suffix.begin(), outer.suffix.end());
  return absl::OkStatus();
}

absl::Status Wrap(const json& node, AroundText* around) {
  const std::string type = TypeOf(node);
  if (type == "Sequence") {
    for (const json& part : Parts(node)) {
      if (absl::Status s = Wrap(part, around); !s.ok()) return s;
    }
    return absl::OkStatus();
  }
  if (type == "ByteLevel") return absl::OkStatus();  // moves offsets only
  if (type == "TemplateProcessing") return WrapTemplate(node, around);
  if (type == "RobertaProcessing" || type == "BertProcessing") {
    around->prefix.insert(around->prefix.begin(), node.at("cls").at(1).get<int32_t>());
    around->suffix.push_back(node.at("sep").at(1).get<int32_t>());
    return absl::OkStatus();
  }
  return Unsupported("post-processor", type);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Normalizer>> ReadNormalizer(const json& node) {
  if (node.is_null()) return std::unique_ptr<Normalizer>();
  const std::string type = TypeOf(node);
  if (type == "NFC") return MakeUnicodeForm(NormalForm::kNfc);
  if (type == "NFD") return MakeUnicodeForm(NormalForm::kNfd);
  if (type == "NFKC") return MakeUnicodeForm(NormalForm::kNfkc);
  if (type == "NFKD") return MakeUnicodeForm(NormalForm::kNfkd);
  if (type == "Lowercase") return MakeLowercase();
  if (type == "StripAccents") return MakeStripAccents();
  if (type == "Nmt") return MakeNmt();
  if (type == "ByteLevel") return MakeByteLevelNormalizer();
  if (type == "Prepend") return MakePrepend(node.at("prepend").get<std::string>());
  if (type == "Strip") {
    return MakeStrip(BoolOr(node, "strip_left", true), BoolOr(node, "strip_right", true));
  }
  if (type == "Replace") {
    absl::StatusOr<Matcher> pattern = ReadPattern(node.at("pattern"));
    if (!pattern.ok()) return pattern.status();
    return MakeReplace(*std::move(pattern), node.at("content").get<std::string>());
  }
  if (type != "Sequence") return Unsupported("normalizer", type);
  std::vector<std::unique_ptr<Normalizer>> parts;
  for (const json& part : Parts(node)) {
    absl::StatusOr<std::unique_ptr<Normalizer>> read = ReadNormalizer(part);
    if (!read.ok()) return read;
    if (*read != nullptr) parts.push_back(*std::move(read));
  }
  return MakeNormalizerSequence(std::move(parts));
}

absl::StatusOr<std::unique_ptr<PreTokenizer>> ReadPreTokenizer(const json& node, bool map_bytes) {
  if (node.is_null()) return std::unique_ptr<PreTokenizer>();
  const std::string type = TypeOf(node);
  if (type == "ByteLevel") {
    return MakeByteLevel(BoolOr(node, "add_prefix_space", true), BoolOr(node, "use_regex", true),
                         map_bytes);
  }
  if (type == "Digits") return MakeDigits(BoolOr(node, "individual_digits", false));
  if (type == "Whitespace") return MakeWhitespace();
  if (type == "WhitespaceSplit") return MakeWhitespaceSplit();
  if (type == "BertPreTokenizer") {
    std::vector<std::unique_ptr<PreTokenizer>> parts;
    parts.push_back(MakeWhitespaceSplit());
    parts.push_back(MakePunctuation(SplitBehavior::kIsolated));
    return MakePreTokenizerSequence(std::move(parts));
  }
  if (type == "CharDelimiterSplit") {
    return MakeSplit(Matcher::Literal(node.at("delimiter").get<std::string>()),
                     SplitBehavior::kRemoved, false);
  }
  if (type == "Punctuation") {
    absl::StatusOr<SplitBehavior> behavior = ReadBehavior(node, SplitBehavior::kIsolated);
    if (!behavior.ok()) return behavior.status();
    return MakePunctuation(*behavior);
  }
  if (type == "Metaspace") {
    absl::StatusOr<PrependScheme> scheme = ReadPrependScheme(node);
    if (!scheme.ok()) return scheme.status();
    return MakeMetaspace(StringOr(node, "replacement", kMetaspace), *scheme,
                         BoolOr(node, "split", true));
  }
  if (type == "Split") {
    absl::StatusOr<Matcher> pattern = ReadPattern(node.at("pattern"));
    if (!pattern.ok()) return pattern.status();
    absl::StatusOr<SplitBehavior> behavior = ReadBehavior(node, SplitBehavior::kIsolated);
    if (!behavior.ok()) return behavior.status();
    return MakeSplit(*std::move(pattern), *behavior, BoolOr(node, "invert", false));
  }
  if (type != "Sequence") return Unsupported("pre-tokenizer", type);
  std::vector<std::unique_ptr<PreTokenizer>> parts;
  for (const json& part : Parts(node)) {
    absl::StatusOr<std::unique_ptr<PreTokenizer>> read = ReadPreTokenizer(part, map_bytes);
    if (!read.ok()) return read;
    if (*read != nullptr) parts.push_back(*std::move(read));
  }
  return MakePreTokenizerSequence(std::move(parts));
}

absl::StatusOr<std::vector<DecodeStep>> ReadDecoder(const json& node) {
  std::vector<DecodeStep> steps;
  if (node.is_null()) return steps;
  if (absl::Status s = AppendDecoder(node, &steps); !s.ok()) return s;
  return steps;
}

absl::StatusOr<AroundText> ReadPostProcessor(const json& node) {
  AroundText around;
  if (node.is_null()) return around;
  if (absl::Status s = Wrap(node, &around); !s.ok()) return s;
  return around;
}

std::vector<std::string> LeafTypes(const json& node) {
  std::vector<std::string> types;
  AppendLeafTypes(node, &types);
  return types;
}

}  // namespace modu::text
