// The blocks of one cache group: who holds them, which are free, and which hold content worth
// keeping although nobody holds them. A block is free, idle (kept for the prefix cache) or held;
// free + idle + held = total. Engine thread only. A BlockHandle owns one reference and gives it
// back when dropped; the pool outlives its handles. Each block is charged to the owner (tenant)
// that allocated it, whether held or idle.
#pragma once
#include <cstdint>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace modu::engine {

using BlockId = int32_t;
using OwnerId = uint32_t;  // a tenant; kv knows it as a number to charge
constexpr BlockId kNoBlock = -1;

class BlockPool;

class BlockHandle {
 public:
  BlockHandle() = default;
  BlockHandle(BlockHandle&& other) noexcept { *this = std::move(other); }
  BlockHandle& operator=(BlockHandle&& other) noexcept {
    std::swap(pool_, other.pool_);
    std::swap(id_, other.id_);
    return *this;
  }
  ~BlockHandle() { Reset(); }
  void Reset();
  BlockId id() const { return id_; }
  explicit operator bool() const { return pool_ != nullptr; }

 private:
  friend class BlockPool;
  BlockHandle(BlockPool* pool, BlockId id) : pool_(pool), id_(id) {}
  BlockPool* pool_ = nullptr;
  BlockId id_ = kNoBlock;
};

class BlockPool {
 public:
  explicit BlockPool(int32_t num_blocks);
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  /// A free block, or an empty handle if none is free (idle ones are the caller's to evict:
  /// OldestIdle, Discard).
  BlockHandle Allocate(OwnerId owner);
  /// One more reference to a held or idle block.
  BlockHandle Share(BlockId id);

  /// When its last handle drops, the block becomes idle instead of free. The block must be held.
  void Keep(BlockId id);
  /// Undoes Keep; an idle block becomes free.
  void Discard(BlockId id);
  /// The idle block that was used longest ago, of the owner with the largest charge among those
  /// with idle blocks: shares are equal, so that owner is the one most over its share. kNoBlock if
  /// nothing is idle.
  BlockId OldestIdle() const;

  int32_t total() const { return static_cast<int32_t>(blocks_.size()); }
  int32_t num_free() const { return static_cast<int32_t>(free_.size()); }
  int32_t num_idle() const { return num_idle_; }
  int32_t num_held() const { return total() - num_free() - num_idle_; }
  int32_t ref_count(BlockId id) const { return blocks_[id].refs; }
  bool idle(BlockId id) const { return blocks_[id].refs == 0 && blocks_[id].kept; }
  bool kept(BlockId id) const { return blocks_[id].kept; }
  OwnerId owner(BlockId id) const { return blocks_[id].owner; }
  int32_t charge(OwnerId owner) const;

  /// Recounts everything. Empty if the books balance, else what does not.
  std::string SelfCheck() const;

 private:
  friend class BlockHandle;
  struct Block {
    int32_t refs = 0;
    bool kept = false;
    OwnerId owner = 0;
    BlockId newer = kNoBlock, older = kNoBlock;  // neighbours in the owner's idle list
  };
  struct Account {
    int32_t charge = 0;
    BlockId oldest = kNoBlock, newest = kNoBlock;
  };

  void Release(BlockId id);
  void LinkIdle(BlockId id);
  void UnlinkIdle(BlockId id);
  void Free(BlockId id);

  std::vector<Block> blocks_;
  std::vector<BlockId> free_;
  std::unordered_map<OwnerId, Account> accounts_;  // owners that are charged something
  int32_t num_idle_ = 0;
};

inline void BlockHandle::Reset() {
  if (pool_ == nullptr) return;
  std::exchange(pool_, nullptr)->Release(std::exchange(id_, kNoBlock));
}

}  // namespace modu::engine
