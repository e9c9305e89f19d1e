#include "engine/model/decoder.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/check.h"

namespace modu::engine {

using kernels::Prepared;

namespace {

/// Sequences [first, first + num_seqs) of a step as a step of their own.
DecoderStep PartOf(const DecoderStep& step, int first, int num_seqs, PartRows& rows) {
  const int32_t row = step.cu_seqlens[first], end = step.cu_seqlens[first + num_seqs];
  rows.cu_seqlens.clear();
  for (int s = first; s <= first + num_seqs; ++s) {
    rows.cu_seqlens.push_back(step.cu_seqlens[s] - row);
  }
  rows.output.clear();
  for (const int32_t output : step.output_rows) {
    if (output >= row && output < end) rows.output.push_back(output - row);
  }
  DecoderStep part;
  part.num_tokens = end - row;
  part.num_seqs = num_seqs;
  part.token_ids = step.token_ids + row;
  part.positions = step.positions + row;
  part.cu_seqlens = rows.cu_seqlens.data();
  part.seq_lens = step.seq_lens + first;
  part.slot_mapping = step.slot_mapping + row;
  part.block_table = step.block_table + int64_t{first} * step.block_table_stride;
  part.block_table_stride = step.block_table_stride;
  part.output_rows = rows.output;
  part.arrived = num_seqs == step.num_seqs ? step.arrived : nullptr;
  part.least_tokens = step.least_tokens;
  return part;
}

}  // namespace

Decoder::Decoder(const ModelConfig& config, ModelWeights weights, kernels::Device* device,
                 int max_tokens, int max_logit_rows)
    : config_(config),
      weights_(std::move(weights)),
      device_(device),
      max_tokens_(max_tokens),
      max_logit_rows_(max_logit_rows),
      prompt_(config_, weights_, kernels::Phase::kPrompt, device, max_tokens),
      generation_(config_, weights_, kernels::Phase::kGeneration, device, max_tokens) {
  const size_t tokens = static_cast<size_t>(max_tokens);
  const size_t width = static_cast<size_t>(config_.hidden_size);
  inv_freq_ = Allocate(config_.rope.inv_freq.size() * sizeof(float));
  std::memcpy(inv_freq_->data(), config_.rope.inv_freq.data(), inv_freq_->bytes());
  hidden_ = Allocate(tokens * width * sizeof(float));
  qkv_ = Allocate(tokens * static_cast<size_t>(qkv_width()) * sizeof(float));
  cos_sin_ = Allocate(tokens * static_cast<size_t>(config_.rope.rotary_dim) * sizeof(float));
  input_ = Allocate(std::max(prompt_.InputBytes(max_tokens), generation_.InputBytes(max_tokens)));
  gated_ = Allocate(std::max(prompt_.GatedBytes(max_tokens), generation_.GatedBytes(max_tokens)));
  for (PartRows* rows : {&prompt_rows_, &generation_rows_}) {
    rows->cu_seqlens.reserve(tokens + 1);
    rows->output.reserve(tokens);
  }
  selected_.reserve(static_cast<size_t>(max_logit_rows));
  head_input_ = Allocate(device_->PreparedBytes(*weights_.head, max_logit_rows));
  logits_ = Allocate(static_cast<size_t>(max_logit_rows) * static_cast<size_t>(config_.vocab_size) *
                     sizeof(float));
}

std::unique_ptr<kernels::Buffer> Decoder::Allocate(size_t bytes) {
  buffer_bytes_ += static_cast<int64_t>(bytes);
  return device_->Allocate(bytes);
}

int64_t Decoder::qkv_width() const {
  return int64_t{config_.num_heads + 2 * config_.num_kv_heads} * config_.head_dim;
}

kernels::KvLayout Decoder::kv_layout(kernels::DType dtype) const {
  return {config_.num_layers, config_.num_kv_heads, config_.head_dim, device_->KvBlockSize(),
          dtype};
}

Activations Decoder::RowsFrom(int row) const {
  return {hidden_->f32() + int64_t{row} * config_.hidden_size,
          qkv_->f32() + row * qkv_width(),
          cos_sin_->f32() + int64_t{row} * config_.rope.rotary_dim,
          {input_->data()},
          {gated_->data()}};
}

int64_t Decoder::Forward(const DecoderStep& step, kernels::KvCache* kv, const Clock* clock) {
  MODU_CHECK(step.num_tokens > 0 && step.num_tokens <= max_tokens_);
  MODU_CHECK(step.arrived == nullptr || (step.num_seqs == 1 && step.least_tokens > 0));
  const kernels::OpTable& ops = device_->ops();
  ops.embed(*device_,
            {step.num_tokens, step.token_ids, &weights_.embedding_table(), 1.0f, hidden_->f32()});
  ops.rope_table(*device_, {step.num_tokens, step.positions, config_.rope.rotary_dim,
                            inv_freq_->f32(), config_.rope.attention_scale, cos_sin_->f32()});
  // Where the phases' matrices are the same, one pass over them is cheaper.
  const int generated = weights_.phased ? step.num_generated_seqs : step.num_seqs;
  num_generated_ = step.cu_seqlens[generated];
  // Prompts first: the head's weights follow those of generated tokens (LoadWeights).
  int64_t prompts_ns = 0;
  if (generated < step.num_seqs) {
    const int64_t began_ns = clock != nullptr ? clock->NowNs() : 0;
    const DecoderStep prompts = PartOf(step, generated, step.num_seqs - generated, prompt_rows_);
    num_computed_ = num_generated_ + prompt_.Forward(prompts, RowsFrom(num_generated_), kv);
    if (clock != nullptr) prompts_ns = clock->NowNs() - began_ns;
  }
  if (generated > 0) {
    const DecoderStep part = PartOf(step, 0, generated, generation_rows_);
    const int computed = generation_.Forward(part, RowsFrom(0), kv);
    if (generated == step.num_seqs) num_computed_ = computed;
  }
  return prompts_ns;
}

void Decoder::SelectRows(const int32_t* rows, int num_rows) {
  MODU_CHECK(num_rows > 0 && num_rows <= max_logit_rows_);
  num_selected_ = num_rows;
  selected_.clear();
  for (int i = 0; i < num_rows; ++i) {
    const int32_t row = rows[i];
    selected_.push_back(row < num_generated_
                            ? generation_.RowOf(row)
                            : num_generated_ + prompt_.RowOf(row - num_generated_));
  }
  device_->ops().norm(*device_, {num_rows, config_.hidden_size, hidden_->f32(), selected_.data(),
                                 weights_.final_norm->f32(), config_.norm_eps, weights_.head.get(),
                                 Prepared{head_input_->data()}});
}

float* Decoder::Logits() {
  MODU_CHECK(num_selected_ > 0);
  device_->ops().linear(*device_,
                        {num_selected_, Prepared{head_input_->data()}, weights_.head.get(), nullptr,
                         /*accumulate=*/false, logits_->f32(), config_.vocab_size});
  return logits_->f32();
}

bool Decoder::Argmax(int limit, int32_t* ids) {
  MODU_CHECK(num_selected_ > 0);
  return device_->ops().argmax(
      *device_, {num_selected_, Prepared{head_input_->data()}, weights_.head.get(), limit, ids});
}

}  // namespace modu::engine
