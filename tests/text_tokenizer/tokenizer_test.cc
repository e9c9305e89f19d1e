// What holds for every tokenizer: control tokens stay out of text, bytes come back, hostile files
// and texts are bounded.
#include "server/text/tokenizer.h"

#include <ctime>
#include <iterator>
#include <random>

#include "nlohmann/json.hpp"
#include "server/text/unicode.h"
#include "tests/shared_data.h"

namespace modu::text {
namespace {

using nlohmann::json;

json Fixture(const std::string& name) {
  const auto path =
      std::filesystem::path(MODU_SOURCE_DIR) / "tests/text_tokenizer/fixtures" / (name + ".json");
  return json::parse(tests::ReadWholeFile(path))["tokenizer"];
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Load(const json& file, const std::string& config = "") {
  engine::TokenizerFiles files;
  files.tokenizer_json = file.dump();
  files.tokenizer_config_json = config;
  return LoadTokenizer(files);
}

std::unique_ptr<Tokenizer> LoadFixture(const std::string& name) {
  auto tokenizer = Load(Fixture(name));
  INFO(name << ": " << tokenizer.status());
  REQUIRE(tokenizer.ok());
  return *std::move(tokenizer);
}

std::string Bytes(const Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                  bool skip_special = true) {
  std::string bytes;
  for (const int32_t id : ids) bytes += tokenizer.TokenBytes(id, skip_special);
  return bytes;
}

std::string RandomBytes(std::mt19937* random) {
  static const char* const kParts[] = {"a",        "bc ",     "  ",       "\n",   "안녕",
                                       "하세요 ",  "1234",    "\xED\x95", "\x9C", "\xFF",
                                       "\xF0\x9F", "e\u0301", "<s>",      "</s>", "<|sys|>",
                                       "<pad>",    "😁",      "'s",       ".",    "\xC0\x80"};
  std::string text;
  for (size_t n = (*random)() % 20; n > 0; --n) text += kParts[(*random)() % std::size(kParts)];
  return text;
}

TEST_CASE("byte-level tokenizers without a normalizer give every byte back", "[tokenizer]") {
  std::mt19937 random(5);
  for (const char* name : {"gpt2", "llama3-ignore-merges", "o200k"}) {
    const auto t = LoadFixture(name);
    for (int round = 0; round < 3000; ++round) {
      const std::string text = RandomBytes(&random);
      const auto ids = t->Encode(text, {}).value();
      INFO(name << " round " << round);
      REQUIRE(Bytes(*t, ids) == text);
    }
  }
}

TEST_CASE("text never becomes a control token unless it is asked to", "[tokenizer]") {
  std::mt19937 random(6);
  for (const char* name :
       {"gpt2", "llama3-ignore-merges", "qwen2-nfc", "llama-legacy", "metaspace-first-split"}) {
    const auto t = LoadFixture(name);
    for (int round = 0; round < 2000; ++round) {
      const std::string text = RandomBytes(&random);
      const std::vector<int32_t> ids = t->Encode(text, {}).value();
      for (const int32_t id : ids) {
        // The unknown token is control too, but no spelling asks for it.
        if (t->TokenSpelling(id) != "<unk>") REQUIRE(!t->IsControl(id));
      }
    }
  }
  const auto t = LoadFixture("gpt2");
  const int32_t bos = t->TokenToId("<s>");
  REQUIRE(t->IsControl(bos));
  CHECK(t->Encode("<s>", {false, true}).value() == std::vector<int32_t>{bos});
  CHECK(t->Encode("<s>", {}).value().size() > 1);
  CHECK(t->TokenBytes(bos).empty());
  CHECK(t->TokenBytes(bos, false) == "<s>");
}

TEST_CASE("more ids than asked for are refused, as many are given", "[tokenizer]") {
  std::mt19937 random(7);
  for (const char* name : {"gpt2", "qwen2-nfc", "llama-legacy", "metaspace-first-split"}) {
    const auto t = LoadFixture(name);
    for (int round = 0; round < 500; ++round) {
      const std::string text = RandomBytes(&random);
      const bool add_special = round % 2 == 0;
      const std::vector<int32_t> all = t->Encode(text, {add_special, false}).value();
      INFO(name << " round " << round);
      for (size_t max_ids = 1; max_ids < all.size(); ++max_ids) {
        REQUIRE(t->Encode(text, {add_special, false, max_ids}).status().code() ==
                absl::StatusCode::kOutOfRange);
      }
      if (!all.empty()) REQUIRE(t->Encode(text, {add_special, false, all.size()}).value() == all);
    }
  }
}

TEST_CASE("a vocabulary whose merges spell a control token does not give it for text",
          "[tokenizer]") {
  json file = {{"pre_tokenizer", nullptr},
               {"added_tokens", {{{"id", 3}, {"content", "ab"}, {"special", true}}}},
               {"model",
                {{"type", "BPE"},
                 {"ignore_merges", true},
                 {"vocab", {{"a", 0}, {"b", 1}, {"c", 2}, {"ab", 3}, {"abc", 4}}},
                 {"merges", {"a b", "ab c"}}}}};
  const auto t = Load(file);
  REQUIRE(t.ok());
  CHECK((*t)->Encode("ab", {}).value() == std::vector<int32_t>{0, 1});
  CHECK((*t)->Encode("ab", {false, true}).value() == std::vector<int32_t>{3});
}

TEST_CASE("ill-formed bytes become byte tokens where there are any", "[tokenizer]") {
  const auto t = LoadFixture("llama-legacy");
  const auto ids = t->Encode("a\xFF\xED\x95", {}).value();
  CHECK(Bytes(*t, ids) == " a\xFF\xED\x95");
  CHECK(t->TokenBytes(-1).empty());
  CHECK(t->TokenBytes(1 << 20).empty());
  CHECK(t->TokenSpelling(1 << 20).empty());
  CHECK(t->TokenToId("no such token") == -1);
}

TEST_CASE("a piece of a megabyte merges in linearithmic time", "[tokenizer]") {
  const auto timed = [](const char* name, const std::string& text) {
    const auto t = LoadFixture(name);
    const std::clock_t start = std::clock();  // the processor's time: a busy machine takes none
    const auto ids = t->Encode(text, {});
    const std::clock_t time = std::clock() - start;
    INFO(name);
    CHECK(ids.ok());
    CHECK(time < 5 * CLOCKS_PER_SEC);  // well under one; quadratic would be an hour
    return ids.value();
  };
  std::string sentence, marks, joiners;
  while (sentence.size() < (1u << 20)) sentence += "모두를 위한 언어 모델 ";
  while (marks.size() < (1u << 20)) marks += "\u0301\u0323";
  while (joiners.size() < (1u << 20)) joiners += "\u200d\u202e\ue000";
  const std::string letters(1 << 20, 'a'), spaces(1 << 20, ' ');
  for (const auto& text : {sentence, marks, joiners, letters, spaces}) {
    timed("k-exaone-nfc", text);
    timed("llama-legacy", text);
    timed("digits-nfkc-flags", text);
    timed("kimi-intersection", text);
    timed("gpt2-prefix-space-flags", text);
  }
}

TEST_CASE("wrong files are named errors", "[tokenizer]") {
  const auto error = [](const json& file) {
    const auto t = Load(file);
    CHECK(!t.ok());
    return std::string(t.status().message());
  };
  const json sound = Fixture("gpt2");
  json file = sound;
  file["normalizer"] = {{"type", "Precompiled"}};
  CHECK(error(file) == "tokenizer.json: normalizer \"Precompiled\" is not supported");
  file = sound;
  file["pre_tokenizer"] = {{"type", "UnicodeScripts"}};
  CHECK(error(file) == "tokenizer.json: pre-tokenizer \"UnicodeScripts\" is not supported");
  file = sound;
  file["decoder"] = {{"type", "CTC"}};
  CHECK(error(file) == "tokenizer.json: decoder \"CTC\" is not supported");
  file = sound;
  file["post_processor"] = {{"type", "New"}};
  CHECK(error(file) == "tokenizer.json: post-processor \"New\" is not supported");
  file = sound;
  file["model"] = {{"type", "Unigram"}, {"vocab", json::array()}};
  CHECK(error(file).find("Unigram") != std::string::npos);
  file = sound;
  file["model"]["merges"].push_back({"no", "such"});
  CHECK(error(file).find("is not in model.vocab") != std::string::npos);
  file = sound;
  file["model"]["merges"].push_back("one");
  CHECK(error(file).find("is not two tokens") != std::string::npos);
  file = sound;
  file["model"]["vocab"]["far"] = 1 << 30;
  CHECK(error(file).find("is not in 0 to") != std::string::npos);
  file = sound;
  file["model"]["vocab"]["below"] = -1;
  CHECK(error(file).find("is not in 0 to") != std::string::npos);
  file = sound;
  file["added_tokens"].push_back({{"id", 5}, {"content", "another's id"}});
  CHECK(error(file).find("another token's") != std::string::npos);
  file = sound;
  file["added_tokens"] = 3;
  CHECK(!error(file).empty());
  CHECK(!error(json("text")).empty());
  CHECK(!error(json::array()).empty());
  engine::TokenizerFiles deep;
  deep.tokenizer_json = "{\"normalizer\":" + std::string(100000, '[');
  CHECK(!LoadTokenizer(deep).ok());
  engine::TokenizerFiles cut;
  cut.tokenizer_json = sound.dump() + std::string(1, '\0');
  CHECK(
      std::string(LoadTokenizer(cut).status().message()).find("tokenizer.json: not JSON at byte") ==
      0);
  CHECK(LoadTokenizer({}).status().code() == absl::StatusCode::kNotFound);
}

TEST_CASE("an expression that explodes ends in an error, not in a hang", "[tokenizer]") {
  json file = Fixture("gpt2");
  file["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"Regex", "(a+)+$"}}}, {"behavior", "Isolated"}};
  const auto t = Load(file);
  REQUIRE(t.ok());
  CHECK((*t)->Encode(std::string(60, 'a') + "b", {}).status().code() ==
        absl::StatusCode::kInvalidArgument);
}

TEST_CASE("ids may have gaps, and many merges load in linear time", "[tokenizer]") {
  json vocab, merges = json::array();
  const std::string letters = "abcdefghijklmnopqrstuvwxyz0123456789";
  int id = 0;
  for (const char c : letters) vocab[std::string(1, c)] = (id++) * 2;
  for (const char a : letters) {
    for (const char b : letters) {
      vocab[std::string{a, b}] = 1000 + (id++) * 3;
      merges.push_back({std::string(1, a), std::string(1, b)});
    }
  }
  for (int i = 0; i < 200000; ++i) merges.push_back(merges[i % 1296]);
  const json file = {{"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
  const auto t = Load(file);
  REQUIRE(t.ok());
  const auto ids = (*t)->Encode("ab", {}).value();
  REQUIRE(ids.size() == 1);
  CHECK((*t)->TokenSpelling(ids[0]) == "ab");
  CHECK((*t)->TokenSpelling(1).empty());
}

TEST_CASE("tokenizer_config.json says the special ids and, for Llama's class, what is added",
          "[tokenizer]") {
  const json file = Fixture("llama-legacy");
  const auto ids = [&](const char* config) {
    const auto t = Load(file, config);
    REQUIRE(t.ok());
    return (*t)->Encode("", {true, false}).value();
  };
  CHECK(ids("") == std::vector<int32_t>{1, 2});
  CHECK(
      ids(R"({"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>", "eos_token": {"content": "</s>"},
                "add_bos_token": true, "add_eos_token": false})") == std::vector<int32_t>{1});
  CHECK(ids(R"({"tokenizer_class": "GPT2Tokenizer", "bos_token": "<s>", "add_bos_token": true})") ==
        std::vector<int32_t>{1, 2});
  const auto t = Load(file, R"({"bos_token": "<s>", "eos_token": {"content": "</s>"}})");
  REQUIRE(t.ok());
  CHECK((*t)->bos_id() == 1);
  CHECK((*t)->eos_id() == 2);
}

engine::TokenizerFiles ByteLevelGguf() {
  engine::TokenizerFiles files;
  const json model = Fixture("gpt2")["model"];
  files.from_gguf = true;
  files.model = "gpt2";
  files.pre = "gpt-2";
  files.tokens.resize(model["vocab"].size());
  for (const auto& [token, id] : model["vocab"].items()) files.tokens[id.get<size_t>()] = token;
  for (const json& merge : model["merges"]) {
    files.merges.push_back(merge[0].get<std::string>() + " " + merge[1].get<std::string>());
  }
  files.token_types.assign(files.tokens.size(), 1);
  files.token_types[0] = files.token_types[1] = 3;
  files.bos_id = 0;
  files.eos_id = 1;
  return files;
}

TEST_CASE("a GGUF byte-level vocabulary gives what its tokenizer.json gives", "[gguf]") {
  const auto expected = LoadFixture("gpt2");
  engine::TokenizerFiles files = ByteLevelGguf();
  auto t = LoadTokenizer(files);
  REQUIRE(t.ok());
  std::mt19937 random(9);
  for (int round = 0; round < 2000; ++round) {
    const std::string text = RandomBytes(&random);
    const bool parse = round % 2 == 0;
    REQUIRE((*t)->Encode(text, {false, parse}).value() ==
            expected->Encode(text, {false, parse}).value());
  }
  CHECK((*t)->Encode("", {true, false}).value().empty());
  files.add_bos = files.add_eos = true;
  CHECK((*LoadTokenizer(files))->Encode("", {true, false}).value() == std::vector<int32_t>{0, 1});
  for (const char* pre :
       {"",         "default",     "llama-bpe",    "smollm",      "qwen2",          "exaone",
        "exaone4",  "exaone-moe",  "solar-open",   "a.x-4.0",     "midm-2.0",       "kanana2",
        "trillion", "hyperclovax", "deepseek-llm", "deepseek-v3", "deepseek-coder", "command-r",
        "refact",   "starcoder",   "falcon",       "tekken",      "viking",         "bloom"}) {
    files.pre = pre;
    const auto known = LoadTokenizer(files);
    INFO(pre << ": " << known.status());
    REQUIRE(known.ok());
    const std::string text = "안녕 hello, world 12345!\n\n  x";
    CHECK(Bytes(**known, (*known)->Encode(text, {}).value()) == text);
  }
}

TEST_CASE("broken GGUF metadata are named errors", "[gguf]") {
  engine::TokenizerFiles files = ByteLevelGguf();
  files.pre = "unheard-of";
  CHECK(LoadTokenizer(files).status().message() ==
        "GGUF: tokenizer.ggml.pre \"unheard-of\" is not supported");
  files = ByteLevelGguf();
  files.model = "rwkv";
  CHECK(LoadTokenizer(files).status().message() ==
        "GGUF: tokenizer.ggml.model \"rwkv\" is not supported");
  files = ByteLevelGguf();
  files.token_types.pop_back();
  CHECK(!LoadTokenizer(files).ok());
  files = ByteLevelGguf();
  files.model = "llama";
  CHECK(LoadTokenizer(files).status().message() ==
        "GGUF: tokenizer.ggml.scores: not one for each token");
  files = ByteLevelGguf();
  files.merges.push_back("alone");
  CHECK(!LoadTokenizer(files).ok());
  files.tokens.clear();
  CHECK(LoadTokenizer(files).status().code() == absl::StatusCode::kNotFound);
}

TEST_CASE("SentencePiece scores decide which merge comes first", "[gguf]") {
  engine::TokenizerFiles files;
  files.from_gguf = true;
  files.model = "llama";
  files.tokens = {"<unk>", "<s>", "</s>", "a", "b", "c", "ab", "bc", "\u2581", "\u2581a"};
  files.scores = {0, 0, 0, -1, -1, -1, -3, -2, -1, -4};
  files.token_types = {2, 3, 3, 1, 1, 1, 1, 1, 1, 1};
  files.bos_id = 1;
  files.unk_id = 0;
  auto t = LoadTokenizer(files);
  REQUIRE(t.ok());
  CHECK((*t)->Encode("abc", {}).value() == std::vector<int32_t>{9, 7});
  CHECK((*t)->Encode("abc", {true, false}).value() == std::vector<int32_t>{1, 9, 7});
  CHECK((*t)->Encode("d", {}).value() == std::vector<int32_t>{8, 0});
  CHECK((*t)->Decode({9, 7}) == "abc");
  CHECK((*t)->TokenBytes(9) == " a");
  files.add_space_prefix = false;
  CHECK((*LoadTokenizer(files))->Encode("abc", {}).value() == std::vector<int32_t>{3, 7});
  files.scores[6] = -2;  // equal to "bc": the left one first
  CHECK((*LoadTokenizer(files))->Encode("abc", {}).value() == std::vector<int32_t>{6, 5});
}

}  // namespace
}  // namespace modu::text
