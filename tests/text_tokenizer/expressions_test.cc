// Expressions in Oniguruma's dialect, translated for PCRE2, against what Oniguruma itself finds
// (make_fixtures.py).
#include "nlohmann/json.hpp"
#include "server/text/regex.h"
#include "tests/shared_data.h"

namespace modu::text {
namespace {

using nlohmann::json;

TEST_CASE("expressions find what Oniguruma finds", "[regex]") {
  const auto path =
      std::filesystem::path(MODU_SOURCE_DIR) / "tests/text_tokenizer/expressions.json";
  const json file = json::parse(tests::ReadWholeFile(path));
  const json& texts = file["texts"];
  REQUIRE(file["expressions"].size() >= 150);
  int refused = 0;
  for (const json& entry : file["expressions"]) {
    const auto pattern = entry[0].get<std::string>();
    const auto regex = Regex::Compile(pattern);
    INFO(pattern << ": " << regex.status());
    if (!regex.ok()) {
      // Said so, not guessed at: text segmentation, blocks, the absent operator.
      ++refused;
      CHECK(regex.status().message().substr(0, 7) == "regex: ");
      continue;
    }
    for (size_t i = 0; i < texts.size(); ++i) {
      const auto text = texts[i].get<std::string>();
      std::vector<Span> matches;
      REQUIRE((*regex)->FindAll(text, &matches).ok());
      std::vector<size_t> sizes;
      size_t done = 0;
      for (const Span& m : matches) {
        if (m.begin == m.end) continue;
        sizes.push_back(m.begin - done);
        sizes.push_back(m.end - m.begin);
        done = m.end;
      }
      INFO(texts[i].dump(-1, ' ', true));
      CHECK(sizes == entry[1][i].get<std::vector<size_t>>());
    }
  }
  CHECK(refused <= 6);
}

TEST_CASE("expressions that cannot be said are refused by name", "[regex]") {
  for (const char* pattern : {"\\X",
                              "\\y",
                              "(?~a)",
                              "(*FAIL)",
                              "(*LIMIT_MATCH=1)a",
                              "\\p{InHangulSyllables}",
                              "\\p{L",
                              "[a",
                              "[]",
                              "\\",
                              "a\\u12",
                              "\\x{}",
                              "\\x{110000}",
                              "(a",
                              "a)",
                              "[a&&]",
                              "(?#a",
                              "\\C",
                              "\\M-a",
                              "a{3,2}",
                              "*",
                              "\\p{}",
                              "\\p{a]b}",
                              "[[[[[[[[[[[[[[[[[[[a]]]]]]]]]]]]]]]]]]]"}) {
    const auto regex = Regex::Compile(pattern);
    INFO(pattern);
    REQUIRE(!regex.ok());
    CHECK(regex.status().message().substr(0, 7) == "regex: ");
  }
}

}  // namespace
}  // namespace modu::text
