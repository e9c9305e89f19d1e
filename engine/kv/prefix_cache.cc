#include "engine/kv/prefix_cache.h"

#include <algorithm>

#include "kernels/check.h"

namespace modu::engine {
namespace {

/// The finalizer of MurmurHash3, 64 bits.
constexpr uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 33)) * 0xFF51AFD7ED558CCDull;
  x = (x ^ (x >> 33)) * 0xC4CEB9FE1A85EC53ull;
  return x ^ (x >> 33);
}

}  // namespace

uint64_t HashBlock(uint64_t parent, std::span<const int32_t> tokens) {
  uint64_t hash = Mix(parent ^ 0x9E3779B97F4A7C15ull);
  size_t i = 0;
  for (; i + 2 <= tokens.size(); i += 2) {
    const uint64_t pair =
        (uint64_t{static_cast<uint32_t>(tokens[i])} << 32) | static_cast<uint32_t>(tokens[i + 1]);
    hash = Mix(hash ^ pair);
  }
  if (i < tokens.size()) hash = Mix(hash ^ static_cast<uint32_t>(tokens[i]));
  return hash;
}

PrefixCache::PrefixCache(const std::vector<int32_t>& num_blocks, BlockHash hash) : hash_(hash) {
  for (int32_t n : num_blocks) by_block_.emplace_back(n, nullptr);
}

PrefixCache::~PrefixCache() = default;

uint64_t PrefixCache::HashOf(const PrefixNode* parent, const CacheScope& scope,
                             std::span<const int32_t> tokens) const {
  return hash_(parent != nullptr ? parent->hash : Mix(scope.salt) + scope.tenant, tokens);
}

PrefixNode* PrefixCache::Find(const PrefixNode* parent, const CacheScope& scope,
                              std::span<const int32_t> tokens) const {
  const auto [begin, end] = nodes_.equal_range(HashOf(parent, scope, tokens));
  for (auto it = begin; it != end; ++it) {
    PrefixNode* node = it->second.get();
    if (node->parent == parent && node->scope == scope && std::ranges::equal(node->tokens, tokens))
      return node;
  }
  return nullptr;
}

PrefixNode* PrefixCache::FindOrAdd(PrefixNode* parent, const CacheScope& scope,
                                   std::span<const int32_t> tokens) {
  if (PrefixNode* found = Find(parent, scope, tokens)) return found;
  auto node = std::make_unique<PrefixNode>();
  node->parent = parent;
  node->scope = scope;
  node->hash = HashOf(parent, scope, tokens);
  node->tokens.assign(tokens.begin(), tokens.end());
  node->blocks.assign(by_block_.size(), kNoBlock);
  if (parent != nullptr) ++parent->children;
  PrefixNode* added = node.get();
  nodes_.emplace(added->hash, std::move(node));
  return added;
}

void PrefixCache::Unpin(PrefixNode* node) {
  MODU_CHECK(node->pins > 0);
  --node->pins;
  DropIfUnused(node);
}

void PrefixCache::SetBlock(PrefixNode* node, int group, BlockId block) {
  MODU_CHECK(node->blocks[group] == kNoBlock && by_block_[group][block] == nullptr);
  node->blocks[group] = block;
  by_block_[group][block] = node;
}

void PrefixCache::ClearBlock(int group, BlockId block) {
  PrefixNode* node = by_block_[group][block];
  if (node == nullptr) return;
  by_block_[group][block] = nullptr;
  node->blocks[group] = kNoBlock;
  DropIfUnused(node);
}

void PrefixCache::DropIfUnused(PrefixNode* node) {
  while (node != nullptr && node->pins == 0 && node->children == 0 &&
         std::ranges::all_of(node->blocks, [](BlockId id) { return id == kNoBlock; })) {
    PrefixNode* parent = node->parent;
    if (parent != nullptr) --parent->children;
    auto [it, end] = nodes_.equal_range(node->hash);
    while (it != end && it->second.get() != node) ++it;
    MODU_CHECK(it != end);
    nodes_.erase(it);
    node = parent;
  }
}

std::string PrefixCache::SelfCheck() const {
  size_t with_block = 0;
  std::unordered_map<const PrefixNode*, int32_t> children;
  for (const auto& [hash, node] : nodes_) {
    if (node->parent != nullptr) ++children[node->parent];
    for (size_t g = 0; g < node->blocks.size(); ++g) {
      if (node->blocks[g] == kNoBlock) continue;
      ++with_block;
      if (by_block_[g][node->blocks[g]] != node.get())
        return "a node names a block that does not name it";
    }
  }
  for (const auto& [hash, node] : nodes_) {
    const auto it = children.find(node.get());
    if (node->children != (it == children.end() ? 0 : it->second))
      return "a node's child count is wrong";
  }
  size_t named = 0;
  for (const auto& group : by_block_) named += group.size() - std::ranges::count(group, nullptr);
  return named == with_block ? "" : "blocks name nodes that do not name them";
}

}  // namespace modu::engine
