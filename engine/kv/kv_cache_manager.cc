#include "engine/kv/kv_cache_manager.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/check.h"

namespace modu::engine {
namespace {

std::vector<int32_t> BlockCounts(const std::vector<KvGroup>& groups) {
  std::vector<int32_t> counts;
  for (const KvGroup& group : groups) counts.push_back(group.num_blocks);
  return counts;
}

int32_t CeilDiv(int32_t a, int32_t b) { return a / b + (a % b != 0 ? 1 : 0); }

/// The first block that a token at `position` reads.
int32_t FirstBlockRead(int32_t position, int32_t window, int32_t block_size) {
  return window == 0 ? 0 : std::max(0, position - window + 1) / block_size;
}

/// What the prefix cache knows a block of a sequence by: its tokens, generated ones of another kind
/// as their complements, which no token of a prompt is.
class BlockKeys {
 public:
  BlockKeys(const SequenceKv& kv, std::span<const int32_t> tokens, int32_t block_size)
      : first_generated_(kv.first_generated), tokens_(tokens), block_size_(block_size) {}

  /// Valid until the next call.
  std::span<const int32_t> operator[](int32_t block) {
    const int32_t begin = block * block_size_;
    const auto ids = tokens_.subspan(static_cast<size_t>(begin), static_cast<size_t>(block_size_));
    if (begin + block_size_ <= first_generated_) return ids;
    marked_.assign(ids.begin(), ids.end());
    for (int32_t i = std::max(0, first_generated_ - begin); i < block_size_; ++i) {
      int32_t& id = marked_[static_cast<size_t>(i)];
      id = ~id;
    }
    return marked_;
  }

