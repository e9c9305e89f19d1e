#include "engine/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <thread>

#include "engine/sampling/philox.h"
#include "tests/catch.h"
#include "tests/sampling/exact_distribution.h"

namespace modu::engine {
namespace {

// Under a sanitizer the memory accesses matter, not the statistics.
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr int kDraws = 3000, kSupportTrials = 40, kHostileTrials = 2000;
#else
constexpr int kDraws = 100000, kSupportTrials = 300, kHostileTrials = 20000;
#endif
constexpr float kInf = std::numeric_limits<float>::infinity();

std::vector<float> NormalLogits(int n, uint32_t seed, float spread) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, spread);
  std::vector<float> logits(n);
  for (float& x : logits) x = normal(random);
  return logits;
}

SampledRow SampleCopy(Sampler& sampler, const SampleRow& row, std::vector<float> logits) {
  return sampler.Sample(row, logits.data());
}

SampleRow RowOf(SamplerSlot slot, int position, int top_logprobs = -1) {
  SampleRow row;
  row.slot = slot;
  row.position = position;
  row.top_logprobs = top_logprobs;
  return row;
}

/// Pearson's test of `draws` draws at consecutive positions of one seed. Rare tokens share a bin.
void CheckDistribution(const std::vector<float>& logits, const SamplingParams& params,
                       const std::string& name, const std::vector<int32_t>& history = {1},
                       int num_output = 0, int draws = kDraws) {
  INFO(name);
  const int n = static_cast<int>(logits.size());
  const std::vector<double> expected = ExactDistribution(logits, params, history, num_output, {});
  Sampler sampler(n, {});
  std::vector<int64_t> counts(n, 0);
  std::vector<float> row = logits;
  // Penalties see what is drawn, so each draw there needs a fresh slot; otherwise one slot serves.
  const bool fresh = num_output > 0 || params.repetition_penalty != 1;
  SamplerSlot slot = fresh ? -1 : sampler.StartSequence(params, history, num_output);
  for (int i = 0; i < draws; ++i) {
    if (fresh) slot = sampler.StartSequence(params, history, num_output);
    const SampledRow drawn = sampler.Sample(RowOf(slot, i), row.data());
    if (fresh) sampler.EndSequence(slot);
    if (drawn.numeric_error || drawn.token_id < 0 || drawn.token_id >= n) FAIL("no token");
    ++counts[drawn.token_id];
  }
  CHECK(row == logits);  // edits are undone
  double chi = 0, rare_expected = 0, rare_count = 0;
  int bins = 0;
  for (int i = 0; i < n; ++i) {
    const double e = expected[i] * draws;
    if (expected[i] == 0) {
      INFO("token " << i << " is filtered out");
      CHECK(counts[i] == 0);
    } else if (e < 10) {
      rare_expected += e;
      rare_count += static_cast<double>(counts[i]);
    } else {
      chi += (counts[i] - e) * (counts[i] - e) / e;
      ++bins;
    }
  }
  if (rare_expected >= 5) {
    chi += (rare_count - rare_expected) * (rare_count - rare_expected) / rare_expected;
    ++bins;
  }
  if (bins < 2) return;
  INFO("chi-square " << chi << " with " << bins - 1 << " degrees");
  CHECK(ChiSquareTail(chi, bins - 1) > 1e-4);
  CHECK(ChiSquareTail(chi, bins - 1) < 1 - 1e-4);
}

TEST_CASE("Philox gives the published vectors") {
  // Random123, kat_vectors, philox4x32 10
  CHECK(Philox4x32({0, 0, 0, 0}, {0, 0}) ==
        std::array<uint32_t, 4>{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u});
  CHECK(Philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}) ==
        std::array<uint32_t, 4>{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu});
  CHECK(Philox4x32({0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u},
                   {0xa4093822u, 0x299f31d0u}) ==
        std::array<uint32_t, 4>{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u});
}

