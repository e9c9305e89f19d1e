#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/text/gguf_pre_tokenizers.h"
#include "server/text/pipeline_tokenizer.h"

namespace modu::text {
namespace {

using engine::TokenizerFiles;

constexpr size_t kMaxTokens = 4'000'000;
constexpr size_t kMaxMergedBytes =
    512;  // a SentencePiece token longer than this is reached by no merge
constexpr char kMetaspace[] = "\xE2\x96\x81";

enum TokenType {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

int TypeOf(const TokenizerFiles& files, size_t id) {
  return files.token_types.empty() ? kNormal : files.token_types[id];
}

/// The types say which tokens are found whole in a text, and which of them only where control
/// tokens are asked for.
void ReadTypes(const TokenizerFiles& files, Pipeline* p) {
  for (size_t id = 0; id < files.tokens.size(); ++id) {
    const int type = TypeOf(files, id);
    if (type != kUnknown && type != kControl && type != kUserDefined) continue;
    AddedToken token;
    token.id = static_cast<int32_t>(id);
    token.content = files.tokens[id];
    token.special = type != kUserDefined;
    if (!token.content.empty()) p->added.push_back(std::move(token));
  }
}

int32_t InRange(int32_t id, const TokenizerFiles& files) {
  return id >= 0 && static_cast<size_t>(id) < files.tokens.size() ? id : -1;
}

void ReadSpecials(const TokenizerFiles& files, bool add_bos, Pipeline* p) {
  p->bos_id = InRange(files.bos_id, files);
  p->eos_id = InRange(files.eos_id, files);
  if (files.add_bos.value_or(add_bos) && p->bos_id >= 0) p->prefix.push_back(p->bos_id);
  if (files.add_eos.value_or(false) && p->eos_id >= 0) p->suffix.push_back(p->eos_id);
}

absl::Status ReadByteLevel(const TokenizerFiles& files, Pipeline* p) {
  const GgufPreTokenizer* pre = FindGgufPreTokenizer(files.pre);
  if (pre == nullptr) {
    return absl::UnimplementedError(
        absl::StrCat("GGUF: tokenizer.ggml.pre \"", files.pre, "\" is not supported"));
  }
  std::vector<std::unique_ptr<PreTokenizer>> parts;
  for (const std::string_view expression : pre->expressions) {
    absl::StatusOr<Matcher> matcher = Matcher::Expression(expression);
    if (!matcher.ok()) return matcher.status();
    parts.push_back(MakeSplit(*std::move(matcher), SplitBehavior::kIsolated, false));
  }
  p->pre_tokenizer = MakePreTokenizerSequence(std::move(parts));
  if (pre->normal_form) p->normalizer = MakeUnicodeForm(*pre->normal_form);
  p->model.bytes = true;
  p->model.ignore_merges = pre->ignore_merges;

  const Vocabulary vocabulary(files.tokens);
  p->merges.reserve(files.merges.size());
  for (size_t i = 0; i < files.merges.size(); ++i) {
    const std::string& line = files.merges[i];
    const size_t space = line.find(' ', 1);
    if (space == std::string::npos || space + 1 == line.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("GGUF: tokenizer.ggml.merges[", i, "] is not two tokens"));
    }
    const std::string left = line.substr(0, space), right = line.substr(space + 1);
    const Merge merge{vocabulary.Find(left), vocabulary.Find(right), static_cast<uint32_t>(i),
                      vocabulary.Find(left + right)};
    // Some files keep merges of tokens that were cut from their vocabulary.
    if (merge.left >= 0 && merge.right >= 0 && merge.id >= 0) p->merges.push_back(merge);
  }
  std::vector<DecodeStep> steps(1);
  steps[0].kind = DecodeStep::Kind::kByteLevel;
  p->decoder = TokenDecoder(std::move(steps));
  p->kind = "byte-level BPE";
  ReadSpecials(files, pre->add_bos, p);
  return absl::OkStatus();
}

/// Two neighbours merge where their concatenation is a token; the better its score the earlier,
/// equals leftmost first.
absl::Status ReadScoredMerges(const TokenizerFiles& files, Pipeline* p) {
  if (files.scores.size() != files.tokens.size()) {
    return absl::InvalidArgumentError("GGUF: tokenizer.ggml.scores: not one for each token");
  }
  std::vector<float> order = files.scores;
  for (const float score : order) {
    if (std::isnan(score)) return absl::InvalidArgumentError("GGUF: tokenizer.ggml.scores: NaN");
  }
  std::sort(order.begin(), order.end(), std::greater<>());
  order.erase(std::unique(order.begin(), order.end()), order.end());
  const Vocabulary vocabulary(files.tokens);
  for (size_t id = 0; id < files.tokens.size(); ++id) {
    const int type = TypeOf(files, id);
    const std::string_view token = files.tokens[id];
    if (type == kUnknown || type == kControl || type == kByte || token.size() > kMaxMergedBytes) {
      continue;
    }
    const auto rank =
        std::lower_bound(order.begin(), order.end(), files.scores[id], std::greater<>()) -
        order.begin();
    for (size_t cut = 1; cut < token.size(); ++cut) {
      if ((static_cast<unsigned char>(token[cut]) & 0xC0) == 0x80) continue;
      const Merge merge{vocabulary.Find(token.substr(0, cut)), vocabulary.Find(token.substr(cut)),
                        static_cast<uint32_t>(rank), vocabulary.Find(token)};
      if (merge.left >= 0 && merge.right >= 0) p->merges.push_back(merge);
    }
  }
  return absl::OkStatus();
}

absl::Status ReadSentencePiece(const TokenizerFiles& files, Pipeline* p) {
  if (absl::Status s = ReadScoredMerges(files, p); !s.ok()) return s;
  p->model.byte_fallback = true;
  p->model.unk_id = InRange(files.unk_id, files);
  const bool space_prefix = files.add_space_prefix.value_or(true);
  std::vector<std::unique_ptr<Normalizer>> parts;
  if (space_prefix) parts.push_back(MakePrepend(kMetaspace));
  parts.push_back(MakeReplace(Matcher::Literal(" "), kMetaspace));
  p->normalizer = MakeNormalizerSequence(std::move(parts));

  std::vector<DecodeStep> steps(3);
  steps[0].kind = DecodeStep::Kind::kReplace;
  steps[0].pattern = Matcher::Literal(kMetaspace);
  steps[0].content = " ";
  steps[1].kind = DecodeStep::Kind::kByteFallback;
  steps[2].kind = DecodeStep::Kind::kFuse;
  if (space_prefix) {
    DecodeStep strip;
    strip.kind = DecodeStep::Kind::kStrip;
    strip.content = " ";
    strip.start = 1;
    steps.push_back(std::move(strip));
  }
  p->decoder = TokenDecoder(std::move(steps));
  p->kind = "SentencePiece BPE";
  ReadSpecials(files, /*add_bos=*/true, p);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadGgufTokenizer(const TokenizerFiles& files) {
  if (files.tokens.empty()) return absl::NotFoundError("GGUF: no tokenizer.ggml.tokens");
  if (files.tokens.size() > kMaxTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("GGUF: tokenizer.ggml.tokens: more than ", kMaxTokens));
  }
  if (!files.token_types.empty() && files.token_types.size() != files.tokens.size()) {
    return absl::InvalidArgumentError("GGUF: tokenizer.ggml.token_type: not one for each token");
  }
  Pipeline p;
  p.spellings = files.tokens;
  ReadTypes(files, &p);
  absl::Status read;
  if (files.model == "gpt2") {
    read = ReadByteLevel(files, &p);
  } else if (files.model == "llama") {
    read = ReadSentencePiece(files, &p);
  } else {
    read = absl::UnimplementedError(
        absl::StrCat("GGUF: tokenizer.ggml.model \"", files.model, "\" is not supported"));
  }
  if (!read.ok()) return read;
  return BuildTokenizer(std::move(p));
}

}  // namespace modu::text
