#include "server/text/gguf_pre_tokenizers.h"

#include <map>

#include "server/text/splitters.h"

namespace modu::text {
namespace {

constexpr char kDigit[] = R"(\p{N})";
constexpr char kDigitRun[] = R"(\p{N}+)";
constexpr char kThreeDigits[] = "[0-9][0-9][0-9]";
constexpr char kPunctuationRun[] = R"([\p{P}\$\+<=>\^~\|]+)";
constexpr char kFalconPunctuation[] = R"([\p{P}\$\+<=>\^~\|`]+)";
constexpr char kCjkRun[] = "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+";
// DeepSeek V3's and HyperCLOVA X Think's third expression.
constexpr char kDeepSeekWords[] =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kTekken[] =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kSeedCoder[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kBloom[] = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+";

using Table = std::map<std::string_view, GgufPreTokenizer>;

Table BuildTable() {
  const GgufPreTokenizer gpt2{{kGpt2Regex}};
  const GgufPreTokenizer digits_gpt2{{kDigit, kGpt2Regex}};
  const GgufPreTokenizer llama3{{kLlama3Regex}, {}, true, true};
  const GgufPreTokenizer cl100k{{kLlama3Regex}};
  const GgufPreTokenizer qwen2{{kQwen2Regex}, NormalForm::kNfc};
  const GgufPreTokenizer o200k{{kO200kRegex}};
  const GgufPreTokenizer bloom{{kBloom}};
  Table table;
  const auto add = [&](std::initializer_list<std::string_view> names,
                       const GgufPreTokenizer& what) {
    for (const std::string_view name : names) table[name] = what;
  };
  add({"", "default"}, {{kPunctuationRun, kGpt2Regex, kDigitRun, kThreeDigits}});
  add({"gpt-2", "phi-2", "mpt", "olmo", "jais", "jina-es", "jina-de", "jina-v1-en", "jina-v2-es",
       "jina-v2-de", "gigachat", "a.x-4.0", "mellum", "exaone4", "trillion", "granite-docling",
       "roberta-bpe", "modern-bert"},
      gpt2);
  add({"smollm", "starcoder", "refact", "command-r", "codeshell", "minerva-7b"}, digits_gpt2);
  add({"exaone"}, {{kDigit, kGpt2Regex}, NormalForm::kNfkc});
  add({"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"},
      llama3);
  add({"dbrx", "smaug-bpe", "glm4", "chatglm-bpe", "jina-v2-code"}, cl100k);
  add({"qwen2", "deepseek-r1-qwen", "megrez", "stablelm2", "hunyuan", "solar-open", "kormo"},
      qwen2);
  table["stablelm2"].normal_form.reset();
  table["hunyuan"].normal_form.reset();
  table["solar-open"].normal_form.reset();
  table["kormo"].normal_form.reset();
  add({"gpt-4o", "llama4", "kanana2"}, o200k);
  add({"exaone-moe"}, {{kKExaoneRegex}, NormalForm::kNfc});
  add({"deepseek-v3", "hunyuan-dense"}, {{R"(\p{N}{1,3})", kCjkRun, kDeepSeekWords}});
  add({"hyperclovax"}, {{kDigit, kCjkRun, kDeepSeekWords}});
  add({"falcon"}, {{kFalconPunctuation, kGpt2Regex, kThreeDigits}});
  add({"tekken"}, {{kTekken}, {}, true, true});
  add({"seed-coder"}, {{kSeedCoder}});
  add({"bloom", "poro-chat", "gpt3-finnish"}, bloom);
  add({"viking"}, {{kBloom, kDigit}});
  add({"deepseek-coder"},
      {{"[\r\n]", R"(\s?\p{L}+)", R"(\s?\p{P}+)",
        "[\\x{4e00}-\\x{9fa5}\\x{0800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+", kDigit}});
  // The file's letters are those with case; its last range, of CJK and Hangul, is spelled by end
  // points.
  add({"deepseek-llm"},
      {{"[\r\n]", R"(\s?[\p{Lu}\p{Ll}\p{Lt}]+)",
        "\\s?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+",
        R"(\s+\z)", "[\\x{4e00}-\\x{9fa5}\\x{0800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+", kDigitRun}});
  return table;
}

}  // namespace

const GgufPreTokenizer* FindGgufPreTokenizer(std::string_view name) {
  static const Table table = BuildTable();
  const auto it = table.find(name);
  return it == table.end() ? nullptr : &it->second;
}

}  // namespace modu::text