 private:
  const int32_t first_generated_;
  const std::span<const int32_t> tokens_;
  const int32_t block_size_;
  std::vector<int32_t> marked_;
};

}  // namespace

KvCacheManager::KvCacheManager(std::vector<KvGroup> groups, int32_t block_size, Options options)
    : groups_(std::move(groups)),
      block_size_(block_size),
      options_(options),
      prefixes_(BlockCounts(groups_), options.hash) {
  MODU_CHECK(!groups_.empty() && block_size > 0);
  for (const KvGroup& group : groups_)
    pools_.push_back(std::make_unique<BlockPool>(group.num_blocks));
}

KvCacheManager::~KvCacheManager() = default;

SequenceKv KvCacheManager::NewSequence(CacheScope scope) const {
  SequenceKv kv;
  kv.scope = scope;
  kv.tables.resize(groups_.size());
  return kv;
}

PrefixHit KvCacheManager::Match(const SequenceKv& kv, std::span<const int32_t> tokens,
                                int32_t max_tokens) const {
  PrefixHit hit;
  hit.idle_blocks.assign(groups_.size(), 0);
  if (!options_.prefix_cache) return hit;
  const int32_t limit = std::min(max_tokens, static_cast<int32_t>(tokens.size())) / block_size_;
  BlockKeys keys(kv, tokens, block_size_);
  const PrefixNode* parent = nullptr;
  for (int32_t b = 0; b < limit; ++b) {
    PrefixNode* node = prefixes_.Find(parent, kv.scope, keys[b]);
    if (node == nullptr) break;
    hit.nodes.push_back(node);
    parent = node;
  }
  // Shorten until every group has the blocks that the token after the prefix reads.
  int32_t length = static_cast<int32_t>(hit.nodes.size());
  for (bool shortened = true; shortened && length > 0;) {
    shortened = false;
    for (size_t g = 0; g < groups_.size() && length > 0; ++g) {
      const int32_t first = FirstBlockRead(length * block_size_, groups_[g].window, block_size_);
      int32_t b = length - 1;
      while (b >= first && hit.nodes[b]->blocks[g] != kNoBlock) --b;
      if (b < first) continue;
      // Block b is missing. A full group can serve what lies before it; so can a sliding one at
      // best.
      length = b;
      shortened = true;
    }
  }
  hit.nodes.resize(length);
  hit.num_tokens = length * block_size_;
  for (size_t g = 0; g < groups_.size(); ++g) {
    for (int32_t b = FirstBlockRead(hit.num_tokens, groups_[g].window, block_size_); b < length;
         ++b) {
      if (pools_[g]->idle(hit.nodes[b]->blocks[g])) ++hit.idle_blocks[g];
    }
  }
  return hit;
}

void KvCacheManager::Attach(const PrefixHit& hit, SequenceKv* kv) {
  MODU_CHECK(kv->nodes.empty());
  kv->nodes = hit.nodes;
  kv->num_hit_blocks = static_cast<int32_t>(hit.nodes.size());
  for (PrefixNode* node : kv->nodes) prefixes_.Pin(node);
  for (size_t g = 0; g < groups_.size(); ++g) {
    MODU_CHECK(kv->tables[g].size() == 0);
    const int32_t first = FirstBlockRead(hit.num_tokens, groups_[g].window, block_size_);
    for (int32_t b = 0; b < kv->num_hit_blocks; ++b) {
      if (b < first) {
        kv->tables[g].AppendDropped();
      } else {
        kv->tables[g].Append(pools_[g]->Share(kv->nodes[b]->blocks[g]));
      }
    }
  }
}

BlockHandle KvCacheManager::Allocate(int group, OwnerId owner) {
  BlockPool& pool = *pools_[group];
  if (pool.num_free() == 0) {
    const BlockId evicted = pool.OldestIdle();
    if (evicted != kNoBlock) {
      prefixes_.ClearBlock(group, evicted);
      pool.Discard(evicted);
    }
  }
  return pool.Allocate(owner);
}

bool KvCacheManager::Grow(SequenceKv* kv, int32_t num_tokens) {
  const int32_t wanted = CeilDiv(num_tokens, block_size_);
  for (int g = 0; g < num_groups(); ++g) {
    if (wanted - kv->tables[g].size() > available(g)) return false;
  }
  for (int g = 0; g < num_groups(); ++g) {
    while (kv->tables[g].size() < wanted) {
      BlockHandle block = Allocate(g, kv->scope.tenant);
      MODU_CHECK(static_cast<bool>(block));
      kv->tables[g].Append(std::move(block));
    }
  }
  return true;
}

int32_t KvCacheManager::GrowableTokens(const SequenceKv& kv) const {
  int64_t blocks = std::numeric_limits<int32_t>::max() / block_size_;
  for (int g = 0; g < num_groups(); ++g) {
    blocks = std::min<int64_t>(blocks, int64_t{kv.tables[g].size()} + available(g));
  }
  return static_cast<int32_t>(blocks * block_size_);
}

void KvCacheManager::Settle(SequenceKv* kv, std::span<const int32_t> tokens, int32_t num_computed) {
  const int32_t full = num_computed / block_size_;
  if (options_.prefix_cache) {
    BlockKeys keys(*kv, tokens, block_size_);
    for (int32_t b = static_cast<int32_t>(kv->nodes.size()); b < full; ++b) {
      PrefixNode* parent = kv->nodes.empty() ? nullptr : kv->nodes.back();
      PrefixNode* node = prefixes_.FindOrAdd(parent, kv->scope, keys[b]);
      prefixes_.Pin(node);
      for (int g = 0; g < num_groups(); ++g) {
        const BlockId block = kv->tables[g].id(b);
        // Where another sequence computed the same block first, this one's copy stays its own.
        if (block == kNoBlock || node->blocks[g] != kNoBlock) continue;
        prefixes_.SetBlock(node, g, block);
        pools_[g]->Keep(block);
      }
      kv->nodes.push_back(node);
    }
  }
  for (int g = 0; g < num_groups(); ++g) {
    if (groups_[g].window == 0) continue;
    kv->tables[g].DropBefore(FirstBlockRead(num_computed, groups_[g].window, block_size_));
  }
}

void KvCacheManager::Distrust(SequenceKv* kv) { ForgetFrom(kv->num_hit_blocks, kv); }

void KvCacheManager::ForgetGenerated(SequenceKv* kv) {
  ForgetFrom(std::max(kv->num_hit_blocks, kv->first_generated / block_size_), kv);
}

void KvCacheManager::ForgetFrom(int32_t block, SequenceKv* kv) {
  for (int32_t b = block; b < static_cast<int32_t>(kv->nodes.size()); ++b) {
    for (int g = 0; g < num_groups(); ++g) {
      const BlockId id = kv->tables[g].id(b);
      if (id == kNoBlock || kv->nodes[b]->blocks[g] != id) continue;
      prefixes_.ClearBlock(g, id);  // the node is pinned and stays
      pools_[g]->Discard(id);
    }
  }
}

void KvCacheManager::Release(SequenceKv* kv) {
  for (BlockTable& table : kv->tables) table.Clear();
  for (; !kv->nodes.empty(); kv->nodes.pop_back()) prefixes_.Unpin(kv->nodes.back());
  kv->num_hit_blocks = 0;
}

int32_t KvCacheManager::BlocksFor(int group, int32_t num_tokens) const {
  const int32_t all = CeilDiv(num_tokens, block_size_);
  const int32_t window = groups_[group].window;
  if (window == 0) return all;
  // The window, what may be computed before it is trimmed, and a ragged block at either end.
  const int64_t held = (int64_t{window} + options_.max_unsettled_tokens) / block_size_ + 2;
  return static_cast<int32_t>(std::min<int64_t>(all, held));
}

std::string KvCacheManager::SelfCheck(std::span<const SequenceKv* const> live) const {
  for (int g = 0; g < num_groups(); ++g) {
    const BlockPool& pool = *pools_[g];
    if (std::string wrong = pool.SelfCheck(); !wrong.empty()) return wrong;
    std::vector<int32_t> refs(pool.total(), 0);
    for (const SequenceKv* kv : live) {
      for (int32_t b = 0; b < kv->tables[g].size(); ++b) {
        const BlockId id = kv->tables[g].id(b);
        if (id == kNoBlock) continue;
        ++refs[id];
        if (pool.owner(id) != kv->scope.tenant) return "a sequence holds another tenant's block";
      }
    }
    for (BlockId id = 0; id < pool.total(); ++id) {
      if (refs[id] != pool.ref_count(id)) {
        return "block " + std::to_string(id) + " has " + std::to_string(pool.ref_count(id)) +
               " references, " + std::to_string(refs[id]) + " holders";
      }
      const PrefixNode* node = prefixes_.NodeOf(g, id);
      if ((node != nullptr) != pool.kept(id))
        return "a block is kept without content, or cached without being kept";
      if (node != nullptr && node->scope.tenant != pool.owner(id))
        return "a block is cached for one who does not own it";
    }
  }
  return prefixes_.SelfCheck();
}

}  // namespace modu::engine