TEST_CASE("Every filter and mixes of them draw from the exact distribution") {
  const std::vector<float> logits = NormalLogits(200, 7, 2.0f);
  SamplingParams p;
  p.seed = 1;
  CheckDistribution(logits, p, "plain");
  p.temperature = 0.6f;
  CheckDistribution(logits, p, "temperature 0.6");
  p.temperature = 2.0f;
  CheckDistribution(logits, p, "temperature 2");
  p = {};
  p.top_k = 20;
  CheckDistribution(logits, p, "top_k");
  p.top_p = 0.8f;
  CheckDistribution(logits, p, "top_k, top_p");
  p.min_p = 0.05f;
  CheckDistribution(logits, p, "top_k, top_p, min_p");
  p = {};
  p.top_p = 0.9f;
  CheckDistribution(logits, p, "top_p");
  p.min_p = 0.02f;
  p.temperature = 1.5f;
  CheckDistribution(logits, p, "top_p, min_p, hot");
  p = {};
  p.min_p = 0.1f;
  CheckDistribution(logits, p, "min_p");
  p = {};
  p.logit_bias = {{3, 5.0f}, {17, -100.0f}, {5, 4.0f}};
  p.seed = 99;
  CheckDistribution(logits, p, "logit_bias");
  p = {};
  p.repetition_penalty = 1.4f;
  p.presence_penalty = 0.5f;
  p.frequency_penalty = 0.7f;
  p.top_k = 100;
  CheckDistribution(logits, p, "penalties", {4, 9, 9, 11, 150, 11, 11, 4}, 4);
  p.repetition_penalty = 1.0f;
  p.presence_penalty = -1.5f;
  p.frequency_penalty = 0;
  CheckDistribution(logits, p, "presence alone", {4, 9, 9, 11, 150, 11, 11, 4}, 4);
}

TEST_CASE("Rows longer than a scan block and not a multiple of anything draw exactly") {
  const std::vector<float> logits = NormalLogits(1531, 3, 1.0f);
  SamplingParams p;
  CheckDistribution(logits, p, "plain 1531");
  p.top_p = 0.7f;
  CheckDistribution(logits, p, "top_p 1531");
  p.top_k = 700;
  CheckDistribution(logits, p, "top_k 700 of 1531");
}

TEST_CASE("A nucleus of few tokens and of many, on rows as models have them") {
  std::mt19937 random(4);
  std::vector<float> logits;
  for (int rank = 1; rank <= 4000; ++rank) {
    logits.push_back(-1.8f * std::log(static_cast<float>(rank)));
  }
  std::shuffle(logits.begin(), logits.end(), random);
  for (const float top_p : {0.0001f, 0.3f, 0.9f, 0.99f, 0.999f, 0.9999f}) {
    CheckDistribution(logits, {.top_p = top_p, .seed = 3}, "top_p " + std::to_string(top_p), {1}, 0,
                      kDraws / 10);
  }
}

TEST_CASE("Ties: the lower id is kept, and a filter that keeps none still keeps one") {
  std::vector<float> logits(64, 1.0f);
  SamplingParams p;
  p.top_k = 5;
  CheckDistribution(logits, p, "equal logits, top_k 5");
  p = {};
  p.top_p = 0.1f;
  CheckDistribution(logits, p, "equal logits, top_p");
  p.top_p = 1e-30f;
  CheckDistribution(logits, p, "top_p near 0");
  p = {};
  p.min_p = 1.0f;
  logits[20] = 2.0f;
  CheckDistribution(logits, p, "min_p 1");
  Sampler sampler(64, {});
  p = {};
  p.temperature = 0;
  logits[50] = 2.0f;
  CHECK(SampleCopy(sampler, RowOf(sampler.StartSequence(p, {0}, 0), 0), logits).token_id == 20);
}

