#include "engine/runner/transformer_runner.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/check.h"
#include "kernels/kv_codes.h"

namespace modu::engine {
namespace {

/// Rows of one head product: bounds the logits (vocab * 4 bytes a row) when prompt logprobs want
/// every row.
constexpr int32_t kMaxLogitRows = 64;

/// False for NaN and both infinities: the row's request fails. Before any masking, which writes
/// -inf itself.
bool AllFinite(const float* logits, int32_t n) {
  // 0 * x is 0 for finite x and NaN otherwise; eight sums keep the loop short of a chain.
  float sums[8] = {};
  int32_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (int lane = 0; lane < 8; ++lane) sums[lane] += 0.0f * logits[i + lane];
  }
  for (; i < n; ++i) sums[0] += 0.0f * logits[i];
  float total = 0;
  for (float sum : sums) total += sum;
  return total == 0.0f;
}

int32_t NumBlocks(int64_t kv_tokens, int32_t block_size) {
  return static_cast<int32_t>((kv_tokens + block_size - 1) / block_size);
}

struct SliceTask {
  Sampler* sampler;
  const SampleRow* rows;
  const int32_t* token_ids;  // of the flat batch
  float* logits;
  int32_t vocab_size, known_ids;  // the tokenizer's are the first ones
  SampledRow* out;
  const int32_t* runs;  // where each run of one slot's rows begins, and the end of the last
};

/// Whether the row checks what follows a wrong guess: it draws nothing. out: the row's own; a slice
/// may begin within a run, out[-1] is then the last row of the slice before.
bool FollowsWrongGuess(const SampleRow& row, const SampledRow* out, const int32_t* token_ids) {
  return row.after_draft && out[-1].token_id != token_ids[row.token_row];
}

void SampleOne(const SliceTask& task, int i) {
  const SampleRow& row = task.rows[i];
  if (FollowsWrongGuess(row, task.out + i, task.token_ids)) return;
  float* logits = task.logits + int64_t{i} * task.vocab_size;
  if (!AllFinite(logits, task.known_ids)) {
    task.out[i].numeric_error = true;
    return;
  }
  std::fill(logits + task.known_ids, logits + task.vocab_size,
            -std::numeric_limits<float>::infinity());
  task.out[i] = task.sampler->Sample(row, logits);
}

/// Rows that check guesses are one slot's: in order, by one worker.
void SampleRun(void* context, int run) {
  const auto& task = *static_cast<const SliceTask*>(context);
  for (int32_t i = task.runs[run]; i < task.runs[run + 1]; ++i) SampleOne(task, i);
}

}  // namespace

absl::StatusOr<std::unique_ptr<TransformerRunner>> TransformerRunner::Create(
    std::unique_ptr<kernels::Device> device, const ModelConfig& config, ModelWeights weights,
    const RunnerOptions& given) {
  RunnerOptions options = given;
  if (options.max_model_len == 0) options.max_model_len = config.max_position;
  if (options.kv_tokens == 0) options.kv_tokens = options.max_model_len;
  if (options.max_model_len < 1 || options.max_model_len > config.max_position) {
    return absl::InvalidArgumentError(
        absl::StrCat("ctx: is ", options.max_model_len, ", the model has ", config.max_position));
  }
  if (options.max_batch_tokens < 1 || options.max_batch_tokens > 65536) {
    return absl::InvalidArgumentError(absl::StrCat("max-step-tokens: is ", options.max_batch_tokens,
                                                   ", possible are 1 to 65536"));
  }
  if (options.max_sequences < 1 || options.max_sequences > options.max_batch_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("max-seqs: is ", options.max_sequences,
                                                   ", possible are 1 to ", options.max_batch_tokens,
                                                   " (tokens of a step)"));
  }
  const kernels::DType kv_dtype = options.kv_dtype.value_or(device->DefaultKvDType());
  options.kv_dtype = kv_dtype;
  if (kv_dtype != kernels::DType::kF32 && kv_dtype != kernels::DType::kBF16 &&
      !kernels::IsKvCode(kv_dtype)) {
    return absl::InvalidArgumentError("kv-dtype: must be f32, bf16, int8 or fp8");
  }
  const int32_t block_size = device->KvBlockSize();
  constexpr int64_t kMaxKvTokens = int64_t{1} << 30;
  if (options.kv_tokens < block_size || options.kv_tokens > kMaxKvTokens) {
    return absl::InvalidArgumentError(absl::StrCat(
        "kv-tokens: is ", options.kv_tokens, ", possible are ", block_size, " to ", kMaxKvTokens));
  }
  const int32_t num_blocks = NumBlocks(options.kv_tokens, block_size);
  const kernels::KvLayout layout{config.num_layers, config.num_kv_heads, config.head_dim,
                                 block_size, kv_dtype};
  const int64_t memory_bytes = kernels::MemoryLimitBytes();
  int64_t kv_bytes = 0;
  if (__builtin_mul_overflow(device->KvBlockBytes(layout), int64_t{num_blocks}, &kv_bytes))
    kv_bytes = INT64_MAX;
  if (kv_bytes > memory_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat("kv-tokens: KV of ", options.kv_tokens,
                                                     " tokens takes ", kv_bytes >> 20,
                                                     " MiB, there may be ", memory_bytes >> 20));
  }
  try {
    return std::unique_ptr<TransformerRunner>(
        new TransformerRunner(std::move(device), config, std::move(weights), options, num_blocks));
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("kv-tokens: memory for ", options.kv_tokens, " tokens of KV cannot be had"));
  }
}

