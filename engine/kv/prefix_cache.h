// What full blocks hold, as a tree: a node is one block's worth of tokens after its parent's, under
// one tenant and salt. A node knows which block of each cache group holds it, if any. A chained
// hash finds a node; tokens, parent, tenant and salt are then compared, so a colliding hash costs
// time and never a wrong hit. Adapters join the salt when there are any. Engine thread only. A node
// lives while it has a block, a child or a pin; sequences pin the nodes of their prefix.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/kv/block_pool.h"

namespace modu::engine {

/// Hash of a block of tokens after `parent` (the parent's hash, or one made of tenant and salt).
using BlockHash = uint64_t (*)(uint64_t parent, std::span<const int32_t> tokens);
uint64_t HashBlock(uint64_t parent, std::span<const int32_t> tokens);

/// Under whom a prefix is cached.
struct CacheScope {
  OwnerId tenant = 0;
  uint64_t salt = 0;
  bool operator==(const CacheScope&) const = default;
};

struct PrefixNode {
  PrefixNode* parent = nullptr;  // null: the first block of a prompt
  CacheScope scope;
  uint64_t hash = 0;
  int32_t pins = 0, children = 0;
  std::vector<int32_t> tokens;
  std::vector<BlockId> blocks;  // per group; kNoBlock: not there
};

class PrefixCache {
 public:
  /// num_blocks: of each group.
  PrefixCache(const std::vector<int32_t>& num_blocks, BlockHash hash);
  ~PrefixCache();

  PrefixNode* Find(const PrefixNode* parent, const CacheScope& scope,
                   std::span<const int32_t> tokens) const;
  PrefixNode* FindOrAdd(PrefixNode* parent, const CacheScope& scope,
                        std::span<const int32_t> tokens);
  void Pin(PrefixNode* node) { ++node->pins; }
  void Unpin(PrefixNode* node);

  /// Says that `block` of `group` holds the node's tokens; neither may be taken already.
  void SetBlock(PrefixNode* node, int group, BlockId block);
  /// Forgets the content of a block; no-op if it has none.
  void ClearBlock(int group, BlockId block);
  PrefixNode* NodeOf(int group, BlockId block) const { return by_block_[group][block]; }

  size_t num_nodes() const { return nodes_.size(); }
  std::string SelfCheck() const;

 private:
  uint64_t HashOf(const PrefixNode* parent, const CacheScope& scope,
                  std::span<const int32_t> tokens) const;
  void DropIfUnused(PrefixNode* node);

  BlockHash hash_;
  std::unordered_multimap<uint64_t, std::unique_ptr<PrefixNode>> nodes_;
  std::vector<std::vector<PrefixNode*>> by_block_;  // [group][block]
};

}  // namespace modu::engine