TEST_CASE("The support of random filter settings is the oracle's, on random rows") {
  std::mt19937 random(11);
  const auto pick = [&](double lo, double hi) {
    return std::uniform_real_distribution<double>(lo, hi)(random);
  };
  for (int trial = 0; trial < kSupportTrials; ++trial) {
    const int n = static_cast<int>(pick(1, 900));
    std::vector<float> logits = NormalLogits(n, trial, static_cast<float>(pick(0.1, 6)));
    if (pick(0, 1) < 0.3) {
      for (float& x : logits) x = std::round(x);  // many ties
    }
    SamplingParams p;
    p.seed = trial;
    p.temperature = static_cast<float>(pick(0.05, 2));
    if (pick(0, 1) < 0.5) p.top_k = static_cast<int>(pick(1, 1.2 * n + 1));
    if (pick(0, 1) < 0.5) p.top_p = static_cast<float>(pick(0.01, 1));
    if (pick(0, 1) < 0.5) p.min_p = static_cast<float>(pick(0, 0.5));
    const std::vector<double> exact = ExactDistribution(logits, p, {}, 0, {});
    Sampler sampler(n, {});
    const SamplerSlot slot = sampler.StartSequence(p, {}, 0);
    for (int i = 0; i < 200; ++i) {
      const int32_t id = SampleCopy(sampler, RowOf(slot, i), logits).token_id;
      INFO("trial " << trial << " n " << n << " id " << id);
      REQUIRE(id >= 0);
      REQUIRE(id < n);
      if (exact[id] == 0) {
        // Only an honest tie of float weights against the double oracle may differ: a weight right
        // at a threshold.
        SamplingParams wider = p;
        wider.top_p = std::min(1.0f, p.top_p * 1.00001f);
        wider.min_p = p.min_p * 0.99999f;
        REQUIRE(ExactDistribution(logits, wider, {}, 0, {})[id] > 0);
      }
    }
  }
}

TEST_CASE("Numeric errors and masked ids") {
  for (int n : {1, 5, 16, 17, 300}) {
    for (int at : {0, n / 2, n - 1}) {
      SamplingParams p;
      p.top_k = 3;
      Sampler sampler(n, {});
      const SamplerSlot slot = sampler.StartSequence(p, {0}, 0);
      std::vector<float> logits = NormalLogits(n, 5, 1);
      const std::vector<float> fine = logits;
      for (float evil : {std::nanf(""), kInf}) {
        logits = fine;
        logits[at] = evil;
        CHECK(SampleCopy(sampler, RowOf(slot, 0), logits).numeric_error);
        SampleRow score;
        score.target_id = 0;
        CHECK(SampleCopy(sampler, score, logits).numeric_error);
      }
      logits = fine;
      logits[at] = -kInf;
      const SampledRow row = SampleCopy(sampler, RowOf(slot, 0, 5), logits);
      CHECK(row.numeric_error == (n == 1));
      if (n > 1) {
        CHECK(row.token_id != at);
        CHECK(static_cast<int>(row.top_logprobs.size()) == std::min(5, n - 1));
      }
    }
    Sampler sampler(n, {});
    const SamplerSlot slot = sampler.StartSequence({}, {0}, 0);
    CHECK(SampleCopy(sampler, RowOf(slot, 0), std::vector<float>(n, -kInf)).numeric_error);
  }
}