TransformerRunner::TransformerRunner(std::unique_ptr<kernels::Device> device,
                                     const ModelConfig& config, ModelWeights weights,
                                     const RunnerOptions& options, int32_t num_blocks)
    : device_(std::move(device)),
      clock_(options.clock),
      sampler_(config.vocab_size, config.eos_ids) {
  const int32_t logit_rows = std::min(kMaxLogitRows, options.max_batch_tokens);
  decoder_ = std::make_unique<Decoder>(config, std::move(weights), device_.get(),
                                       options.max_batch_tokens, logit_rows);
  const kernels::KvLayout layout = decoder_->kv_layout(*options.kv_dtype);
  kv_ = device_->CreateKvCache(layout, num_blocks);
  const bool sliding = config.sliding_window > 0;
  spec_.groups.push_back(
      {sliding ? "sliding" : "full", layout.block_size, num_blocks, config.sliding_window});
  spec_.vocab_size = config.vocab_size;
  // A sequence longer than all of the KV could never run.
  spec_.max_model_len = static_cast<int32_t>(
      std::min<int64_t>(options.max_model_len, int64_t{num_blocks} * layout.block_size));
  spec_.max_batch_tokens = options.max_batch_tokens;
  spec_.max_sequences = options.max_sequences;
  spec_.eos_ids = config.eos_ids;
  spec_.phased = decoder_->weights().phased;
  token_ids_.reserve(static_cast<size_t>(options.max_batch_tokens));
  rows_.reserve(static_cast<size_t>(logit_rows));
}

SamplerSlot TransformerRunner::StartSequence(const SamplingParams& params,
                                             const std::vector<int32_t>& history,
                                             int32_t num_output) {
  return sampler_.StartSequence(params, history, num_output);
}

void TransformerRunner::EndSequence(SamplerSlot slot) { sampler_.EndSequence(slot); }

StepHandle TransformerRunner::Launch(ForwardInput input) {
  const StepHandle handle{input.step};
  launched_.push_back(std::move(input));
  return handle;
}

/// The packet comes from the scheduler: what does not fit is a bug of ours, but one that must not
/// become a wild write.
absl::Status TransformerRunner::CheckInput(const ForwardInput& input) const {
  const size_t tokens = input.token_ids.size(), seqs = input.seq_lens.size();
  const auto bug = [](const char* what) {
    return absl::InternalError(absl::StrCat("step packet: ", what));
  };
  if (tokens == 0 || tokens > static_cast<size_t>(spec_.max_batch_tokens))
    return bug("number of tokens");
  if (input.positions.size() != tokens) return bug("positions");
  if (seqs == 0 || seqs > tokens || input.cu_seqlens.size() != seqs + 1) return bug("cu_seqlens");
  if (input.cu_seqlens.front() != 0 || input.cu_seqlens.back() != static_cast<int32_t>(tokens))
    return bug("cu_seqlens");
  if (input.num_generated_seqs < 0 || input.num_generated_seqs > static_cast<int32_t>(seqs))
    return bug("num_generated_seqs");
  if (input.least_tokens < 0 || (input.least_tokens > 0 && seqs != 1)) return bug("least_tokens");
  if (input.groups.size() != 1) return bug("groups");
  const GroupInput& group = input.groups[0];
  const int32_t block_size = spec_.groups[0].block_size, num_blocks = spec_.groups[0].num_blocks;
  if (group.slot_mapping.size() != tokens) return bug("slot_mapping");
  if (group.block_table.size() != seqs * static_cast<size_t>(group.block_table_stride))
    return bug("block_table");
  for (int64_t slot : group.slot_mapping) {
    if (slot < 0 || slot / block_size >= num_blocks) return bug("slot_mapping");
  }
  for (size_t s = 0; s < seqs; ++s) {
    const int32_t rows = input.cu_seqlens[s + 1] - input.cu_seqlens[s], length = input.seq_lens[s];
    if (rows < 1 || length < rows || length > spec_.max_model_len) return bug("seq_lens");
    if (NumBlocks(length, block_size) > group.block_table_stride) return bug("block_table_stride");
  }
  for (int32_t block : group.block_table) {
    if (block < -1 || block >= num_blocks) return bug("block_table");
  }
  for (const SampleRow& row : input.sample_rows) {
    if (row.token_row < 0 || row.token_row >= static_cast<int32_t>(tokens))
      return bug("sample_rows");
    if (row.target_id >= spec_.vocab_size) return bug("target_id");
    if (row.after_draft && &row == input.sample_rows.data()) return bug("after_draft");
  }
  return absl::OkStatus();
}

