// Spellings and ids, both ways, in flat storage. Immutable after Build, safe from any thread.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace modu::text {

class Vocabulary {
 public:
  /// spellings[id]; an empty one is a gap between ids. The first id of a spelling wins.
  Vocabulary() = default;
  explicit Vocabulary(const std::vector<std::string>& spellings);

  int32_t size() const { return static_cast<int32_t>(offsets_.size()) - 1; }
  std::string_view Spelling(int32_t id) const {
    if (id < 0 || id >= size()) return {};
    return std::string_view(storage_).substr(offsets_[id], offsets_[id + 1] - offsets_[id]);
  }
  /// -1: none.
  int32_t Find(std::string_view spelling) const;

 private:
  std::string storage_;
  std::vector<uint32_t> offsets_ = {0};
  std::vector<int32_t> slots_;  // open addressing; -1: free
};

uint64_t HashBytes(std::string_view bytes);

}  // namespace modu::text
