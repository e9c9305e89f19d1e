#include "server/text/vocabulary.h"

#include <cstring>

#include "kernels/check.h"

namespace modu::text {

uint64_t HashBytes(std::string_view bytes) {
  // A multiply-and-fold a word; the keys come from a file, and a table of ours never grows by what
  // users send.
  constexpr uint64_t kMultiplier = 0x9E3779B97F4A7C15ull;
  uint64_t hash = bytes.size() * kMultiplier;
  const auto mix = [&](uint64_t word) {
    hash = (hash ^ word) * kMultiplier;
    hash ^= hash >> 32;
  };
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i, 8);
    mix(word);
  }
  uint64_t tail = 0;
  if (i < bytes.size()) std::memcpy(&tail, bytes.data() + i, bytes.size() - i);
  mix(tail);
  return hash * kMultiplier ^ hash >> 29;
}

Vocabulary::Vocabulary(const std::vector<std::string>& spellings) {
  size_t total = 0;
  for (const std::string& s : spellings) total += s.size();
  MODU_CHECK(total < UINT32_MAX && spellings.size() < INT32_MAX / 4);
  storage_.reserve(total);
  offsets_.reserve(spellings.size() + 1);
  size_t capacity = 16;
  while (capacity < spellings.size() * 2) capacity *= 2;
  slots_.assign(capacity, -1);
  for (size_t id = 0; id < spellings.size(); ++id) {
    storage_ += spellings[id];
    offsets_.push_back(static_cast<uint32_t>(storage_.size()));
    if (spellings[id].empty()) continue;
    size_t slot = HashBytes(spellings[id]) & (capacity - 1);
    while (slots_[slot] >= 0 && Spelling(slots_[slot]) != spellings[id]) {
      slot = (slot + 1) & (capacity - 1);
    }
    if (slots_[slot] < 0) slots_[slot] = static_cast<int32_t>(id);
  }
}

int32_t Vocabulary::Find(std::string_view spelling) const {
  if (slots_.empty() || spelling.empty()) return -1;
  size_t slot = HashBytes(spelling) & (slots_.size() - 1);
  while (slots_[slot] >= 0) {
    if (Spelling(slots_[slot]) == spelling) return slots_[slot];
    slot = (slot + 1) & (slots_.size() - 1);
  }
  return -1;
}

}  // namespace modu::text