absl::Status TransformerRunner::ResolveIds(const ForwardInput& input) {
  token_ids_.assign(input.token_ids.begin(), input.token_ids.end());
  for (int32_t& id : token_ids_) {
    if (id < 0) {
      const auto row = static_cast<size_t>(-1 - id);
      // A row that failed (numeric_error) drew nothing; its sequence ends, whatever stands here is
      // thrown away.
      if (row >= previous_.size()) return absl::InternalError("step packet: PreviousSample row");
      id = std::max(previous_[row], 0);
    }
    if (id >= spec_.vocab_size) return absl::InternalError("step packet: token id");
  }
  return absl::OkStatus();
}

StepOutput TransformerRunner::Wait(StepHandle handle) {
  MODU_CHECK(!launched_.empty() && launched_.front().step == handle.step);
  StepOutput output;
  output.input = std::move(launched_.front());
  const ForwardInput& input = output.input;
  launched_.pop_front();
  output.status = CheckInput(input);
  if (output.status.ok()) output.status = ResolveIds(input);
  if (!output.status.ok()) return output;
  const GroupInput& group = input.groups[0];
  DecoderStep step;
  step.num_tokens = static_cast<int>(token_ids_.size());
  step.num_seqs = static_cast<int>(input.seq_lens.size());
  step.num_generated_seqs = input.num_generated_seqs;
  step.token_ids = token_ids_.data();
  step.positions = input.positions.data();
  step.cu_seqlens = input.cu_seqlens.data();
  step.seq_lens = input.seq_lens.data();
  step.slot_mapping = group.slot_mapping.data();
  step.block_table = group.block_table.data();
  step.block_table_stride = group.block_table_stride;
  output_rows_.clear();
  for (const SampleRow& row : input.sample_rows) output_rows_.push_back(row.token_row);
  step.output_rows = output_rows_;
  if (input.least_tokens > 0) {
    step.arrived = arrived_;
    step.least_tokens = input.least_tokens;
  }
  const int64_t began_ns = NowNs();
  output.prompt_ns = decoder_->Forward(step, kv_.get(), clock_);
  const int64_t forwarded_ns = NowNs();
  output.forward_ns = forwarded_ns - began_ns;
  previous_.clear();
  if (decoder_->num_computed() < step.num_tokens) {
    output.num_tokens = decoder_->num_computed();
    return output;
  }
  output.rows.resize(input.sample_rows.size());
  const auto slice = static_cast<size_t>(decoder_->max_logit_rows());
  for (size_t first = 0; first < output.rows.size(); first += slice) {
    SampleSlice(input, first, std::min(slice, output.rows.size() - first), &output.rows);
  }
  output.sample_ns = NowNs() - forwarded_ns;
  for (const SampledRow& row : output.rows) previous_.push_back(row.token_id);
  return output;
}

void TransformerRunner::SampleSlice(const ForwardInput& input, size_t first, size_t count,
                                    std::vector<SampledRow>* out) {
  rows_.clear();
  runs_.clear();
  for (size_t i = 0; i < count; ++i) {
    const SampleRow& row = input.sample_rows[first + i];
    rows_.push_back(row.token_row);
    if (i == 0 || !row.after_draft) runs_.push_back(static_cast<int32_t>(i));
  }
  runs_.push_back(static_cast<int32_t>(count));
  decoder_->SelectRows(rows_.data(), static_cast<int>(count));
  if (ArgmaxSlice(input, first, count, out)) return;
  float* logits = decoder_->Logits();
  SliceTask task{&sampler_,           input.sample_rows.data() + first,
                 token_ids_.data(),   logits,
                 spec_.vocab_size,    NumKnownIds(),
                 out->data() + first, runs_.data()};
  device_->ParallelFor(static_cast<int>(runs_.size()) - 1, SampleRun, &task);
}

int32_t TransformerRunner::NumKnownIds() const {
  const int32_t known = decoder_->config().tokenizer_vocab_size;
  return known > 0 ? std::min(known, spec_.vocab_size) : spec_.vocab_size;
}

/// Greedy rows of whose logits nobody asks need none where the device can tell the largest.
bool TransformerRunner::ArgmaxSlice(const ForwardInput& input, size_t first, size_t count,
                                    std::vector<SampledRow>* out) {
  const SampleRow* const rows = input.sample_rows.data() + first;
  if (!std::all_of(rows, rows + count, [&](const auto& row) { return sampler_.IsArgmax(row); })) {
    return false;
  }
  ids_.resize(count);
  if (!decoder_->Argmax(NumKnownIds(), ids_.data())) return false;
  SampledRow* const drawn = out->data() + first;
  for (size_t i = 0; i < count; ++i) {
    if (FollowsWrongGuess(rows[i], drawn + i, token_ids_.data())) continue;
    drawn[i].token_id = ids_[i];
  }
  return true;
}

}  // namespace modu::engine
