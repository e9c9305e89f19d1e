#include "engine/model/decoder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/check.h"

namespace modu::engine {

using kernels::Prepared;

Decoder::Decoder(const ModelConfig& config, ModelWeights weights, kernels::Device* device,
                 int max_tokens, int max_logit_rows)
    : config_(config),
      weights_(std::move(weights)),
      device_(device),
      max_tokens_(max_tokens),
      max_logit_rows_(max_logit_rows) {
  const size_t tokens = static_cast<size_t>(max_tokens);
  const size_t width = static_cast<size_t>(config_.hidden_size);
  const size_t qkv_width = static_cast<size_t>(config_.num_heads + 2 * config_.num_kv_heads) *
                           static_cast<size_t>(config_.head_dim);
  inv_freq_ = Allocate(config_.rope.inv_freq.size() * sizeof(float));
  std::memcpy(inv_freq_->data(), config_.rope.inv_freq.data(), inv_freq_->bytes());
  hidden_ = Allocate(tokens * width * sizeof(float));
  qkv_ = Allocate(tokens * qkv_width * sizeof(float));
  cos_sin_ = Allocate(tokens * static_cast<size_t>(config_.rope.rotary_dim) * sizeof(float));
  input_ = Allocate(PreparedBytes(max_tokens));
  size_t gated_bytes = 0;
  for (const LayerWeights& layer : weights_.layers) {
    gated_bytes = std::max(gated_bytes, device_->PreparedBytes(*layer.down, max_tokens));
  }
  gated_ = Allocate(gated_bytes);
  tail_.Reserve(max_tokens);
  selected_.reserve(static_cast<size_t>(max_logit_rows));
  head_input_ = Allocate(device_->PreparedBytes(*weights_.head, max_logit_rows));
  logits_ = Allocate(static_cast<size_t>(max_logit_rows) * static_cast<size_t>(config_.vocab_size) *
                     sizeof(float));
}

std::unique_ptr<kernels::Buffer> Decoder::Allocate(size_t bytes) {
  buffer_bytes_ += static_cast<int64_t>(bytes);
  return device_->Allocate(bytes);
}

/// The largest input that a layer's matrices want; layers may be of different types.
size_t Decoder::PreparedBytes(int max_tokens) const {
  size_t bytes = 0;
  for (const LayerWeights& layer : weights_.layers) {
    for (const kernels::PackedWeight* weight :
         {layer.qkv.get(), layer.output.get(), layer.gate_up.get()}) {
      bytes = std::max(bytes, device_->PreparedBytes(*weight, max_tokens));
    }
  }
  return bytes;
}

kernels::KvLayout Decoder::kv_layout(kernels::DType dtype) const {
  return {config_.num_layers, config_.num_kv_heads, config_.head_dim, device_->KvBlockSize(),
          dtype};
}

void Decoder::Forward(const DecoderStep& given, kernels::KvCache* kv) {
  MODU_CHECK(given.num_tokens > 0 && given.num_tokens <= max_tokens_);
  DecoderStep step = given;
  step.number = device_->NextStep();
  tail_.Cut(step, device_->NextStep());
  const DecoderStep& tail = tail_.step();
  const kernels::OpTable& ops = device_->ops();
  ops.embed(*device_,
            {step.num_tokens, step.token_ids, &weights_.embedding_table(), 1.0f, hidden_->f32()});
  ops.rope_table(*device_, {step.num_tokens, step.positions, config_.rope.rotary_dim,
                            inv_freq_->f32(), config_.rope.attention_scale, cos_sin_->f32()});
  const int last = config_.num_layers - 1;
  for (int i = 0; i < last; ++i) {
    WriteKv(step, i, kv);
    Attention(step, i, kv);
    FeedForward(step, i, i + 1 < last ? &step : &tail, kv);
  }
  WriteKv(step, last, kv);
  if (tail.num_tokens == 0) return;
  KeepTail();
  Attention(tail, last, kv);
  FeedForward(tail, last, nullptr, kv);
}

/// Queries, keys and values of all rows; the latter two go to the cache.
void Decoder::WriteKv(const DecoderStep& step, int index, kernels::KvCache* kv) {
  const kernels::OpTable& ops = device_->ops();
  const LayerWeights& layer = weights_.layers[static_cast<size_t>(index)];
  const Prepared input{input_->data()};
  ops.norm(*device_, {step.num_tokens, config_.hidden_size, hidden_->f32(), nullptr,
                      layer.input_norm->f32(), config_.norm_eps, layer.qkv.get(), input});
  ops.linear(*device_, {step.num_tokens, input, layer.qkv.get(),
                        layer.qkv_bias ? layer.qkv_bias->f32() : nullptr,
                        /*accumulate=*/false, qkv_->f32(), layer.qkv->rows()});
  kernels::QkvParams qkv{};
  qkv.num_tokens = step.num_tokens;
  qkv.num_heads = config_.num_heads;
  qkv.num_kv_heads = config_.num_kv_heads;
  qkv.head_dim = config_.head_dim;
  qkv.qkv = qkv_->f32();
  qkv.q_norm = layer.q_norm ? layer.q_norm->f32() : nullptr;
  qkv.k_norm = layer.k_norm ? layer.k_norm->f32() : nullptr;
  qkv.norm_eps = config_.norm_eps;
  qkv.cos_sin = cos_sin_->f32();
  qkv.rotary_dim = config_.rope.rotary_dim;
  qkv.interleaved = config_.rope.interleaved;
  qkv.q_scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim));
  qkv.kv = kv;
  qkv.layer = index;
  qkv.slot_mapping = step.slot_mapping;
  ops.qkv(*device_, qkv);
}

