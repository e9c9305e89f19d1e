// The seam between scheduling and arithmetic. A step is a flat, copyable packet; Launch hands it
// over, Wait gives its tokens. Up to pipeline_depth() steps may be in flight: an input id may then
// name a row of the step before, whose token the host has not seen. Implementations:
// TransformerRunner (engine/model over a Device) and the tests' fake. Engine thread only.
#pragma once
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/request/request.h"

namespace modu::engine {

/// Input id that means "the token that sample row r of the previous step drew".
constexpr int32_t PreviousSample(int32_t row) { return -1 - row; }

/// Sampler state of one running sequence, kept by the runner from StartSequence to EndSequence.
using SamplerSlot = int32_t;

/// Block table and slots of one cache group.
struct GroupInput {
  std::vector<int64_t> slot_mapping;  // [T] block * block_size + offset
  std::vector<int32_t> block_table;   // [S, block_table_stride]
  int32_t block_table_stride = 0;

  /// Of a table's row, for who fills it again: whose blocks it names and how many. Not a runner's.
  struct Row {
    uint64_t sequence = 0;
    int32_t epoch = 0;
    int32_t num_blocks = 0;
  };
  std::vector<Row> rows;  // [S]
};

/// A row whose logits are wanted.
struct SampleRow {
  int32_t token_row = 0;      // row of the flat batch
  SamplerSlot slot = -1;      // who samples; -1: prompt logprobs only
  int32_t position = 0;       // output index of the token to draw: the counter of the random stream
  bool mask_stop = false;     // min_tokens not reached: EOS and stop ids cannot be drawn
  int32_t top_logprobs = -1;  // as SamplingParams
  /// A guess is checked: the row before is the same slot's, one output token earlier, and this one
  /// is drawn only if that one drew the token that this one's token row reads. Else it draws
  /// nothing: token_id -1.
  bool after_draft = false;
  int32_t target_id = -1;  // >= 0: report this token's logprob instead of drawing (prompt logprobs)
};

struct ForwardInput {
  uint64_t step = 0;
  std::vector<int32_t> token_ids;   // [T]
  std::vector<int32_t> positions;   // [T]
  std::vector<int32_t> cu_seqlens;  // [S+1]
  std::vector<int32_t> seq_lens;    // [S]
  int32_t num_generated_seqs = 0;   // the first ones', all of whose tokens here were generated
  std::vector<GroupInput> groups;   // one per cache group
  std::vector<SampleRow> sample_rows;
  /// Not 0: the step is a prompt's of one sequence, and may end with fewer tokens, these or more,
  /// where somebody arrives who would wait for it (WatchArrivals).
  int32_t least_tokens = 0;
};

struct SampledRow {
  int32_t token_id = -1;
  float logprob = 0;
  std::vector<TokenLogprob> top_logprobs;
  bool numeric_error =
      false;  // NaN or inf in the logits: that request fails, its batch mates do not
};

struct StepOutput {
  absl::Status status;                    // not OK: the whole step failed
  std::vector<SampledRow> rows;           // one per sample row
  int64_t forward_ns = 0, sample_ns = 0;  // where the time went, for the metrics; 0: not measured
  int64_t prompt_ns = 0;  // of forward_ns, what prompts took where they go apart; 0: not known
  /// Of a step that ended early how many tokens were computed, the first ones: it has no rows. -1:
  /// all were.
  int32_t num_tokens = -1;
  /// The step's, given back, of a failed one too, its groups untouched: the next one's is written
  /// over it, and of its block tables only what has changed. Empty: the runner keeps it.
  ForwardInput input;
};

struct StepHandle {
  uint64_t step = 0;
};

/// What the scheduler must know of a cache group.
struct CacheGroupSpec {
  std::string kind;        // "full", "sliding"
  int32_t block_size = 0;  // tokens
  int32_t num_blocks = 0;
  int32_t window = 0;  // 0: full attention
};

struct RunnerSpec {
  std::vector<CacheGroupSpec> groups;
  int32_t vocab_size = 0;
  int32_t max_model_len = 0;     // tokens of prompt and output together
  int32_t max_batch_tokens = 0;  // T of the largest step that buffers were made for
  int32_t max_sequences = 0;
  std::vector<int32_t> eos_ids;
  /// Generated tokens are computed otherwise than a prompt's: no sequence has both in one step, and
  /// KV of the one never stands for the other.
  bool phased = false;
};

class ModelRunner {
 public:
  virtual ~ModelRunner() = default;
  virtual const RunnerSpec& spec() const = 0;
  virtual int pipeline_depth() const = 0;

  /// Makes sampler state; history is prompt plus output so far (a preempted sequence resumes with
  /// both), of which the last num_output tokens are output.
  virtual SamplerSlot StartSequence(const SamplingParams& params,
                                    const std::vector<int32_t>& history, int32_t num_output) = 0;
  virtual void EndSequence(SamplerSlot slot) = 0;

  /// Steps take effect in the order of their launch, also on the KV: a block that step N used may
  /// be given to another sequence in step N+1 while N is still under way. EndSequence is called
  /// once no launched step names the slot. A step launched after one that then failed may name rows
  /// of it: what it computes for them is thrown away.
  virtual StepHandle Launch(ForwardInput input) = 0;
  /// Handles are waited for in the order of their launch.
  virtual StepOutput Wait(StepHandle handle) = 0;

  /// *arrived is true, set by any thread, while somebody has come whom no launched step knows.
  virtual void WatchArrivals(const std::atomic<bool>* /*arrived*/) {}
};

}  // namespace modu::engine
