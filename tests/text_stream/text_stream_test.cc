#include "server/text/text_stream.h"

#include <algorithm>
#include <functional>
#include <random>

#include "tests/catch.h"

namespace modu::text {
namespace {

struct Whole {
  std::string text;
  bool stopped = false;
  std::string stop;
};

/// The definition, by brute force: the stop string whose end comes first, of those the longest;
/// then whole characters.
Whole Oracle(const std::string& bytes, const std::vector<std::string>& stops, bool include) {
  Whole whole;
  size_t cut = bytes.size();
  for (size_t end = 1; end <= bytes.size() && !whole.stopped; ++end) {
    for (const std::string& stop : stops) {
      if (stop.empty() || stop.size() > end) continue;
      if (bytes.compare(end - stop.size(), stop.size(), stop) != 0) continue;
      if (whole.stopped && whole.stop.size() >= stop.size()) continue;
      whole.stopped = true;
      whole.stop = stop;
      cut = include ? end : end - stop.size();
    }
  }
  // Decoded by the book (Unicode, table 3-7 and "maximal subparts"), character by character.
  const auto at = [&](size_t i) { return static_cast<unsigned char>(bytes[i]); };
  for (size_t i = 0; i < cut;) {
    const unsigned lead = at(i);
    const int length = lead < 0x80                   ? 1
                       : lead >= 0xC2 && lead < 0xE0 ? 2
                       : lead >= 0xE0 && lead < 0xF0 ? 3
                       : lead >= 0xF0 && lead < 0xF5 ? 4
                                                     : 0;
    if (length == 0) {
      whole.text += "\xEF\xBF\xBD";
      ++i;
      continue;
    }
    int good = 1;
    bool broken = false;
    while (good < length && i + good < cut) {
      const unsigned b = at(i + good);
      unsigned low = 0x80, high = 0xBF;
      if (good == 1 && lead == 0xE0) low = 0xA0;
      if (good == 1 && lead == 0xED) high = 0x9F;
      if (good == 1 && lead == 0xF0) low = 0x90;
      if (good == 1 && lead == 0xF4) high = 0x8F;
      if (b < low || b > high) {
        broken = true;
        break;
      }
      ++good;
    }
    if (good == length) {
      whole.text.append(bytes, i, length);
    } else if (broken) {
      whole.text += "\xEF\xBF\xBD";
    } else {
      break;  // an incomplete tail is left out
    }
    i += good;
  }
  return whole;
}

Whole Streamed(const std::string& bytes, const std::vector<std::string>& stops, bool include,
               const std::function<size_t()>& next_size) {
  TextStream stream(stops, include);
  Whole whole;
  const auto take = [&](const TextStream::Result& r) {
    whole.text += r.text;
    whole.stopped = r.stopped;
    whole.stop = r.stop;
  };
  for (size_t pos = 0; pos < bytes.size() && !whole.stopped;) {
    const size_t size = std::min(next_size(), bytes.size() - pos);
    take(stream.Push(std::string_view(bytes).substr(pos, size)));
    pos += size;
  }
  if (!whole.stopped) take(stream.Finish());
  return whole;
}

TEST_CASE("a syllable comes out when its last byte is in", "[text_stream]") {
  TextStream stream({}, false);
  CHECK(stream.Push("\xEC").text.empty());
  CHECK(stream.Push("\x95").text.empty());
  CHECK(stream.Push("\x88").text == "안");
  CHECK(stream.Push("녕\xED").text == "녕");
  CHECK(stream.Finish().text.empty());
}

TEST_CASE("bytes that can never become a character are replaced at once", "[text_stream]") {
  TextStream stream({}, false);
  CHECK(stream.Push("\xFF").text == "\xEF\xBF\xBD");
  CHECK(stream.Push("\xED").text.empty());
  CHECK(stream.Push("\xA0").text == "\xEF\xBF\xBD\xEF\xBF\xBD");  // a surrogate: two broken parts
  CHECK(stream.Push("\xE3\x85").text.empty());
  CHECK(stream.Push("a").text ==
        "\xEF\xBF\xBD"
        "a");
}

TEST_CASE("text is held back only while it may become a stop string", "[text_stream]") {
  TextStream stream({"STOP", "끝"}, false);
  CHECK(stream.Push("abcS").text == "abc");
  CHECK(stream.Push("TO").text.empty());
  CHECK(stream.Push("X").text == "STOX");
  CHECK(stream.Push("ST").text.empty());
  CHECK(stream.Push("ST").text == "ST");
  const auto end = stream.Push("OP and more");
  CHECK(end.stopped);
  CHECK(end.stop == "STOP");
  CHECK(end.text.empty());
  CHECK(stream.Push("more").text.empty());
  CHECK(stream.Push("more").stopped);
  CHECK(stream.Finish().text.empty());
}

TEST_CASE("the stop string that is complete first wins, then the longest", "[text_stream]") {
  TextStream first({"abcd", "bc"}, false);
  const auto r = first.Push("xabcd");
  CHECK(r.stop == "bc");
  CHECK(r.text == "xa");
  TextStream longest({"c", "bc", "abc"}, false);
  const auto l = longest.Push("xabc");
  CHECK(l.stop == "abc");
  CHECK(l.text == "x");
}

TEST_CASE("include_stop keeps the stop string and nothing behind it", "[text_stream]") {
  TextStream stream({"\n\n"}, true);
  CHECK(stream.Push("a\n").text == "a\n");
  const auto r = stream.Push("\nb");
  CHECK(r.stopped);
  CHECK(r.text == "\n");
}

TEST_CASE("any cutting of the bytes gives what the definition gives", "[text_stream]") {
  std::mt19937 random(20240101);
  const std::vector<std::string> parts = {"a",      "b",        "ab",
                                          "aab",    "안",       "녕",
                                          "하세요", "🇰🇷",       "👨‍👩‍👧‍👦",
                                          " ",      "\n",       "\xED",
                                          "\x95",   "\x9C",     "\xF0\x9F",
                                          "\xFF",   "\xC0\xAF", "끝",
                                          "</s>",   "<",        "/s>"};
  const std::vector<std::vector<std::string>> stop_sets = {{},
                                                           {"ab"},
                                                           {"aab", "ab"},
                                                           {"aaab", "b\n"},
                                                           {"녕하", "끝"},
                                                           {"</s>", "</"},
                                                           {"🇰🇷", "a"},
                                                           {""},
                                                           {"aabaab", "baa", "abaaba"}};
  for (int round = 0; round < 20000; ++round) {
    std::string bytes;
    const int n = static_cast<int>(random() % 24);
    for (int i = 0; i < n; ++i) bytes += parts[random() % parts.size()];
    const auto& stops = stop_sets[random() % stop_sets.size()];
    const bool include = random() % 2 == 0;
    const Whole expected = Oracle(bytes, stops, include);
    const size_t most = 1 + random() % 9;
    const Whole pieces = Streamed(bytes, stops, include, [&] { return 1 + random() % most; });
    const Whole once = Streamed(bytes, stops, include, [&] { return bytes.size(); });
    INFO("round " << round << " bytes " << bytes);
    REQUIRE(pieces.text == expected.text);
    REQUIRE(pieces.stopped == expected.stopped);
    REQUIRE(pieces.stop == expected.stop);
    REQUIRE(once.text == expected.text);
    REQUIRE(once.stop == expected.stop);
  }
}

TEST_CASE("hostile stop strings stay linear", "[text_stream]") {
  const std::string almost(1000, 'a');
  TextStream stream({almost + "b", almost + "c"}, false);
  size_t out = 0;
  for (int i = 0; i < 2000; ++i) out += stream.Push(std::string(500, 'a')).text.size();
  out += stream.Finish().text.size();
  CHECK(out == 1000000);
}

}  // namespace
}  // namespace modu::text