void Decoder::KeepTail() {
  if (tail_.is_whole()) return;
  const auto keep = [this](float* data, int64_t width, int64_t stride) {
    device_->ops().keep_rows(*device_,
                             {tail_.step().num_tokens, tail_.rows(), width, stride, data});
  };
  keep(hidden_->f32(), config_.hidden_size, config_.hidden_size);
  const int64_t queries = int64_t{config_.num_heads} * config_.head_dim;
  keep(qkv_->f32(), queries, weights_.layers.back().qkv->rows());
}

void Decoder::Attention(const DecoderStep& step, int index, const kernels::KvCache* kv) {
  const kernels::OpTable& ops = device_->ops();
  const LayerWeights& layer = weights_.layers[static_cast<size_t>(index)];
  const Prepared input{input_->data()};
  ops.attention(*device_, AttentionOf(step, index, kv));
  ops.linear(*device_, {step.num_tokens, input, layer.output.get(),
                        layer.output_bias ? layer.output_bias->f32() : nullptr, /*accumulate=*/true,
                        hidden_->f32(), config_.hidden_size});
}

kernels::AttentionParams Decoder::AttentionOf(const DecoderStep& step, int index,
                                              const kernels::KvCache* kv) const {
  kernels::AttentionParams attention{};
  attention.num_tokens = step.num_tokens;
  attention.num_seqs = step.num_seqs;
  attention.num_heads = config_.num_heads;
  attention.num_kv_heads = config_.num_kv_heads;
  attention.head_dim = config_.head_dim;
  attention.qkv = qkv_->f32();
  attention.kv = kv;
  attention.layer = index;
  attention.cu_seqlens = step.cu_seqlens;
  attention.seq_lens = step.seq_lens;
  attention.block_table = step.block_table;
  attention.block_table_stride = step.block_table_stride;
  attention.step = step.number;
  attention.window = config_.window(index);
  attention.consumer = weights_.layers[static_cast<size_t>(index)].output.get();
  attention.out = Prepared{input_->data()};
  return attention;
}

void Decoder::FeedForward(const DecoderStep& step, int index, const DecoderStep* next,
                          const kernels::KvCache* kv) {
  const kernels::OpTable& ops = device_->ops();
  const LayerWeights& layer = weights_.layers[static_cast<size_t>(index)];
  const Prepared input{input_->data()}, gated{gated_->data()};
  ops.norm(*device_, {step.num_tokens, config_.hidden_size, hidden_->f32(), nullptr,
                      layer.post_norm->f32(), config_.norm_eps, layer.gate_up.get(), input});
  kernels::GatedLinearParams up{};
  up.num_tokens = step.num_tokens;
  up.in = input;
  up.weight = layer.gate_up.get();
  up.activation = kernels::Activation::kSilu;
  up.consumer = layer.down.get();
  up.out = gated;
  up.bias = layer.gate_up_bias ? layer.gate_up_bias->f32() : nullptr;
  kernels::AttentionParams next_attention{};
  if (next != nullptr && next->num_tokens > 0) {
    next_attention = AttentionOf(*next, index + 1, kv);
    up.next_attention = &next_attention;
  }
  ops.gated_linear(*device_, up);
  ops.linear(*device_, {step.num_tokens, gated, layer.down.get(),
                        layer.down_bias ? layer.down_bias->f32() : nullptr, /*accumulate=*/true,
                        hidden_->f32(), config_.hidden_size});
}

void Decoder::SelectRows(const int32_t* rows, int num_rows) {
  MODU_CHECK(num_rows > 0 && num_rows <= max_logit_rows_);
  num_selected_ = num_rows;
  selected_.clear();
  for (int i = 0; i < num_rows; ++i) selected_.push_back(tail_.RowOf(rows[i]));
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
