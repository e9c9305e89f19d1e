// The hand-written splitters against the expressions they stand for, run by PCRE2.
#include "server/text/splitters.h"

#include <algorithm>
#include <iterator>
#include <random>

#include "server/text/regex.h"
#include "tests/catch.h"

namespace modu::text {
namespace {

std::vector<Span> Matches(const Regex& regex, std::string_view text) {
  std::vector<Span> spans;
  REQUIRE(regex.FindAll(text, &spans).ok());
  return spans;
}

/// PCRE2's tables and utf8proc's may be of different Unicode versions: only characters that both
/// see alike.
class SharedCharacters {
 public:
  SharedCharacters() {
    const std::pair<const char*, int> classes[] = {
        {"\\p{L}", kLetter},          {"\\p{M}", kMark},   {"\\p{N}", kNumber},
        {"[\\p{Lu}\\p{Lt}]", kUpper}, {"\\p{Ll}", kLower}, {"\\s", kSpace}};
    std::vector<uint32_t> all;
    std::string text;
    std::vector<size_t> offsets;
    for (uint32_t c = 0; c < 0x32000; ++c) {
      if (c >= 0xD800 && c < 0xE000) continue;
      all.push_back(c);
      offsets.push_back(text.size());
      AppendUtf8(c, &text);
    }
    std::vector<bool> alike(all.size(), true);
    for (const auto& [expression, flag] : classes) {
      const auto regex = Regex::Compile(expression);
      std::vector<bool> matched(all.size(), false);
      size_t at = 0;
      for (const Span& m : Matches(**regex, text)) {
        while (offsets[at] < m.begin) ++at;
        matched[at] = true;
      }
      for (size_t i = 0; i < all.size(); ++i) {
        alike[i] = alike[i] && matched[i] == ((FlagsOf(all[i]) & flag) != 0);
      }
    }
    for (size_t i = 0; i < all.size(); ++i) {
      if (alike[i]) points_.push_back(all[i]);
    }
  }
  const std::vector<uint32_t>& points() const { return points_; }

 private:
  std::vector<uint32_t> points_;
};

std::string RandomText(const std::vector<uint32_t>& any, std::mt19937* random) {
  static const char* const kParts[] = {" ",      "  ",
                                       "\n",     "\r\n",
                                       "\r",     "\t",
                                       "'s",     "'S",
                                       "'ll",    "'Ve",
                                       "'re",    "'ſ",
                                       "'",      "a",
                                       "Z",      "ab",
                                       "AB",     "aB",
                                       "1",      "234",
                                       "½",      "٣",
                                       "Ⅷ",      "가",
                                       "안녕",   "\u1112\u1161\u11ab",
                                       "\u0301", "\u0301\u0302",
                                       "ǅ",      "ʰ",
                                       ".",      "!?",
                                       "/",      "//",
                                       "/\n",    "$",
                                       "+",      "_",
                                       "東",     "\u00a0",
                                       "\u3000", "\u200b",
                                       "\u180e", "\u2028",
                                       "\x85",   "😁",
                                       "\u200d"};
  std::string text;
  const size_t n = (*random)() % 24;
  for (size_t i = 0; i < n; ++i) {
    if ((*random)() % 4 == 0) {
      AppendUtf8(any[(*random)() % any.size()], &text);
    } else {
      const char* part = kParts[(*random)() % std::size(kParts)];
      text += part[0] == '\x85' ? "\u0085" : part;
    }
  }
  return text;
}

TEST_CASE("classes agree with PCRE2 on nearly every character", "[splitters]") {
  const SharedCharacters shared;
  CHECK(shared.points().size() > 0x32000 - 0x800 - 20000);  // new scripts of a few Unicode versions
  for (const char c : std::string("aZ0 \n'")) {
    CHECK(std::count(shared.points().begin(), shared.points().end(), static_cast<uint32_t>(c)) ==
          1);
  }
}

TEST_CASE("each splitter gives the matches of its expression", "[splitters]") {
  const SharedCharacters shared;
  std::mt19937 random(7);
  for (const char* expression :
       {kGpt2Regex, kLlama3Regex, kQwen2Regex, kKExaoneRegex, kO200kRegex}) {
    const Splitter splitter = FindSplitter(expression);
    REQUIRE(splitter != nullptr);
    const auto regex = Regex::Compile(expression);
    REQUIRE(regex.ok());
    for (int round = 0; round < 6000; ++round) {
      const std::string text = RandomText(shared.points(), &random);
      const std::vector<Span> expected = Matches(**regex, text);
      std::vector<Span> actual;
      splitter(text, &actual);
      bool same = actual.size() == expected.size();
      for (size_t i = 0; same && i < actual.size(); ++i) {
        same = actual[i].begin == expected[i].begin && actual[i].end == expected[i].end;
      }
      if (same) continue;
      std::string shown;
      for (const Span& s : expected) shown += "[" + text.substr(s.begin, s.end - s.begin) + "]";
      shown += " but ";
      for (const Span& s : actual) shown += "[" + text.substr(s.begin, s.end - s.begin) + "]";
      INFO(expression << " expected " << shown);
      REQUIRE(same);
    }
  }
}

TEST_CASE("an unknown expression has no splitter", "[splitters]") {
  CHECK(FindSplitter("\\p{L}+") == nullptr);
  CHECK(FindSplitter("") == nullptr);
}

TEST_CASE("Oniguruma's dialect is put into PCRE2's words", "[regex]") {
  const auto found = [](const char* expression, const char* text) {
    const auto regex = Regex::Compile(expression);
    INFO(expression << ": " << regex.status());
    REQUIRE(regex.ok());
    std::string joined;
    for (const Span& m : Matches(**regex, text)) {
      joined += "[" + std::string(text).substr(m.begin, m.end - m.begin) + "]";
    }
    return joined;
  };
  CHECK(found("\\s", "a\u180e \u0085") == "[ ][\u0085]");  // U+180E is no space
  CHECK(found("[^\\s]", "a \u180e") == "[a][\u180e]");
  CHECK(found("[\\S]", "a \u3000b") == "[a][b]");
  CHECK(found("\\h+", "xFf0g") == "[Ff0]");
  CHECK(found("[a-z&&[^aeiou]]+", "hello") == "[h][ll]");
  CHECK(found("[[a-c][x-z]]+", "abxq") == "[abx]");
  CHECK(found("[^a-z&&[^1]]", "a1b") == "[1]");
  CHECK(found("\\w+", "e\u0301 ⓐ²₂") == "[e\u0301][ⓐ²]");  // Latin-1's digits, but only there
  CHECK(found("[\\w]+", "e\u0301 ⓐ²₂") == "[e\u0301][ⓐ]");
  CHECK(found("^b$", "a\nb\nc") == "[b]");  // ^ and $ are at lines
  CHECK(found("[]a]+", "]a") == "[]a]");
  CHECK(found("x*", "axx") == "[][xx]");
}

TEST_CASE("a broken or catastrophic expression is an error", "[regex]") {
  for (const char* broken : {"(", "[a", "\\", "[a\\", "a{2,1}", "[[a]", "(?<"}) {
    INFO(broken);
    CHECK(!Regex::Compile(broken).ok());
  }
  const auto regex = Regex::Compile("(a+)+$");
  REQUIRE(regex.ok());
  std::vector<Span> spans;
  const absl::Status status = (*regex)->FindAll(std::string(40, 'a').append("b"), &spans);
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace modu::text
