// Guesses what comes next from what was said before: text that is copied, quoted or repeated is
// drafted for nothing. Prompt lookup decoding (Saxena, 2023). Pure functions.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace modu::engine {

/// Up to `max_tokens` tokens that followed an earlier occurrence of the text's end: the occurrence
/// that agrees with the longest end (at least two tokens, four at most), of equals the latest. A
/// draft that reaches the end of the text goes on as if it repeated. Empty: nothing to go by.
/// Linear in the text.
void LookUpDraft(std::span<const int32_t> tokens, int32_t max_tokens, std::vector<int32_t>* draft);

/// How much of a sequence's drafts is worth drafting, learned from what became of them.
class DraftHistory {
 public:
  /// Tokens to draft now, at most `max_tokens`; 0 while misses are waited out. Called once for each
  /// token that might be drafted for.
  int32_t Propose(int32_t max_tokens);
  /// Of `drafted` tokens the first `accepted` were drawn.
  void Learn(int32_t drafted, int32_t accepted);

 private:
  int32_t limit_ = 2;   // doubled where all was accepted
  int32_t misses_ = 0;  // in a row
  int32_t pause_ = 0;   // tokens still to pass without a draft
};

}  // namespace modu::engine
