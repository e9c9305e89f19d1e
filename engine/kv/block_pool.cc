#include "engine/kv/block_pool.h"

#include "kernels/check.h"

namespace modu::engine {

BlockPool::BlockPool(int32_t num_blocks) {
  MODU_CHECK(num_blocks > 0);
  blocks_.resize(num_blocks);
  free_.reserve(num_blocks);
  for (BlockId id = num_blocks - 1; id >= 0; --id) free_.push_back(id);
}

BlockHandle BlockPool::Allocate(OwnerId owner) {
  if (free_.empty()) return {};
  const BlockId id = free_.back();
  free_.pop_back();
  Block& block = blocks_[id];
  MODU_CHECK(block.refs == 0 && !block.kept);
  block.refs = 1;
  block.owner = owner;
  ++accounts_[owner].charge;
  return BlockHandle(this, id);
}

BlockHandle BlockPool::Share(BlockId id) {
  Block& block = blocks_[id];
  MODU_CHECK(block.refs > 0 || block.kept);
  if (block.refs == 0) UnlinkIdle(id);
  ++block.refs;
  return BlockHandle(this, id);
}

void BlockPool::Keep(BlockId id) {
  MODU_CHECK(blocks_[id].refs > 0);
  blocks_[id].kept = true;
}

void BlockPool::Discard(BlockId id) {
  Block& block = blocks_[id];
  if (!block.kept) return;
  if (block.refs == 0) UnlinkIdle(id);
  block.kept = false;
  if (block.refs == 0) Free(id);
}

BlockId BlockPool::OldestIdle() const {
  const Account* most = nullptr;
  OwnerId most_owner = 0;
  for (const auto& [owner, account] : accounts_) {
    if (account.oldest == kNoBlock) continue;
    // The owner's number breaks ties, so that the map's order does not matter to a replay.
    if (most == nullptr || account.charge > most->charge ||
        (account.charge == most->charge && owner < most_owner)) {
      most = &account;
      most_owner = owner;
    }
  }
  return most == nullptr ? kNoBlock : most->oldest;
}

int32_t BlockPool::charge(OwnerId owner) const {
  const auto it = accounts_.find(owner);
  return it == accounts_.end() ? 0 : it->second.charge;
}

void BlockPool::Release(BlockId id) {
  Block& block = blocks_[id];
  MODU_CHECK(block.refs > 0);
  if (--block.refs > 0) return;
  if (block.kept) {
    LinkIdle(id);
  } else {
    Free(id);
  }
}

void BlockPool::Free(BlockId id) {
  const auto it = accounts_.find(blocks_[id].owner);
  MODU_CHECK(it != accounts_.end() && it->second.charge > 0);
  if (--it->second.charge == 0) accounts_.erase(it);
  free_.push_back(id);
}

void BlockPool::LinkIdle(BlockId id) {
  Block& block = blocks_[id];
  Account& account = accounts_[block.owner];
  block.newer = kNoBlock;
  block.older = account.newest;
  if (account.newest != kNoBlock) {
    blocks_[account.newest].newer = id;
  } else {
    account.oldest = id;
  }
  account.newest = id;
  ++num_idle_;
}

void BlockPool::UnlinkIdle(BlockId id) {
  Block& block = blocks_[id];
  Account& account = accounts_[block.owner];
  (block.older != kNoBlock ? blocks_[block.older].newer : account.oldest) = block.newer;
  (block.newer != kNoBlock ? blocks_[block.newer].older : account.newest) = block.older;
  block.newer = block.older = kNoBlock;
  --num_idle_;
}

std::string BlockPool::SelfCheck() const {
  int32_t held = 0, idle = 0, unused = 0;
  std::unordered_map<OwnerId, int32_t> charges;
  for (const Block& block : blocks_) {
    if (block.refs < 0) return "a block has a negative reference count";
    (block.refs > 0 ? held : block.kept ? idle : unused) += 1;
    if (block.refs > 0 || block.kept) ++charges[block.owner];
  }
  if (unused != num_free())
    return "the free list has " + std::to_string(num_free()) + " of " + std::to_string(unused);
  if (idle != num_idle_)
    return "idle blocks: " + std::to_string(num_idle_) + " of " + std::to_string(idle);
  if (held != num_held())
    return "held blocks: " + std::to_string(num_held()) + " of " + std::to_string(held);
  int32_t listed = 0;
  for (const auto& [owner, account] : accounts_) {
    if (charges[owner] != account.charge) return "an owner's charge is wrong";
    for (BlockId id = account.oldest; id != kNoBlock; id = blocks_[id].newer) {
      if (blocks_[id].owner != owner || !this->idle(id))
        return "an idle list holds a block that is not its own";
      if (++listed > total()) return "an idle list has a loop";
    }
  }
  if (listed != idle)
    return "the idle lists hold " + std::to_string(listed) + " of " + std::to_string(idle);
  for (BlockId id : free_) {
    if (blocks_[id].refs != 0 || blocks_[id].kept) return "the free list holds a block in use";
  }
  return "";
}

}  // namespace modu::engine
