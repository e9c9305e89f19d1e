#include "engine/kv/kv_cache_manager.h"

#include <numeric>

#include "tests/catch.h"

namespace modu::engine {
namespace {

std::vector<int32_t> Tokens(int n, int first = 1) {
  std::vector<int32_t> tokens(n);
  std::iota(tokens.begin(), tokens.end(), first);
  return tokens;
}

KvCacheManager::Options WithHash(BlockHash hash) {
  KvCacheManager::Options options;
  options.hash = hash;
  return options;
}

/// Computes `tokens` in one go and lets the sequence end.
void Fill(KvCacheManager& kv, CacheScope scope, const std::vector<int32_t>& tokens) {
  SequenceKv sequence = kv.NewSequence(scope);
  REQUIRE(kv.Grow(&sequence, static_cast<int32_t>(tokens.size())));
  kv.Settle(&sequence, tokens, static_cast<int32_t>(tokens.size()));
  const SequenceKv* live[] = {&sequence};
  REQUIRE(kv.SelfCheck(live) == "");
  kv.Release(&sequence);
  REQUIRE(kv.SelfCheck({}) == "");
}

int32_t HitOf(const KvCacheManager& kv, CacheScope scope, const std::vector<int32_t>& tokens) {
  return kv.Match(kv.NewSequence(scope), tokens, static_cast<int32_t>(tokens.size())).num_tokens;
}

TEST_CASE("Generated tokens of a kind of their own never stand for a prompt's, nor the reverse") {
  KvCacheManager kv({{50, 0}}, 4, {});
  const auto generating = [&](int32_t num_prompt) {
    SequenceKv sequence = kv.NewSequence({1, 0});
    sequence.first_generated = num_prompt;
    return sequence;
  };
  const auto hit = [&](int32_t num_prompt, int n) {
    return kv.Match(generating(num_prompt), Tokens(n), n).num_tokens;
  };
  SequenceKv answer = generating(6);
  REQUIRE(kv.Grow(&answer, 16));
  kv.Settle(&answer, Tokens(16), 16);
  kv.Release(&answer);
  CHECK(hit(6, 16) == 16);  // preempted, and back
  CHECK(hit(6, 40) == 16);
  CHECK(hit(16, 16) == 4);  // the same tokens, all of a prompt: the first block alone
  CHECK(hit(5, 16) == 4);   // another border within the second block
  CHECK(hit(4, 16) == 4);
  CHECK(hit(7, 16) == 4);
  CHECK(HitOf(kv, {1, 0}, Tokens(16)) == 4);  // where phases do not matter, all are as a prompt's
  SequenceKv prompt = generating(16);
  REQUIRE(kv.Grow(&prompt, 16));
  kv.Settle(&prompt, Tokens(16), 16);
  CHECK(hit(16, 16) == 16);
  CHECK(hit(6, 16) == 16);
  CHECK(hit(8, 16) == 8);
  CHECK(hit(12, 16) == 12);
  kv.Release(&prompt);
  REQUIRE(kv.SelfCheck({}) == "");

  // What an answer leaves is given up before any prompt is evicted.
  const int32_t cached = kv.pool(0).num_idle();
  SequenceKv ended = generating(6);
  kv.Attach(kv.Match(ended, Tokens(24), 12), &ended);
  REQUIRE(ended.num_hit_blocks == 3);
  REQUIRE(kv.Grow(&ended, 24));
  kv.Settle(&ended, Tokens(24), 24);
  const SequenceKv* live[] = {&ended};
  kv.ForgetGenerated(&ended);
  REQUIRE(kv.SelfCheck(live) == "");
  kv.Release(&ended);
  REQUIRE(kv.SelfCheck({}) == "");
  CHECK(kv.pool(0).num_idle() == cached);
  CHECK(hit(6, 24) == 16);
  CHECK(hit(16, 16) == 16);
  SequenceKv plain = kv.NewSequence({1, 0});  // where phases do not matter nothing is forgotten
  REQUIRE(kv.Grow(&plain, 24));
  kv.Settle(&plain, Tokens(24), 24);
  kv.ForgetGenerated(&plain);
  kv.Release(&plain);
  CHECK(HitOf(kv, {1, 0}, Tokens(24)) == 24);
}

TEST_CASE(
    "Only full blocks are cached, found by every token before them, under one tenant and salt") {
  for (BlockHash hash :
       {HashBlock, BlockHash{[](uint64_t, std::span<const int32_t>) -> uint64_t { return 0; }}}) {
    KvCacheManager kv({{50, 0}}, 4, WithHash(hash));
    Fill(kv, {1, 0}, Tokens(14));
    CHECK(HitOf(kv, {1, 0}, Tokens(14)) == 12);
    CHECK(HitOf(kv, {1, 0}, Tokens(40)) == 12);
    CHECK(HitOf(kv, {1, 0}, Tokens(11)) == 8);
    CHECK(HitOf(kv, {2, 0}, Tokens(14)) == 0);
    CHECK(HitOf(kv, {1, 5}, Tokens(14)) == 0);
    std::vector<int32_t> other = Tokens(14);
    other[5] = 99;
    CHECK(HitOf(kv, {1, 0}, other) == 4);
    CHECK(kv.Match(kv.NewSequence({1, 0}), Tokens(12), 11).num_tokens == 8);
    // The same block of tokens after something else is not the same block.
    std::vector<int32_t> shifted = Tokens(4, 50);
    const std::vector<int32_t> tail = Tokens(8);
    shifted.insert(shifted.end(), tail.begin(), tail.end());
    CHECK(HitOf(kv, {1, 0}, shifted) == 0);
    Fill(kv, {1, 0}, shifted);
    CHECK(HitOf(kv, {1, 0}, shifted) == 12);
    CHECK(HitOf(kv, {1, 0}, Tokens(14)) == 12);
  }
}

TEST_CASE("Hash quality: blocks that differ in one token, in order, or by parent differ") {
  std::vector<uint64_t> seen;
  std::vector<int32_t> tokens = Tokens(32);
  for (int i = 0; i < 32; ++i) {
    for (int delta : {1, 2, 1 << 20, -1}) {
      tokens[i] += delta;
      seen.push_back(HashBlock(1, tokens));
      tokens[i] -= delta;
    }
  }
  std::swap(tokens[3], tokens[4]);
  seen.push_back(HashBlock(1, tokens));
  std::swap(tokens[3], tokens[4]);
  for (uint64_t parent = 0; parent < 100; ++parent) seen.push_back(HashBlock(parent, tokens));
  seen.push_back(HashBlock(0, std::span(tokens).first(31)));
  std::sort(seen.begin(), seen.end());
  CHECK(std::adjacent_find(seen.begin(), seen.end()) == seen.end());
}

TEST_CASE(
    "Growing takes idle content when nothing is free, and changes nothing when there is not "
    "enough") {
  KvCacheManager kv({{6, 0}}, 4, {});
  Fill(kv, {1, 0}, Tokens(24));
  CHECK(kv.pool(0).num_idle() == 6);
  SequenceKv a = kv.NewSequence({2, 0});
  CHECK(kv.GrowableTokens(a) == 24);
  REQUIRE(kv.Grow(&a, 9));
  CHECK(kv.pool(0).num_idle() == 3);
  CHECK(HitOf(kv, {1, 0}, Tokens(24)) == 12);  // the tail went first
  SequenceKv b = kv.NewSequence({1, 0});
  kv.Attach(kv.Match(b, Tokens(24), 12), &b);
  CHECK(!kv.Grow(&b, 13));
  CHECK(b.tables[0].size() == 3);
  CHECK(kv.GrowableTokens(b) == 12);
  const SequenceKv* live[] = {&a, &b};
  CHECK(kv.SelfCheck(live) == "");
  kv.Release(&a);
  CHECK(kv.Grow(&b, 13));
  kv.Release(&b);
  CHECK(kv.SelfCheck({}) == "");
}

TEST_CASE("The tenant that holds most loses first") {
  KvCacheManager kv({{10, 0}}, 4, {});
  Fill(kv, {2, 0}, Tokens(12));  // older, and smaller
  Fill(kv, {1, 0}, Tokens(28));
  SequenceKv sequence = kv.NewSequence({3, 0});
  REQUIRE(kv.Grow(&sequence, 16));
  CHECK(HitOf(kv, {2, 0}, Tokens(12)) == 12);
  CHECK(HitOf(kv, {1, 0}, Tokens(28)) == 12);
  kv.Release(&sequence);
}

TEST_CASE(
    "Two writers of one block: one is shared, the other's copy stays its own and is freed with "
    "it") {
  KvCacheManager kv({{10, 0}}, 4, {});
  SequenceKv a = kv.NewSequence({0, 0}), b = kv.NewSequence({0, 0});
  for (SequenceKv* sequence : {&a, &b}) {
    REQUIRE(kv.Grow(sequence, 8));
    kv.Settle(sequence, Tokens(8), 8);
  }
  const SequenceKv* live[] = {&a, &b};
  CHECK(kv.SelfCheck(live) == "");
  CHECK(kv.prefixes().num_nodes() == 2);
  kv.Release(&b);
  CHECK(kv.pool(0).num_idle() == 0);
  kv.Release(&a);
  CHECK(kv.pool(0).num_idle() == 2);
  CHECK(kv.pool(0).num_free() == 8);
  CHECK(kv.SelfCheck({}) == "");
}

TEST_CASE("What is distrusted is neither found nor kept; what was only shared stays") {
  KvCacheManager kv({{10, 0}}, 4, {});
  Fill(kv, {0, 0}, Tokens(8));
  SequenceKv sick = kv.NewSequence({0, 0});
  kv.Attach(kv.Match(sick, Tokens(16), 15), &sick);
  REQUIRE(kv.Grow(&sick, 16));
  kv.Settle(&sick, Tokens(16), 16);
  CHECK(HitOf(kv, {0, 0}, Tokens(16)) == 16);
  kv.Distrust(&sick);
  CHECK(HitOf(kv, {0, 0}, Tokens(16)) == 8);
  const SequenceKv* live[] = {&sick};
  CHECK(kv.SelfCheck(live) == "");
  kv.Release(&sick);
  CHECK(kv.pool(0).num_idle() == 2);
  CHECK(kv.prefixes().num_nodes() == 2);
  CHECK(kv.SelfCheck({}) == "");
}

TEST_CASE("A hit is the longest that every group can serve") {
  // Window 6 in blocks of 4: the token after a prefix of n reads positions n-5..n-1.
  KvCacheManager kv({{40, 0}, {8, 6}}, 4, {});
  SequenceKv sequence = kv.NewSequence({0, 0});
  const std::vector<int32_t> tokens = Tokens(32);
  for (int n = 4; n <= 32; n += 4) {
    REQUIRE(kv.Grow(&sequence, n));
    kv.Settle(&sequence, tokens, n);
    CHECK(sequence.tables[1].num_held() <= 2 + 1);
  }
  CHECK(sequence.tables[0].num_held() == 8);
  kv.Release(&sequence);
  CHECK(HitOf(kv, {0, 0}, tokens) == 32);
  const PrefixHit hit = kv.Match(kv.NewSequence({0, 0}), tokens, 31);
  CHECK(hit.num_tokens == 28);
  SequenceKv next = kv.NewSequence({0, 0});
  kv.Attach(hit, &next);
  CHECK(next.tables[0].num_held() == 7);
  CHECK(next.tables[1].num_held() == 2);  // positions 23..27: blocks 5 and 6
  CHECK(next.tables[1].id(4) == kNoBlock);
  const SequenceKv* live[] = {&next};
  CHECK(kv.SelfCheck(live) == "");
  // A stranger takes the sliding group's oldest content: hits get shorter, never wrong.
  SequenceKv stranger = kv.NewSequence({1, 0});
  REQUIRE(kv.Grow(&stranger, 4 * 6));
  kv.Release(&next);
  const int32_t left = HitOf(kv, {0, 0}, tokens);
  CHECK(left <= 28);
  for (int n = 0; n <= 32; ++n) {
    const PrefixHit shorter = kv.Match(kv.NewSequence({0, 0}), tokens, n);
    const int32_t last = shorter.num_tokens / 4;
    for (int32_t b = std::max(0, (shorter.num_tokens - 5) / 4); b < last; ++b) {
      CHECK(shorter.nodes[b]->blocks[1] != kNoBlock);
    }
    for (int32_t b = 0; b < last; ++b) CHECK(shorter.nodes[b]->blocks[0] != kNoBlock);
  }
  kv.Release(&stranger);
  CHECK(kv.SelfCheck({}) == "");
}

TEST_CASE("Nodes go when nothing needs them") {
  KvCacheManager kv({{4, 0}}, 4, {});
  for (int i = 0; i < 100; ++i) Fill(kv, {0, 0}, Tokens(16, i * 100));
  CHECK(kv.prefixes().num_nodes() == 4);
  CHECK(kv.BlocksFor(0, 17) == 5);
}

}  // namespace
}  // namespace modu::engine
