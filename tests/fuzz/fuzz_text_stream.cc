// Any bytes in any pieces past any stop strings: pieces give what the whole gives, always whole
// characters, and no stop string is left in the text. The first byte says how many stops of which
// sizes the input begins with.
#include "kernels/check.h"
#include "server/text/text_stream.h"
#include "server/text/unicode.h"
#include "tests/fuzz/fuzz.h"

using namespace modu;  // NOLINT: one file, one target

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string input(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> stops;
  const size_t head = input.empty() ? 0 : static_cast<uint8_t>(input[0]);
  for (size_t i = 0; i < head % 4; ++i) {
    const size_t length = std::min<size_t>(1 + (head >> 2) % 7, input.size());
    stops.push_back(input.substr(0, length));
    input.erase(0, length);
  }
  const bool include = (head & 128) != 0;
  text::TextStream whole(stops, include);
  const auto all = whole.Push(input);
  std::string expected = all.text;
  if (!all.stopped) expected += whole.Finish().text;

  for (size_t step = 1; step <= 5; ++step) {
    text::TextStream stream(stops, include);
    std::string got;
    bool stopped = false;
    for (size_t pos = 0; pos < input.size() && !stopped; pos += step) {
      const auto r = stream.Push(std::string_view(input).substr(pos, step));
      MODU_CHECK(text::ValidPrefix(r.text) == r.text.size());
      got += r.text;
      stopped = r.stopped;
      MODU_CHECK(!stopped || r.stop == all.stop);
    }
    if (!stopped) got += stream.Finish().text;
    MODU_CHECK(got == expected && stopped == all.stopped);
  }
  for (const std::string& stop : stops) {
    // Replacement may spell a stop that the bytes did not.
    if (include || stop.empty() || stop.find("\xEF\xBF\xBD") != std::string::npos) continue;
    if (text::ValidPrefix(stop) == stop.size())
      MODU_CHECK(expected.find(stop) == std::string::npos);
  }
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  return {std::string("\x05") + "abab and ab aab",
          std::string("\x86") + "\xEC\x95\x88\xEB\x85\x95\xED\x95", "plain \xF0\x9F\x98\x81 text",
          std::string("\x0B") + "<|e<|en<|end|> \xFF\xFE"};
}
