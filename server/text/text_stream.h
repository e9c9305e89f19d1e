// Token bytes in, whole code points out, stop strings matched on raw bytes. One per choice; one thread at a time.
// What is pushed bit by bit equals what is pushed at once, byte for byte.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace modu::text {

class TextStream {
 public:
  struct Result {
    std::string text;               // may be empty: bytes are held back
    bool stopped = false;           // a stop string is complete; nothing after it is ever emitted
    std::string stop;               // which
  };

  TextStream(std::vector<std::string> stop_strings, bool include_stop);

  Result Push(std::string_view bytes);
  /// End without a stop string: held text goes out; an incomplete tail of a character is left out.
  Result Finish();

 private:
  std::string EmitReady(bool at_end);

  std::vector<std::string> stop_strings_;
  bool include_stop_;
  bool stopped_ = false;
  std::string held_;                // bytes that may still become part of a stop string or a character
};

}  // namespace modu::text
