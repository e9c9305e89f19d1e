// Paged KV memory over all cache groups: grows sequences block by block, finds and records shared
// prefixes, drops what fell behind a sliding window, evicts idle content when space is needed.
// Knows tokens, blocks and owners, never a Request. Engine thread only; a SequenceKv must be
// released before the manager goes.
#pragma once
#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/kv/block_table.h"
#include "engine/kv/prefix_cache.h"

namespace modu::engine {

/// One cache group: blocks of the layers that share a kind of KV.
struct KvGroup {
  int32_t num_blocks = 0;
  int32_t window = 0;  // 0: full attention; w: a token at position p reads positions (p - w, p]
};

/// One sequence's share of the KV memory.
struct SequenceKv {
  CacheScope scope;
  /// Tokens from here on were generated, and their KV is of another kind than that of equal tokens
  /// of a prompt: neither stands for the other.
  int32_t first_generated = std::numeric_limits<int32_t>::max();
  std::vector<BlockTable> tables;  // per group
  std::vector<PrefixNode*>
      nodes;  // pinned: the full blocks that are in the prefix cache, from the first on
  int32_t num_hit_blocks = 0;  // of nodes: found, not computed by this sequence
};

/// A cached prefix: what Attach can share.
struct PrefixHit {
  int32_t num_tokens = 0;            // a multiple of the block size
  std::vector<PrefixNode*> nodes;    // valid until the manager is next changed
  std::vector<int32_t> idle_blocks;  // per group: how many of the shared blocks nobody holds now
};

class KvCacheManager {
 public:
  struct Options {
    bool prefix_cache = true;
    BlockHash hash = HashBlock;
    int32_t max_unsettled_tokens = 0;  // how far a sequence may grow before its window is trimmed
  };
  KvCacheManager(std::vector<KvGroup> groups, int32_t block_size, Options options);
  ~KvCacheManager();

  SequenceKv NewSequence(CacheScope scope) const;

  /// The longest cached prefix of at most max_tokens that every group can serve: full groups need
  /// all of its blocks, sliding ones those that the next token's window reaches.
  PrefixHit Match(const SequenceKv& kv, std::span<const int32_t> tokens, int32_t max_tokens) const;
  /// Shares the hit's blocks with an empty sequence. Must follow the Match without changes between.
  void Attach(const PrefixHit& hit, SequenceKv* kv);

  /// Makes room for tokens [0, num_tokens), evicting idle blocks. False, and nothing changes, if
  /// there is not enough.
  bool Grow(SequenceKv* kv, int32_t num_tokens);
  /// The most tokens for which Grow would succeed now.
  int32_t GrowableTokens(const SequenceKv& kv) const;

  /// Tokens [0, num_computed) are in memory now: records full blocks in the prefix cache, drops
  /// what no later token reads. `tokens` holds at least that many ids.
  void Settle(SequenceKv* kv, std::span<const int32_t> tokens, int32_t num_computed);
  /// Takes what this sequence computed out of the prefix cache: its content is not to be trusted.
  void Distrust(SequenceKv* kv);
  /// The same of what it generated, where that is of a kind of its own: once it has ended, nobody
  /// will ask for it, and prompts would be evicted before it.
  void ForgetGenerated(SequenceKv* kv);
  void Release(SequenceKv* kv);

  /// The most blocks of the group that a sequence of num_tokens holds at once.
  int32_t BlocksFor(int group, int32_t num_tokens) const;
  int32_t available(int group) const {
    return pools_[group]->num_free() + pools_[group]->num_idle();
  }
  int num_groups() const { return static_cast<int>(groups_.size()); }
  bool caches_prefixes() const { return options_.prefix_cache; }
  int32_t block_size() const { return block_size_; }
  const BlockPool& pool(int group) const { return *pools_[group]; }
  const PrefixCache& prefixes() const { return prefixes_; }

  /// Recounts pools, prefixes and, given every live sequence, references. Empty if all is well.
  std::string SelfCheck(std::span<const SequenceKv* const> live) const;

 private:
  void ForgetFrom(int32_t block, SequenceKv* kv);
  BlockHandle Allocate(int group, OwnerId owner);

  const std::vector<KvGroup> groups_;
  const int32_t block_size_;
  const Options options_;
  std::vector<std::unique_ptr<BlockPool>> pools_;
  PrefixCache prefixes_;
};

}  // namespace modu::engine
