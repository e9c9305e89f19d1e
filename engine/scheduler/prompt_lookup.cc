#include "engine/scheduler/prompt_lookup.h"

#include <algorithm>

namespace modu::engine {
namespace {

constexpr int32_t kShortestMatch = 2, kLongestMatch = 4;
constexpr int32_t kMostDrafted = 64;
constexpr int32_t kLongestPause = 32;

}  // namespace

void LookUpDraft(std::span<const int32_t> tokens, int32_t max_tokens, std::vector<int32_t>* draft) {
  draft->clear();
  const auto size = static_cast<int32_t>(tokens.size());
  if (max_tokens <= 0 || size < kShortestMatch + 1) return;
  int32_t best = kShortestMatch - 1, next = -1;  // match length, and where what followed begins
  for (int32_t i = size - 2; i >= best && best < kLongestMatch; --i) {
    if (tokens[i] != tokens[size - 1]) continue;
    int32_t length = 1;
    while (length < kLongestMatch && length <= i && tokens[i - length] == tokens[size - 1 - length])
      ++length;
    if (length <= best) continue;
    best = length;
    next = i + 1;
  }
  if (next < 0) return;
  for (int32_t j = 0; j < max_tokens; ++j) {
    const int32_t from = next + j;
    draft->push_back(from < size ? tokens[from] : (*draft)[from - size]);
  }
}

int32_t DraftHistory::Propose(int32_t max_tokens) {
  if (pause_ > 0) {
    --pause_;
    return 0;
  }
  return std::min(limit_, max_tokens);
}

void DraftHistory::Learn(int32_t drafted, int32_t accepted) {
  if (drafted == 0) return;
  if (accepted == 0) {
    ++misses_;
    limit_ = 1;
    pause_ = std::min(1 << std::min(misses_, 8), kLongestPause);
    return;
  }
  misses_ = 0;
  limit_ =
      accepted == drafted ? std::min(2 * std::max(limit_, drafted), kMostDrafted) : accepted + 1;
}

}  // namespace modu::engine
