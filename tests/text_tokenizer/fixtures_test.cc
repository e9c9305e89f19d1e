// Small tokenizers of our own, one a mixture of components, against the ids of the reference
// (make_fixtures.py).
#include <algorithm>

#include "nlohmann/json.hpp"
#include "server/text/tokenizer.h"
#include "tests/shared_data.h"

namespace modu::text {
namespace {

using nlohmann::json;

std::vector<std::filesystem::path> Fixtures() {
  std::vector<std::filesystem::path> paths;
  const auto folder = std::filesystem::path(MODU_SOURCE_DIR) / "tests/text_tokenizer/fixtures";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() == ".json") paths.push_back(entry.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

TEST_CASE("every fixture encodes and decodes as the reference", "[fixtures]") {
  const auto paths = Fixtures();
  REQUIRE(paths.size() >= 30);
  for (const auto& path : paths) {
    const json fixture = json::parse(tests::ReadWholeFile(path));
    engine::TokenizerFiles files;
    files.tokenizer_json = fixture["tokenizer"].dump();
    const auto tokenizer = LoadTokenizer(files);
    INFO(path.filename() << ": " << tokenizer.status());
    CHECK(tokenizer.ok());
    if (!tokenizer.ok()) continue;
    const Tokenizer& t = **tokenizer;
    for (const json& c : fixture["cases"]) {
      const auto text = c["text"].get<std::string>();
      const auto ids = c["ids"].get<std::vector<int32_t>>();
      const auto expect = [&](const char* key) {
        return c.contains(key) ? c[key].get<std::vector<int32_t>>() : ids;
      };
      INFO(path.filename() << ": " << c.dump());
      CHECK(t.Encode(text, {false, true}).value() == ids);
      CHECK(t.Encode(text, {true, true}).value() == expect("special"));
      CHECK(t.Encode(text, {false, false}).value() == expect("plain"));
      CHECK(t.Decode(ids, false) == c["decoded"].get<std::string>());
      CHECK(t.Decode(ids, true) ==
            c[c.contains("skipped") ? "skipped" : "decoded"].get<std::string>());
    }
  }
}

}  // namespace
}  // namespace modu::text
