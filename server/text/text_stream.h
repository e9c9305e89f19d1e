// Token bytes in, whole code points out, stop strings matched on raw bytes. One per choice; one
// thread at a time. What is pushed bit by bit equals what is pushed at once, byte for byte. The
// stop string that is complete first wins; of those complete at the same byte, the longest. Text is
// held back only while it may still turn into a stop string.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace modu::text {

class TextStream {
 public:
  struct Result {
    std::string text;      // may be empty: bytes are held back
    bool stopped = false;  // a stop string is complete; nothing after it is ever emitted
    std::string stop;      // which
  };

  /// Empty stop strings are ignored.
  TextStream(std::vector<std::string> stop_strings, bool include_stop);

  Result Push(std::string_view bytes);
  /// End without a stop string: held text goes out; an incomplete tail of a character is left out.
  Result Finish();

 private:
  /// One Knuth-Morris-Pratt automaton a stop string: time linear in the text whatever the strings.
  struct Matcher {
    std::string stop;
    std::vector<uint32_t> failure;  // [n]: longest proper border of the first n+1 bytes
    uint32_t matched = 0;           // bytes of `stop` that the text so far ends in
  };

  /// Whole characters of the first `ready` bytes of held_ leave; with `at_end` what is incomplete
  /// is dropped.
  std::string EmitReady(size_t ready);

  std::vector<Matcher> matchers_;
  bool include_stop_;
  bool stopped_ = false;
  std::string stop_;  // the one that matched
  std::string held_;  // bytes that may still become part of a stop string or a character
};

}  // namespace modu::text