TEST_CASE("Hostile rows and settings never give an id outside or a masked id") {
  std::mt19937 random(4);
  const float odd[] = {0.0f,   -0.0f, 1e-40f, -1e-40f, 3.4e38f, -3.4e38f,     1e30f,
                       -1e30f, 88.0f, -88.0f, -kInf,   kInf,    std::nanf("")};
  for (int trial = 0; trial < kHostileTrials; ++trial) {
    const int n = 1 + static_cast<int>(random() % 70);
    std::vector<float> logits(n);
    const int kinds = trial % 2 == 0 ? 11 : 13;  // half of them without inf and NaN
    for (float& x : logits) x = odd[random() % kinds];
    SamplingParams p;
    const float temperatures[] = {0.0f, 1e-30f, 1e-5f, 1e-3f, 1.0f, 2.0f};
    const float penalties[] = {1.0f, 1e-30f, 1e30f, 1.3f};
    p.temperature = temperatures[random() % 6];
    p.top_k = static_cast<int32_t>(random() % 4) * 9;
    p.top_p = (random() % 2) != 0u ? 1.0f : 0.5f;
    p.min_p = (random() % 2) != 0u ? 0.0f : 0.3f;
    p.repetition_penalty = penalties[random() % 4];
    p.presence_penalty = (random() % 2) != 0u ? 0.0f : 2.0f;
    p.stop_token_ids = {static_cast<int32_t>(random() % n), n + 5, -3};
    p.logit_bias = {{static_cast<int32_t>(random() % n), 100.0f}, {n, 1.0f}, {-1, 1.0f}};
    Sampler sampler(n, {0});
    const SamplerSlot slot =
        sampler.StartSequence(p, {0, static_cast<int32_t>(random() % n), n + 1, -7}, 1);
    SampleRow row = RowOf(slot, trial, 3);
    row.mask_stop = random() % 2 != 0;
    std::vector<float> copy = logits;
    const SampledRow out = sampler.Sample(row, copy.data());
    bool bad = false, any = false;
    for (int i = 0; i < n; ++i) {
      bad |= std::isnan(logits[i]) || logits[i] == kInf;
      any |= logits[i] != -kInf && !(row.mask_stop && (i == 0 || i == p.stop_token_ids[0]));
    }
    INFO("trial " << trial);
    REQUIRE(out.numeric_error == (bad || !any));
    if (out.numeric_error) continue;
    REQUIRE(out.token_id >= 0);
    REQUIRE(out.token_id < n);
    REQUIRE(logits[out.token_id] != -kInf);
    if (row.mask_stop) REQUIRE((out.token_id != 0 && out.token_id != p.stop_token_ids[0]));
    REQUIRE(!std::isnan(out.logprob));
    REQUIRE(out.logprob <= 1e-3f);
  }
}

TEST_CASE("Log probabilities are of the raw distribution, best first") {
  const int n = 49152;
  std::vector<float> logits = NormalLogits(n, 21, 3);
  SamplingParams p;
  p.temperature = 0.3f;
  p.repetition_penalty = 2.0f;
  p.logit_bias = {{12, 50.0f}};
  Sampler sampler(n, {});
  const SampledRow row =
      SampleCopy(sampler, RowOf(sampler.StartSequence(p, {12, 13}, 1), 0, 20), logits);
  CHECK(row.token_id == 12);
  double sum = 0;
  for (float x : logits) sum += std::exp(static_cast<double>(x));
  CHECK(std::abs(row.logprob - (logits[12] - std::log(sum))) < 2e-5);
  std::vector<std::pair<float, int>> order;
  for (int i = 0; i < n; ++i) order.emplace_back(-logits[i], i);
  std::sort(order.begin(), order.end());
  REQUIRE(row.top_logprobs.size() == 20);
  for (int i = 0; i < 20; ++i) {
    CHECK(row.top_logprobs[i].token_id == order[i].second);
    CHECK(std::abs(row.top_logprobs[i].logprob - (-order[i].first - std::log(sum))) < 2e-5);
  }
  SampleRow score;
  score.target_id = 777;
  score.top_logprobs = 0;
  const SampledRow scored = SampleCopy(sampler, score, logits);
  CHECK(scored.token_id == 777);
  CHECK(scored.top_logprobs.empty());
  CHECK(std::abs(scored.logprob - (logits[777] - std::log(sum))) < 2e-5);
}

TEST_CASE("min_tokens masks EOS and stop ids only while asked to") {
  std::vector<float> logits(32, 0.0f);
  logits[2] = 9;
  logits[7] = 8;
  logits[5] = 7;
  SamplingParams p;
  p.temperature = 0;
  p.stop_token_ids = {7};
  Sampler sampler(32, {2});
  const SamplerSlot slot = sampler.StartSequence(p, {1}, 0);
  SampleRow row = RowOf(slot, 0);
  row.mask_stop = true;
  CHECK(SampleCopy(sampler, row, logits).token_id == 5);
  row.mask_stop = false;
  CHECK(SampleCopy(sampler, row, logits).token_id == 2);
}

