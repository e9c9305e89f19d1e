#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/json_text.h"
#include "nlohmann/json.hpp"
#include "server/text/pipeline_tokenizer.h"
#include "server/text/tokenizer_components.h"
#include "server/text/tokenizer_file.h"

namespace modu::text {
namespace {

using nlohmann::json;

constexpr int64_t kMaxTokenId = 4'000'000;

const json& Member(const json& node, const char* key) {
  static const json null;
  const auto it = node.find(key);
  return it == node.end() ? null : *it;
}

absl::Status Invalid(const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat("tokenizer.json: ", what));
}

absl::Status CheckId(int64_t id, const char* where) {
  if (id >= 0 && id < kMaxTokenId) return absl::OkStatus();
  return Invalid(absl::StrCat(where, ": id ", id, " is not in 0 to ", kMaxTokenId - 1));
}

void Place(int64_t id, std::string spelling, std::vector<std::string>* spellings) {
  if (static_cast<size_t>(id) >= spellings->size()) spellings->resize(id + 1);
  (*spellings)[id] = std::move(spelling);
}

absl::Status ReadVocab(TokenizerFile* file, Pipeline* p) {
  if (file->vocab.size() > static_cast<size_t>(kMaxTokenId))
    return Invalid("model.vocab: too many");
  for (auto& [spelling, id] : file->vocab) {
    if (absl::Status s = CheckId(id, "model.vocab"); !s.ok()) return s;
    Place(id, std::move(spelling), &p->spellings);
  }
  return absl::OkStatus();
}

absl::Status ReadMerges(const TokenizerFile& file, const Vocabulary& vocabulary, Pipeline* p) {
  const size_t skip = p->model.continuing_subword_prefix.size();
  p->merges.reserve(file.merges.size());
  std::string joined;
  for (size_t i = 0; i < file.merges.size(); ++i) {
    const auto& [left, right] = file.merges[i];
    joined = left;
    if (right.size() < skip) return Invalid(absl::StrCat("model.merges[", i, "]: no prefix"));
    joined.append(right, skip);
    const Merge merge{vocabulary.Find(left), vocabulary.Find(right), static_cast<uint32_t>(i),
                      vocabulary.Find(joined)};
    if (merge.left < 0 || merge.right < 0 || merge.id < 0) {
      return Invalid(absl::StrCat("model.merges[", i, "]: a token is not in model.vocab"));
    }
    p->merges.push_back(merge);
  }
  return absl::OkStatus();
}

absl::Status ReadModel(const json& model, const Vocabulary& vocabulary, Pipeline* p) {
  const auto text = [&](const char* key) {
    const json& v = Member(model, key);
    return v.is_null() ? std::string() : v.get<std::string>();
  };
  const auto flag = [&](const char* key) {
    const json& v = Member(model, key);
    return !v.is_null() && v.get<bool>();
  };
  const std::string type = text("type");
  if (!type.empty() && type != "BPE") {
    return absl::UnimplementedError(
        absl::StrCat("tokenizer.json: model \"", type, "\" is not supported, only BPE is"));
  }
  const json& dropout = Member(model, "dropout");
  if (!dropout.is_null() && dropout.get<double>() != 0) {
    return absl::UnimplementedError("tokenizer.json: model.dropout is not supported");
  }
  p->model.byte_fallback = flag("byte_fallback");
  p->model.fuse_unk = flag("fuse_unk");
  p->model.ignore_merges = flag("ignore_merges");
  p->model.continuing_subword_prefix = text("continuing_subword_prefix");
  p->model.end_of_word_suffix = text("end_of_word_suffix");
  if (const std::string unk = text("unk_token"); !unk.empty()) {
    p->model.unk_id = vocabulary.Find(unk);
  }
  return absl::OkStatus();
}

absl::Status ReadAddedTokens(const json& list, const Vocabulary& vocabulary, Pipeline* p) {
  if (list.is_null()) return absl::OkStatus();
  for (const json& item : list) {
    AddedToken token;
    token.content = item.at("content").get<std::string>();
    if (token.content.empty()) continue;
    const auto flag = [&](const char* key, bool fallback) {
      const json& v = Member(item, key);
      return v.is_null() ? fallback : v.get<bool>();
    };
    token.special = flag("special", false);
    token.single_word = flag("single_word", false);
    token.lstrip = flag("lstrip", false);
    token.rstrip = flag("rstrip", false);
    token.normalized = flag("normalized", !token.special);
    const int64_t declared = item.at("id").get<int64_t>();
    if (absl::Status s = CheckId(declared, "added_tokens"); !s.ok()) return s;
    // The vocabulary's id holds where it has one, as in the reference.
    token.id = vocabulary.Find(token.content);
    if (token.id < 0) {
      token.id = static_cast<int32_t>(declared);
      if (static_cast<size_t>(declared) < p->spellings.size() && !p->spellings[declared].empty() &&
          p->spellings[declared] != token.content) {
        return Invalid(absl::StrCat("added_tokens: id ", declared, " is another token's"));
      }
      Place(declared, token.content, &p->spellings);
      p->outside_model.push_back(token.id);
    }
    p->added.push_back(std::move(token));
  }
  return absl::OkStatus();
}

/// A special token of tokenizer_config.json: a string, or an object with its content.
std::string SpecialToken(const json& config, const char* key) {
  const json& v = Member(config, key);
  if (v.is_string()) return v.get<std::string>();
  if (v.is_object() && Member(v, "content").is_string()) return v["content"].get<std::string>();
  return "";
}

json ParseOrEmpty(const std::string& text) {
  json parsed = engine::ParseJsonText(text);
  return parsed.is_object() ? parsed : json::object();
}

/// These classes of transformers put add_bos_token and add_eos_token in the place of the
/// post-processor.
bool ObeysAddBos(const json& config) {
  const json& name = Member(config, "tokenizer_class");
  if (!name.is_string()) return false;
  auto cls = name.get<std::string>();
  if (cls.size() > 4 && cls.substr(cls.size() - 4) == "Fast") cls.resize(cls.size() - 4);
  return cls == "LlamaTokenizer" || cls == "CodeLlamaTokenizer" || cls == "GemmaTokenizer" ||
         cls == "CohereTokenizer";
}

void ReadConfig(const engine::TokenizerFiles& files, Pipeline* p) {
  const json config = ParseOrEmpty(files.tokenizer_config_json);
  const json map = ParseOrEmpty(files.special_tokens_map_json);
  const auto find = [&](const char* key) {
    std::string spelling = SpecialToken(config, key);
    if (spelling.empty()) spelling = SpecialToken(map, key);
    for (const AddedToken& token : p->added) {
      if (!spelling.empty() && token.content == spelling) return token.id;
    }
    const auto it = std::find(p->spellings.begin(), p->spellings.end(), spelling);
    const bool found = !spelling.empty() && it != p->spellings.end();
    return found ? static_cast<int32_t>(it - p->spellings.begin()) : -1;
  };
  p->bos_id = find("bos_token");
  p->eos_id = find("eos_token");
  if (!ObeysAddBos(config)) return;
  const json& add_bos = Member(config, "add_bos_token");
  const json& add_eos = Member(config, "add_eos_token");
  if (add_bos.is_boolean()) {
    p->prefix.clear();
    if (add_bos.get<bool>() && p->bos_id >= 0) p->prefix.push_back(p->bos_id);
  }
  if (add_eos.is_boolean()) {
    p->suffix.clear();
    if (add_eos.get<bool>() && p->eos_id >= 0) p->suffix.push_back(p->eos_id);
  }
}

std::string KindOf(const Pipeline& p) {
  if (p.decoder.HasByteLevel()) return "byte-level BPE";
  return p.model.byte_fallback ? "SentencePiece BPE" : "BPE";
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const engine::TokenizerFiles& files) {
  absl::StatusOr<TokenizerFile> file = ReadTokenizerFile(files.tokenizer_json);
  if (!file.ok()) return file.status();
  const json& rest = file->rest;
  if (!rest.is_object() || !Member(rest, "model").is_object()) return Invalid("no model");

  Pipeline p;
  if (absl::Status s = ReadVocab(&*file, &p); !s.ok()) return s;
  const Vocabulary vocabulary(p.spellings);
  if (absl::Status s = ReadModel(rest["model"], vocabulary, &p); !s.ok()) return s;
  if (absl::Status s = ReadMerges(*file, vocabulary, &p); !s.ok()) return s;
  if (absl::Status s = ReadAddedTokens(Member(rest, "added_tokens"), vocabulary, &p); !s.ok())
    return s;

  // Where ByteLevel is the last thing before the model, its alphabet is skipped and the model works
  // on bytes.
  const std::vector<std::string> before = LeafTypes(Member(rest, "pre_tokenizer"));
  const std::vector<std::string> first = LeafTypes(Member(rest, "normalizer"));
  const bool mapped = std::count(first.begin(), first.end(), "ByteLevel") > 0;
  const bool last = !before.empty() && before.back() == "ByteLevel";
  const bool once = std::count(before.begin(), before.end(), "ByteLevel") == 1;
  p.model.bytes = last && once && !mapped && p.model.continuing_subword_prefix.empty() &&
                  p.model.end_of_word_suffix.empty() && !p.model.byte_fallback;
  p.byte_alphabet_text =
      !p.model.bytes && (mapped || std::count(before.begin(), before.end(), "ByteLevel") > 0);

  absl::StatusOr<std::unique_ptr<Normalizer>> normalizer =
      ReadNormalizer(Member(rest, "normalizer"));
  if (!normalizer.ok()) return normalizer.status();
  p.normalizer = *std::move(normalizer);
  absl::StatusOr<std::unique_ptr<PreTokenizer>> pre_tokenizer =
      ReadPreTokenizer(Member(rest, "pre_tokenizer"), !p.model.bytes);
  if (!pre_tokenizer.ok()) return pre_tokenizer.status();
  p.pre_tokenizer = *std::move(pre_tokenizer);
  absl::StatusOr<std::vector<DecodeStep>> steps = ReadDecoder(Member(rest, "decoder"));
  if (!steps.ok()) return steps.status();
  p.decoder = TokenDecoder(*std::move(steps));
  absl::StatusOr<AroundText> around = ReadPostProcessor(Member(rest, "post_processor"));
  if (!around.ok()) return around.status();
  p.prefix = std::move(around->prefix);
  p.suffix = std::move(around->suffix);
  ReadConfig(files, &p);
  p.kind = KindOf(p);
  return BuildTokenizer(std::move(p));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizerJson(const engine::TokenizerFiles& files) {
  try {
    return Load(files);
  } catch (const json::exception& e) {
    return Invalid(e.what());
  }
}

}  // namespace modu::text
