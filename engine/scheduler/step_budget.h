// How much prefill a step may carry beside its decodes, so that the gap between two tokens of a
// running stream stays within a small multiple of what it will be once the newcomers decode too (a
// crowd of 64 is not let in at the pace of the first one's steps), and how much one of prefill
// alone, so that newcomers soon have their turn. Learned from measured steps, so that the same
// bound holds on every machine and follows one that slows down: normalised least mean squares
// (Widrow and Hoff, 1960), which needs no history and moves only the weights that a step has
// something to say about; and how far off it usually is, by which it plans less, so that few steps
// and not half of them are over the bound. One thread; pure arithmetic, no clock.
#pragma once
#include <cstdint>

namespace modu::engine {

struct StepBudgetOptions {
  /// A step with decodes and prefill may take this many times as long as one that decodes those who
  /// do and those who are to join them (crowd.h); 0: no bound, nor one on prefill alone.
  double max_slowdown = 2.3;
  /// A step may always take this long: a bound that nobody can see would only cost throughput.
  int64_t min_step_ns = 20'000'000;
  /// A step carries this many prefill tokens whatever they cost: prompts must get on.
  int32_t min_prefill_tokens = 16;
  /// A step of prefill alone ends within this time, for who arrives waits for its end, but carries
  /// these tokens whatever they cost: smaller chunks cost more each. (SmolLM2-135M on two cores
  /// with AMX: in chunks of 512 a prompt takes 0.91 of what it takes in chunks of 256, in one step
  /// of 1,500 0.93 of what it takes in chunks of 512.)
  int64_t max_alone_ns = 100'000'000;
  int32_t min_alone_tokens = 256;
  /// While nobody arrives beside others, that time doubles with each such step, up to this one: a
  /// prompt that is alone on the server need not pay for those who do not come. Who does come then
  /// waits for half of max_alone_ns, or for what min_alone_tokens take, as such a step is cut short
  /// for him (FitAwaited), and the next for no longer steps, unless two have passed.
  int64_t max_quiet_ns = 500'000'000;
  /// Prefill beside decodes goes through the model by itself, with weights of its own, so that its
  /// first token costs more than others.
  bool prefill_apart = false;
  /// Of such prefill as many tokens cost what one does (rows of a tile): where it is cut, a step
  /// carries the multiple that comes nearest to its budget.
  int32_t apart_grain = 16;
};

/// What decides how long a step takes, and how long it was to take.
struct StepShape {
  int32_t decodes = 0;  // tokens of sequences that decode: one each, and what is guessed after it
  int32_t prefill_tokens = 0;  // of all others
  int64_t prefill_pairs = 0;   // (token, earlier token) pairs that prefill's attention looks at
  double bound_ns = 0;         // from StepBudget::Begin; 0: no bound
  double prefill_ns = 0;       // of what it took, its prefill's part; 0: nobody can tell
  bool recomputes_answers = false;  // of prefill_tokens some were generated: no prompt's cost
};

class StepBudget {
 public:
  explicit StepBudget(StepBudgetOptions options)
      : options_(options), alone_ns_(static_cast<double>(options.max_alone_ns)) {}

  /// A request came while others were in: who comes next is not to wait for long.
  void Arrived() { alone_ns_ = static_cast<double>(options_.max_alone_ns); }

  /// ns <= 0 (the backend measures nothing) teaches nothing.
  void Learn(const StepShape& shape, int64_t ns);

  /// Starts a plan: prefill beside `decodes` tokens, or alone, where `coming` sequences will soon
  /// decode together. Returns the step's bound in ns; 0: it has none.
  double Begin(int32_t decodes, int32_t coming);
  /// The tokens of a chunk from position `first` on that still fit, at most `wanted`.
  int32_t Fit(int32_t first, int32_t wanted) const;
  /// The same of a chunk that is a whole step and for whose end somebody waits, who came while it
  /// was under way: of half the time, since it takes the same until he is read himself.
  int32_t FitAwaited(int32_t first, int32_t wanted) const;
  void Take(int32_t first, int32_t num_tokens);

  /// A part of the budget that is kept for a chunk from `first` on, until it is given back: then so
  /// many tokens fit, even if others' tiles took more than was left.
  struct Share {
    int32_t tokens = 0;
    double ns = 0;
  };
  Share Hold(int32_t first, int32_t num_tokens);
  void GiveBack(const Share& share);

  /// Steps with decodes and prefill so far, and those of them that were bounded and took longer.
  int64_t mixed_steps() const { return mixed_seen_; }
  int64_t steps_over_bound() const { return over_bound_; }

  double max_slowdown() const { return options_.max_slowdown; }
  double DecodeNs(int32_t decodes) const;
  double PrefillNs(int32_t first, int32_t num_tokens) const;

 private:
  void GrowQuiet();
  /// Tokens from `first` on that take so long.
  double TokensWithin(int32_t first, double ns) const;
  double Surprise(double took, double predicted, int64_t* seen) const;
  void LearnDecodes(const StepShape& shape, double took);
  void LearnPrefill(const StepShape& shape, double took);
  double ChunkNs(const StepShape& shape) const;
  void KeepDecodesDearest(const StepShape& shape);
  void LearnDeviation(double relative_error);

  StepBudgetOptions options_;
  double alone_ns_;  // of the next step of prefill alone
  // What a step takes: once, for each decode; for prefill that goes apart once, for each of its
  // tokens, for each pair.
  double once_ns_ = 0, decode_ns_ = 0, apart_ns_ = 0, token_ns_ = 0, pair_ns_ = 0;
  int64_t decodes_seen_ = 0, prefills_seen_ = 0, mixed_seen_ = 0;  // steps of one kind, of both
  int64_t over_bound_ = 0;
  double variance_ = 0;  // of mixed steps' time, relative to what was predicted
  double left_ns_ = 0;   // infinite: no bound
  int32_t left_minimum_ = 0;
  int32_t grain_ = 1, taken_ = 0;  // tokens of the plan, held ones too
};

/// Pairs of a chunk: each token looks at itself and all before it.
constexpr int64_t PrefillPairs(int32_t first, int32_t num_tokens) {
  return int64_t{first} * num_tokens + int64_t{num_tokens} * (num_tokens + 1) / 2;
}

}  // namespace modu::engine
