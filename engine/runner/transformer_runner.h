// The ModelRunner of a real model: a Decoder over a Device, its paged KV, and a Sampler. Wait
// computes on the calling thread, which is the device's worker 0; a launched step waits until then.
// Every buffer is made at construction. Engine thread only.
#pragma once
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/clock.h"
#include "engine/model/decoder.h"
#include "engine/runner/model_runner.h"
#include "engine/sampling/sampler.h"
#include "kernels/device.h"

namespace modu::engine {

struct RunnerOptions {
  int32_t max_batch_tokens = 256;  // T of the largest step
  int32_t max_sequences = 64;      // sequences of the largest step
  int32_t max_model_len = 0;       // tokens a sequence may have; 0: what the model was made for
  int64_t kv_tokens = 0;  // KV memory, in tokens of all sequences together; 0: max_model_len
  // float32, bf16 or codes (kernels/kv_codes.h); none: Device::DefaultKvDType.
  std::optional<kernels::DType> kv_dtype;
  const Clock* clock = nullptr;  // measures a step's stages; null: they are not measured
};

class TransformerRunner final : public ModelRunner {
 public:
  /// Buffers and KV. kInvalidArgument names the option; kResourceExhausted: the KV does not fit in
  /// memory.
  static absl::StatusOr<std::unique_ptr<TransformerRunner>> Create(
      std::unique_ptr<kernels::Device> device, const ModelConfig& config, ModelWeights weights,
      const RunnerOptions& options);

  const RunnerSpec& spec() const override { return spec_; }
  int pipeline_depth() const override { return 1; }
  SamplerSlot StartSequence(const SamplingParams& params, const std::vector<int32_t>& history,
                            int32_t num_output) override;
  void EndSequence(SamplerSlot slot) override;
  StepHandle Launch(ForwardInput input) override;
  StepOutput Wait(StepHandle handle) override;
  void WatchArrivals(const std::atomic<bool>* arrived) override { arrived_ = arrived; }

  const kernels::Device& device() const { return *device_; }
  const Decoder& decoder() const { return *decoder_; }
  int64_t kv_bytes() const { return kv_->bytes(); }

 private:
  TransformerRunner(std::unique_ptr<kernels::Device> device, const ModelConfig& config,
                    ModelWeights weights, const RunnerOptions& options, int32_t num_blocks);
  absl::Status CheckInput(const ForwardInput& input) const;
  int64_t NowNs() const { return clock_ != nullptr ? clock_->NowNs() : 0; }
  absl::Status ResolveIds(const ForwardInput& input);
  /// Ids below it are the tokenizer's; those above are never drawn.
  int32_t NumKnownIds() const;
  void SampleSlice(const ForwardInput& input, size_t first, size_t count,
                   std::vector<SampledRow>* out);
  bool ArgmaxSlice(const ForwardInput& input, size_t first, size_t count,
                   std::vector<SampledRow>* out);

  std::unique_ptr<kernels::Device> device_;  // outlives everything below
  std::unique_ptr<Decoder> decoder_;
  std::unique_ptr<kernels::KvCache> kv_;
  const Clock* clock_;
  const std::atomic<bool>* arrived_ = nullptr;
  Sampler sampler_;
  RunnerSpec spec_;
  std::deque<ForwardInput> launched_;
  std::vector<int32_t> token_ids_;    // of the step, PreviousSample resolved
  std::vector<int32_t> output_rows_;  // of the step's samples
  std::vector<int32_t> rows_;         // of a slice, as the next
  std::vector<int32_t> runs_;         // where each slot's rows begin
  std::vector<int32_t> ids_;          // of their largest logits
  std::vector<int32_t> previous_;     // what the last step's sample rows drew
};

}  // namespace modu::engine
