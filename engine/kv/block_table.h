// Which blocks hold a sequence's tokens in one cache group, in order. Owns its references:
// destroying or shrinking the table gives the blocks back. Engine thread only.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "engine/kv/block_pool.h"

namespace modu::engine {

class BlockTable {
 public:
  int32_t size() const { return static_cast<int32_t>(handles_.size()); }
  /// Blocks held: size() less the ones dropped at the front.
  int32_t num_held() const { return size() - dropped_; }
  /// kNoBlock where the block was dropped.
  BlockId id(int32_t index) const { return handles_[index].id(); }
  /// Block ids as a step's block table wants them; 0 for dropped ones, which no kernel reads.
  std::span<const int32_t> ids() const { return ids_; }

  void Append(BlockHandle handle) {
    ids_.push_back(handle.id());
    handles_.push_back(std::move(handle));
  }
  /// Stands for a block that this sequence never needs to read (behind its window).
  void AppendDropped() {
    ids_.push_back(0);
    handles_.emplace_back();
    ++dropped_;
  }
  /// Gives back the blocks before `index`.
  void DropBefore(int32_t index) {
    for (; dropped_ < index && dropped_ < size(); ++dropped_) {
      handles_[dropped_].Reset();
      ids_[dropped_] = 0;
    }
  }
  /// Gives everything back, last block first: of a prefix the tail is then the first to be evicted.
  void Clear() {
    while (!handles_.empty()) handles_.pop_back();
    ids_.clear();
    dropped_ = 0;
  }

 private:
  std::vector<BlockHandle> handles_;
  std::vector<int32_t> ids_;
  int32_t dropped_ = 0;
};

}  // namespace modu::engine
