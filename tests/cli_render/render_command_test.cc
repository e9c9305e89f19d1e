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
  CHECK(Run({file, "--nope=1"}, "[]").rfind("error: unknown flag --nope\nusage", 0) == 0);
  CHECK(Run({"-x", file}, "[]").rfind("error: unknown flag -x\nusage", 0) == 0);
  CHECK(Run({file, "more"}, "[]").rfind("error: unexpected \"more\"\nusage", 0) == 0);
  CHECK(Run({file, "--now"}, "[]").rfind("error: --now needs a value\nusage", 0) == 0);
  CHECK(Run({}, "[]").rfind("error: usage", 0) == 0);
  CHECK(Run({file}, "{}") == "error: stdin: not a JSON array");
  CHECK(Run({file}, std::string("[]\0[", 4)) == "error: stdin: not JSON, at byte 3");
  CHECK(Run({file}, "[1]") == "error: stdin[0]: not an object");
  CHECK(Run({file + ".none"}, "[]").find(".none") != std::string::npos);
}

TEST_CASE("a moment: a date, a time of day, an offset from UTC") {
  const Folder folder;
  folder.Write("t.jinja", "{{ strftime_now('%Y-%m-%d %H:%M:%S') }}");
  const auto at = [&](const std::string& now) {
    return Run({folder.path / "t.jinja", "--now", now}, "[{}]");
  };
  CHECK(at("2025-07-26") == "[\"2025-07-26 00:00:00\"]\n");
  CHECK(at("2025-07-26T12:34:56") == "[\"2025-07-26 12:34:56\"]\n");
  CHECK(at("2025-07-26T12:34:56Z") == "[\"2025-07-26 12:34:56\"]\n");
  CHECK(at("2025-07-26T01:34:56+09:00") == "[\"2025-07-25 16:34:56\"]\n");
  CHECK(at("2025-12-31T23:00:00-03:30") == "[\"2026-01-01 02:30:00\"]\n");
  CHECK(at("2028-02-29") == "[\"2028-02-29 00:00:00\"]\n");
  for (const char* none : {"2026-02-31", "2026-02-29", "2026-13-01", "2026-00-01", "2026-04-31",
                           "2026-01-00T00:00:00Z"}) {
    CHECK(at(none) == std::string("error: --now: ") + none + ": there is no such day");
  }
  CHECK(at("2026-01-01T24:00:00").find("no such time of day") != std::string::npos);
  CHECK(at("2026-01-01T00:60:00Z").find("no such time of day") != std::string::npos);
  CHECK(at("2026-01-01T00:00:60").find("no such time of day") != std::string::npos);
  CHECK(at("2026-01-01T00:00:00+24:00").find("no such offset") != std::string::npos);
  CHECK(at("2026-01-01T00:00:00-00:60").find("no such offset") != std::string::npos);
  for (const char* other :
       {"", "2026", "2026-1-1", "2026-01-01 00:00:00", "2026-01-01T00:00", "2026-01-01T00:00:00.5Z",
        "2026-01-01T00:00:00z", "2026-01-01Z", "2026-01-01T00:00:00+0900", "2026-01-01T00:00:00+09",
        "+026-01-01", "2026-01-01T00:00:00Z ", "2026-01-01T-1:00:00"}) {
    INFO(other);
    CHECK(at(other).find("error: --now: \"" + std::string(other) + "\" is neither") == 0);
  }
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
