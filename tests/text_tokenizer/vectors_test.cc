// The reference implementations' golden ids: Hugging Face's Rust tokenizers for each family,
// llama.cpp's for GGUF.
#include <cstdlib>
#include <sstream>

#include "engine/checkpoint/checkpoint.h"
#include "nlohmann/json.hpp"
#include "server/text/tokenizer.h"
#include "tests/shared_data.h"

namespace modu::text {
namespace {

using nlohmann::json;
using tests::HaveSharedData;
using tests::ReadWholeFile;
using tests::SharedData;

std::unique_ptr<Tokenizer> FromJson(const std::filesystem::path& path) {
  engine::TokenizerFiles files;
  files.tokenizer_json = ReadWholeFile(path);
  auto tokenizer = LoadTokenizer(files);
  INFO(path.filename() << ": " << tokenizer.status());
  REQUIRE(tokenizer.ok());
  return *std::move(tokenizer);
}

std::vector<int32_t> Ids(const Tokenizer& tokenizer, std::string_view text,
                         const EncodeOptions& options) {
  auto ids = tokenizer.Encode(text, options);
  INFO(ids.status());
  REQUIRE(ids.ok());
  return *ids;
}

TEST_CASE("tokenizer.json files agree with the reference on every vector", "[vectors]") {
  const std::string family =
      GENERATE(as<std::string>{}, "eeve-korean-10.8b", "exaone-3.5", "exaone-4.0-1.2b",
               "llama-3.1-8b-instruct", "mistral-7b-v0.1", "qwen2.5-14b", "smollm2-1.7b");
  const auto path = SharedData("models/vectors/" + family + ".json");
  if (!HaveSharedData(path)) return;
  const json vectors = json::parse(ReadWholeFile(path));
  const auto tokenizer = FromJson(SharedData("models/" + vectors["tokenizer"].get<std::string>()));
  for (const json& c : vectors["cases"]) {
    const auto text = c["text"].get<std::string>();
    INFO(family << ": " << c.dump());
    const auto expected = c["ids"].get<std::vector<int32_t>>();
    CHECK(Ids(*tokenizer, text, {false, true}) == expected);
    CHECK(tokenizer->Decode(expected, false) == c["decoded"].get<std::string>());
    if (c.contains("ids_with_special")) {
      CHECK(Ids(*tokenizer, text, {true, true}) ==
            c["ids_with_special"].get<std::vector<int32_t>>());
    }
  }
}

TEST_CASE("merges as lists and as strings are one tokenizer", "[vectors]") {
  const auto path = SharedData("models/qwen2.5-14b/tokenizer.list-merges.json");
  if (!HaveSharedData(path)) return;
  const auto lists = FromJson(path);
  const json vectors = json::parse(ReadWholeFile(SharedData("models/vectors/qwen2.5-14b.json")));
  for (const json& c : vectors["cases"]) {
    CHECK(Ids(*lists, c["text"].get<std::string>(), {false, true}) ==
          c["ids"].get<std::vector<int32_t>>());
  }
}

/// llama.cpp's own cases: texts between marker lines, and a line of ids for each.
void CheckLlamaCpp(const Tokenizer& tokenizer, const std::string& name) {
  const std::string input = ReadWholeFile(SharedData("models/vectors/llama.cpp/" + name + ".inp"));
  std::istringstream outputs(
      ReadWholeFile(SharedData("models/vectors/llama.cpp/" + name + ".out")));
  const std::string marker = "\n__ggml_vocab_test__\n";
  size_t pos = 0, cases = 0;
  while (pos <= input.size()) {
    const size_t end = std::min(input.find(marker, pos), input.size());
    const std::string text = input.substr(pos, end - pos);
    std::string line;
    if (!std::getline(outputs, line)) break;
    std::istringstream numbers(line);
    std::vector<int32_t> expected;
    for (int32_t id = 0; numbers >> id;) expected.push_back(id);
    INFO(name << " case " << cases << ": " << json(text).dump());
    CHECK(Ids(tokenizer, text, {false, false}) == expected);
    ++cases;
    pos = end + marker.size();
  }
  CHECK(cases > 40);
}

TEST_CASE("llama.cpp's cases pass on its SentencePiece vocabulary", "[vectors]") {
  const auto path = SharedData("models/vectors/llama.cpp/ggml-vocab-llama-spm.gguf");
  if (!HaveSharedData(path)) return;
  auto files = engine::ReadTokenizerFiles(path.string());
  INFO(files.status());
  REQUIRE(files.ok());
  auto tokenizer = LoadTokenizer(*files);
  INFO(tokenizer.status());
  REQUIRE(tokenizer.ok());
  CHECK((*tokenizer)->kind() == "SentencePiece BPE");
  CHECK((*tokenizer)->bos_id() == 1);
  CheckLlamaCpp(**tokenizer, "ggml-vocab-llama-spm.gguf");
}

TEST_CASE("llama.cpp's cases pass on the Llama 3 tokenizer.json", "[vectors]") {
  const auto path = SharedData("models/llama-3.1-8b-instruct/tokenizer.json");
  if (!HaveSharedData(path)) return;
  CheckLlamaCpp(*FromJson(path), "ggml-vocab-llama-bpe.gguf");
}

/// The default model's file, where it has been fetched.
std::filesystem::path DefaultModel() {
  const char* home = std::getenv("MODU_HOME");
  const char* user = std::getenv("HOME");
  const std::filesystem::path base =
      home != nullptr ? std::filesystem::path(home)
                      : std::filesystem::path(user != nullptr ? user : ".") / ".cache" / "modu";
  return base / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf";
}

TEST_CASE("the default model's GGUF tokenizes as its tokenizer.json does", "[vectors]") {
  const auto path = SharedData("models/vectors/smollm2-1.7b.json");
  if (!HaveSharedData(path)) return;
  if (!std::filesystem::exists(DefaultModel())) {
    WARN("skipped: the default model is not here");
    return;
  }
  auto files = engine::ReadTokenizerFiles(DefaultModel().string());
  INFO(files.status());
  REQUIRE(files.ok());
  auto tokenizer = LoadTokenizer(*files);
  INFO(tokenizer.status());
  REQUIRE(tokenizer.ok());
  const Tokenizer& t = **tokenizer;
  CHECK(t.vocab_size() == 49152);
  CHECK(t.TokenToId("<|im_end|>") == t.eos_id());
  CHECK(t.IsControl(t.eos_id()));
  const json vectors = json::parse(ReadWholeFile(path));
  for (const json& c : vectors["cases"]) {
    INFO(c.dump());
    const auto expected = c["ids"].get<std::vector<int32_t>>();
    CHECK(Ids(t, c["text"].get<std::string>(), {false, true}) == expected);
    CHECK(t.Decode(expected, false) == c["decoded"].get<std::string>());
  }
}

}  // namespace
}  // namespace modu::text
