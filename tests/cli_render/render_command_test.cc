#include "server/cli/render_command.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "nlohmann/json.hpp"
#include "server/text/chat_template_source.h"
#include "tests/catch.h"

using modu::cli::Render;
namespace fs = std::filesystem;

namespace {

struct Folder {
  Folder() : path(fs::temp_directory_path() / ("modu-render-" + std::to_string(getpid()))) {
    fs::create_directories(path);
  }
  ~Folder() { fs::remove_all(path); }
  void Write(const std::string& name, const std::string& text) const {
    std::ofstream(path / name) << text;
  }
  fs::path path;
};

std::string Run(const std::vector<std::string>& arguments, const std::string& input) {
  std::istringstream in(input);
  std::ostringstream out;
  const absl::Status status = Render(arguments, in, out);
  return status.ok() ? out.str() : "error: " + std::string(status.message());
}

}  // namespace

TEST_CASE("a template file, with tokens and a time from the command line") {
  const Folder folder;
  folder.Write("t.jinja",
               "{{ bos_token }}{{ strftime_now('%Y-%m-%d %H:%M') }}{% for m in messages %}{{ "
               "m.content }}{% endfor %}{{ eos_token }}{{ tools is none }}");
  const std::string file = folder.path / "t.jinja";
  const std::string input =
      R"([{"messages":[{"role":"user","content":"안녕 \"a\""}]},{"messages":[],"tools":[]}])";
  CHECK(Run({file, "--bos-token", "<s>", "--eos-token=</s>", "--now", "2025-07-26T12:34:00Z"},
            input) ==
        "[\"<s>2025-07-26 12:34안녕 \\\"a\\\"</s>True\",\"<s>2025-07-26 12:34</s>False\"]\n");
  CHECK(Run({file, "--now", "yesterday"}, "[]").rfind("error: --now", 0) == 0);
  CHECK(Run({file, "--nope"}, "[]").rfind("error: usage", 0) == 0);
  CHECK(Run({}, "[]").rfind("error: usage", 0) == 0);
  CHECK(Run({file}, "{}") == "error: stdin: not a JSON array");
  CHECK(Run({file}, std::string("[]\0[", 4)) == "error: stdin: not JSON, at byte 3");
  CHECK(Run({file}, "[1]") == "error: stdin[0]: not an object");
  CHECK(Run({file + ".none"}, "[]").find(".none") != std::string::npos);
}

TEST_CASE("a folder: where the template and the tokens come from") {
  const Folder folder;
  CHECK(Run({folder.path}, "[{}]").rfind("error: ", 0) == 0);
  folder.Write(
      "tokenizer_config.json",
      R"({"bos_token":{"content":"<b>"},"chat_template":[{"name":"tool_use","template":"T"},{"name":"default","template":"{{ bos_token }}D{{ eos_token }}"}]})");
  folder.Write("special_tokens_map.json",
               R"({"eos_token":{"content":"<e>"},"bos_token":"unused"})");
  CHECK(Run({folder.path}, "[{}]") == "[\"<b>D<e>\"]\n");
  folder.Write("chat_template.jinja", "J{{ eos_token }}{{ raise_exception('no') if x }}");
  CHECK(Run({folder.path}, "[{}]") == "[\"J<e>\"]\n");
  CHECK(Run({folder.path}, "[{},{\"x\":1}]") == "error: stdin[1]: no");
  folder.Write("tokenizer_config.json", std::string("{}\0", 3));
  CHECK(Run({folder.path}, "[{}]").find("tokenizer_config.json") != std::string::npos);
}

TEST_CASE("a null token in tokenizer_config.json is no token; GGUF's come from the vocabulary") {
  modu::engine::TokenizerFiles files;
  files.tokenizer_config_json = R"({"bos_token":null,"chat_template":"x"})";
  files.special_tokens_map_json = R"({"bos_token":"<b>","eos_token":"<e>"})";
  CHECK(modu::text::FindChatTemplate(files).bos_token.empty());
  CHECK(modu::text::FindChatTemplate(files).eos_token == "<e>");
  modu::engine::TokenizerFiles gguf;
  gguf.chat_template = "y";
  gguf.tokens = {"<s>", "</s>"};
  gguf.bos_id = 0;
  gguf.eos_id = 7;
  CHECK(modu::text::FindChatTemplate(gguf).bos_token == "<s>");
  CHECK(modu::text::FindChatTemplate(gguf).eos_token.empty());
}
