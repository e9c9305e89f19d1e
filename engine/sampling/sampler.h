// Draws tokens from rows of logits. A slot holds what one running sequence's sampler must remember
// (parameters, which tokens it has seen, its random stream); the runner keeps one Sampler and asks
// it row by row. Threads: StartSequence and EndSequence on the engine thread; Sample may run for
// several rows at once, as long as no two of them name the same slot (it touches its own slot and
// its own logits only). Allocates where a slot first needs it. Random numbers are Philox 4x32-10
// (Salmon et al., SC 2011) keyed by the request's seed and counted by the output position, so
// neither neighbours, batching nor preemption can shift them.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/runner/model_runner.h"

namespace modu::engine {

class Sampler {
 public:
  /// vocab_size: floats in a row of logits. eos_ids: what mask_stop masks beside the request's own
  /// stop ids.
  Sampler(int32_t vocab_size, std::vector<int32_t> eos_ids);
  ~Sampler();
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;

  /// As ModelRunner::StartSequence: history is prompt plus output so far, of which the last
  /// num_output are output. Slots are small integers, reused after EndSequence.
  SamplerSlot StartSequence(const SamplingParams& params, const std::vector<int32_t>& history,
                            int32_t num_output);
  void EndSequence(SamplerSlot slot);

  /// One row. `logits` holds vocab_size floats and is scratch afterwards (a token row must have one
  /// SampleRow only). -inf marks ids that cannot be drawn (e.g. above the tokenizer's vocabulary);
  /// NaN, +inf, or nothing left to draw sets numeric_error and remembers nothing. row.target_id >=
  /// 0: reports that token, draws nothing; row.slot is not looked at. Otherwise, in this order:
  /// logit_bias; repetition, presence, frequency penalties; mask_stop; temperature; min_p; top_k;
  /// top_p over what is left, renormalised (vLLM's order). temperature below 1e-5 is greedy:
  /// filters do not matter then. The lower id wins a tie. The drawn token is remembered in the slot
  /// for later penalties. Log probabilities are of the raw distribution: before bias, penalties,
  /// temperature and filters.
  SampledRow Sample(const SampleRow& row, float* logits);

  /// Whether all that Sample gives of a row is the id of the largest logit, the lowest of equals,
  /// and remembers nothing: then it need not be called.
  bool IsArgmax(const SampleRow& row) const;

  int32_t vocab_size() const;
  int32_t num_slots_in_use() const;

 private:
  struct Slot;
  const int32_t vocab_size_;
  const std::vector<int32_t> eos_ids_;
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<SamplerSlot> free_slots_;
};

}  // namespace modu::engine
