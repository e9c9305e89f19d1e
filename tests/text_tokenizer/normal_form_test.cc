// Normalisation against utf8proc's own (quadratic) one on short texts, and in linear time on
// hostile ones.
#include <utf8proc.h>

#include <cstdlib>
#include <ctime>
#include <iterator>
#include <random>

#include "server/text/unicode.h"
#include "server/text/unicode_normal.h"
#include "tests/catch.h"

namespace modu::text {
namespace {

std::string Oracle(const std::string& text, NormalForm form) {
  int options = UTF8PROC_STABLE;
  const bool compat = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const bool compose = form == NormalForm::kNfc || form == NormalForm::kNfkc;
  if (compat) options |= UTF8PROC_COMPAT;
  options |= compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
  utf8proc_uint8_t* out = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                             static_cast<utf8proc_ssize_t>(text.size()), &out,
                                             static_cast<utf8proc_option_t>(options));
  REQUIRE(size >= 0);
  std::string result(reinterpret_cast<char*>(out), static_cast<size_t>(size));
  std::free(out);
  return result;
}

constexpr NormalForm kForms[] = {NormalForm::kNfc, NormalForm::kNfd, NormalForm::kNfkc,
                                 NormalForm::kNfkd};

TEST_CASE("every character alone normalises as utf8proc does it", "[normal_form]") {
  for (const NormalForm form : kForms) {
    std::string wrong;
    for (uint32_t c = 0; c < 0x110000; c = c == 0xD7FF ? 0xE000 : c + 1) {
      if (c == 0x32000) c = 0xE0000;
      if (c == 0xE0200) break;
      std::string text;
      AppendUtf8(c, &text);
      if (Normalized(text, form) != Oracle(text, form)) wrong += std::to_string(c) + " ";
    }
    CHECK(wrong.empty());
  }
}

TEST_CASE("random texts normalise as utf8proc does it", "[normal_form]") {
  std::mt19937 random(11);
  const uint32_t ranges[][2] = {
      {0x41, 0x7A},     {0xC0, 0x17F},      {0x300, 0x36F},     {0x1100, 0x11FF},
      {0xAC00, 0xD7A3}, {0x900, 0x9FF},     {0x1E00, 0x1EFF},   {0xFB00, 0xFDFF},
      {0x3040, 0x30FF}, {0x591, 0x5C7},     {0xD00, 0xDFF},     {0x0, 0x31FFF},
      {0xF900, 0xFAFF}, {0x11100, 0x115FF}, {0x1D100, 0x1D2FF}, {0xFF00, 0xFFEF}};
  for (int round = 0; round < 40000; ++round) {
    std::string text;
    const size_t n = random() % 12;
    for (size_t i = 0; i < n; ++i) {
      const auto& range = ranges[random() % std::size(ranges)];
      const uint32_t c = range[0] + random() % (range[1] - range[0] + 1);
      if (c < 0xD800 || c > 0xDFFF) AppendUtf8(c, &text);
    }
    const NormalForm form = kForms[round % 4];
    INFO("round " << round << " form " << round % 4 << " text " << text);
    REQUIRE(Normalized(text, form) == Oracle(text, form));
  }
}

TEST_CASE("a megabyte of combining marks takes linear time", "[normal_form]") {
  std::mt19937 random(3);
  std::string marks = "a";
  while (marks.size() < (1u << 20)) AppendUtf8(0x300 + random() % 0x70, &marks);
  for (const NormalForm form : kForms) {
    const std::clock_t start = std::clock();  // the processor's time: a busy machine takes none
    const std::string once = Normalized(marks, form);
    CHECK(std::clock() - start < 2 * CLOCKS_PER_SEC);  // 30 ms; quadratic would be minutes
    CHECK(Normalized(once, form) == once);
  }
}

}  // namespace
}  // namespace modu::text
