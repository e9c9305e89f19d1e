#include "server/cli/tokenize_command.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/catch.h"

namespace modu::cli {
namespace {

// Bytes a, b, c and a space in the byte alphabet, one merge, a control token.
constexpr char kTokenizer[] = R"({
  "added_tokens": [{"id": 5, "content": "<s>", "special": true}],
  "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false},
  "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
    {"Sequence": {"id": "A", "type_id": 0}}], "special_tokens": {"<s>": {"id": "<s>", "ids": [5], "tokens": ["<s>"]}}},
  "decoder": {"type": "ByteLevel"},
  "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "c": 2, "\u0120": 3, "ab": 4}, "merges": [["a", "b"]]}})";

class TokenizerFile {
 public:
  TokenizerFile() : folder_(std::filesystem::temp_directory_path() / "modu_cli_tokenize_test") {
    std::filesystem::create_directories(folder_);
    std::ofstream(folder_ / "tokenizer.json") << kTokenizer;
  }
  ~TokenizerFile() { std::filesystem::remove_all(folder_); }
  std::string path() const { return (folder_ / "tokenizer.json").string(); }
  std::string folder() const { return folder_.string(); }

 private:
  std::filesystem::path folder_;
};

TEST_CASE("texts become ids and ids become texts", "[cli]") {
  const TokenizerFile file;
  std::istringstream in(R"(["abc ab", "", "<s>c"])");
  std::ostringstream out;
  REQUIRE(Tokenize({file.path()}, in, out).ok());
  CHECK(out.str() == "[[4,2,3,4],[],[2]]\n");  // of "<s>" there are no bytes in this vocabulary

  std::istringstream specials(R"(["<s>c"])");
  std::ostringstream with_special;
  REQUIRE(
      Tokenize({"--add-special", file.folder(), "--parse-special"}, specials, with_special).ok());
  CHECK(with_special.str() == "[[5,5,2]]\n");

  std::istringstream ids("[[4,2,3,4],[],[5]]");
  std::ostringstream texts;
  REQUIRE(Detokenize({file.path()}, ids, texts).ok());
  CHECK(texts.str() == "[\"abc ab\",\"\",\"<s>\"]\n");
}

TEST_CASE("wrong input is named", "[cli]") {
  const TokenizerFile file;
  const auto tokenize = [&](const std::vector<std::string>& arguments, const char* input) {
    std::istringstream in(input);
    std::ostringstream out;
    const absl::Status status = Tokenize(arguments, in, out);
    CHECK(out.str().empty());
    return std::string(status.message());
  };
  CHECK(tokenize({}, "[]").find("usage") == 0);
  CHECK(tokenize({file.path(), "--wrong"}, "[]").find("unknown flag --wrong\nusage") == 0);
  CHECK(tokenize({file.path(), "more"}, "[]").find("unexpected \"more\"\nusage") == 0);
  CHECK(tokenize({file.path()}, "{}") == "stdin: not a JSON array");
  CHECK(tokenize({file.path()}, "[\"a\",]") == "stdin: not JSON, at byte 6");
  CHECK(tokenize({file.path()}, "[\"\\ud800\"]").rfind("stdin: not JSON, at byte", 0) == 0);
  CHECK(tokenize({file.path()}, "[1e999]") == "stdin: not JSON, a number is out of range");
  CHECK(tokenize({file.path()}, "").rfind("stdin: not JSON", 0) == 0);
  CHECK(tokenize({file.path()}, "[\"a\", 1]") == "stdin[1]: not a string");
  CHECK(!tokenize({file.path() + ".missing"}, "[]").empty());

  std::istringstream in("[[0, 6]]");
  std::ostringstream out;
  const absl::Status status = Detokenize({file.path()}, in, out);
  CHECK(status.message() == "stdin[0]: 6 is not a token id, 0 to 5");
  for (const auto& [arguments, said] :
       {std::pair<std::vector<std::string>, std::string>{{file.path(), "--x"},
                                                         "unknown flag --x\n"},
        {{file.path(), file.path()}, "unexpected \"" + file.path() + "\"\n"},
        {{}, ""}}) {
    CHECK(std::string(Detokenize(arguments, in, out).message()).find(said + "usage") == 0);
  }
}

}  // namespace
}  // namespace modu::cli