TEST_CASE("A sequence restarted with its history goes on exactly as if it had never stopped") {
  SamplingParams p;
  p.seed = 1234;
  p.temperature = 1.2f;
  p.top_p = 0.95f;
  p.frequency_penalty = 0.8f;
  p.repetition_penalty = 1.2f;
  const int n = 500;
  const std::vector<int32_t> prompt = {3, 4, 5, 3};
  Sampler sampler(n, {});
  std::vector<int32_t> whole = prompt;
  const SamplerSlot slot = sampler.StartSequence(p, prompt, 0);
  for (int i = 0; i < 60; ++i) {
    whole.push_back(SampleCopy(sampler, RowOf(slot, i), NormalLogits(n, 100 + i, 2)).token_id);
  }
  for (int cut : {1, 17, 59}) {
    std::vector<int32_t> history(whole.begin(),
                                 whole.begin() + static_cast<long>(prompt.size()) + cut);
    const SamplerSlot again = sampler.StartSequence(p, history, cut);
    for (int i = cut; i < 60; ++i) {
      history.push_back(SampleCopy(sampler, RowOf(again, i), NormalLogits(n, 100 + i, 2)).token_id);
    }
    CHECK(history == whole);
    sampler.EndSequence(again);
  }
  CHECK(sampler.num_slots_in_use() == 1);
}

TEST_CASE("What IsArgmax says needs no sampler: the largest logit and nothing else") {
  const int n = 700;
  Sampler sampler(n, {5});
  const std::vector<float> logits = NormalLogits(n, 31, 2);
  const auto largest =
      static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  SamplingParams greedy;
  greedy.temperature = 0;
  greedy.top_k = 3;  // filters do not matter
  greedy.top_p = 0.1f;
  const SamplerSlot plain = sampler.StartSequence(greedy, {1, 2, 3}, 1);
  REQUIRE(sampler.IsArgmax(RowOf(plain, 0)));
  const SampledRow drawn = SampleCopy(sampler, RowOf(plain, 0), logits);
  CHECK(drawn.token_id == largest);
  CHECK(drawn.top_logprobs.empty());

  CHECK_FALSE(sampler.IsArgmax(RowOf(plain, 0, /*top_logprobs=*/0)));
  SampleRow masked = RowOf(plain, 0);
  masked.mask_stop = true;
  CHECK_FALSE(sampler.IsArgmax(masked));
  SampleRow target;
  target.target_id = 4;
  CHECK_FALSE(sampler.IsArgmax(target));
  const auto with = [&](auto change) {
    SamplingParams params = greedy;
    change(params);
    const SamplerSlot slot = sampler.StartSequence(params, {1, 2, 3}, 1);
    return sampler.IsArgmax(RowOf(slot, 0));
  };
  CHECK(with([](SamplingParams& p) { p.temperature = 1e-6f; }));
  CHECK_FALSE(with([](SamplingParams& p) { p.temperature = 0.5f; }));
  CHECK_FALSE(with([](SamplingParams& p) { p.repetition_penalty = 1.1f; }));
  CHECK_FALSE(with([](SamplingParams& p) { p.presence_penalty = 0.1f; }));
  CHECK_FALSE(with([](SamplingParams& p) { p.frequency_penalty = -0.1f; }));
  CHECK_FALSE(with([](SamplingParams& p) { p.logit_bias = {{7, 1.0f}}; }));
}

TEST_CASE("Rows sampled at once from several threads give what they give one by one") {
  const int n = 3000, slots = 8, steps = 40;
  SamplingParams p;
  p.top_p = 0.9f;
  p.presence_penalty = 0.5f;
  const auto run = [&](bool threaded) {
    Sampler sampler(n, {});
    std::vector<std::vector<int32_t>> out(slots);
    for (int s = 0; s < slots; ++s) {
      p.seed = s;
      REQUIRE(sampler.StartSequence(p, {s}, 0) == s);
    }
    const auto one = [&](int s) {
      for (int i = 0; i < steps; ++i) {
        out[s].push_back(
            SampleCopy(sampler, RowOf(s, i), NormalLogits(n, s * 1000 + i, 2)).token_id);
      }
    };
    std::vector<std::thread> threads;
    for (int s = 0; s < slots; ++s) {
      if (threaded) {
        threads.emplace_back(one, s);
      } else {
        one(s);
      }
    }
    for (std::thread& thread : threads) thread.join();
    return out;
  };
  CHECK(run(true) == run(false));
}

}  // namespace
}  // namespace modu::engine
