#include "engine/model/layer_stack.h"

#include <algorithm>
#include <cmath>

namespace modu::engine {

LayerStack::LayerStack(const ModelConfig& config, const ModelWeights& weights, kernels::Phase phase,
                       kernels::Device* device, int max_tokens)
    : config_(config), weights_(weights), phase_(phase), device_(device) {
  tail_.Reserve(max_tokens);
}

/// The largest input that a layer's matrices want; layers may be of different types.
size_t LayerStack::InputBytes(int max_tokens) const {
  size_t bytes = 0;
  for (int i = 0; i < config_.num_layers; ++i) {
    const LayerMatrices& m = Matrices(i);
    for (const kernels::PackedWeight* weight : {m.qkv.get(), m.output.get(), m.gate_up.get()}) {
      bytes = std::max(bytes, device_->PreparedBytes(*weight, max_tokens));
    }
  }
  return bytes;
}

size_t LayerStack::GatedBytes(int max_tokens) const {
  size_t bytes = 0;
  for (int i = 0; i < config_.num_layers; ++i) {
    bytes = std::max(bytes, device_->PreparedBytes(*Matrices(i).down, max_tokens));
  }
  return bytes;
}

int LayerStack::Forward(const DecoderStep& given, const Activations& at, kernels::KvCache* kv) {
  DecoderStep step = given;
  step.number = device_->NextStep();
  tail_.Cut(step, device_->NextStep());
  const DecoderStep& tail = tail_.step();
  const int last = config_.num_layers - 1;
  for (int i = 0; i < last; ++i) {
    if (i > 0 && CutShort(config_.num_layers - i, &step)) tail_.Cut(step, device_->NextStep());
    WriteKv(step, at, i, kv);
    Attention(step, at, i, kv);
    FeedForward(step, at, i, i + 1 < last ? &step : &tail, kv);
  }
  WriteKv(step, at, last, kv);
  if (tail.num_tokens == 0) return step.num_tokens;
  KeepTail(at);
  Attention(tail, at, last, kv);
  FeedForward(tail, at, last, nullptr, kv);
  return step.num_tokens;
}

/// Leaves out rows that others would wait for. As many stay as take through the layers that are
/// left what least_tokens take through all.
bool LayerStack::CutShort(int layers_left, DecoderStep* step) {
  if (step->arrived == nullptr || !step->arrived->load(std::memory_order_relaxed)) return false;
  step->arrived = nullptr;
  const int64_t kept = int64_t{step->least_tokens} * config_.num_layers / layers_left;
  if (kept >= step->num_tokens) return false;
  cut_seq_len_ = step->seq_lens[0] - (step->num_tokens - static_cast<int32_t>(kept));
  step->num_tokens = cut_cu_seqlens_[1] = static_cast<int32_t>(kept);
  step->cu_seqlens = cut_cu_seqlens_;
  step->seq_lens = &cut_seq_len_;
  step->output_rows = {};
  step->number = device_->NextStep();
  return true;
}

/// Queries, keys and values of all rows; the latter two go to the cache.
void LayerStack::WriteKv(const DecoderStep& step, const Activations& at, int index,
                         kernels::KvCache* kv) {
  const kernels::OpTable& ops = device_->ops();
  const LayerWeights& layer = Layer(index);
  const kernels::PackedWeight& weight = *Matrices(index).qkv;
  ops.norm(*device_, {step.num_tokens, config_.hidden_size, at.hidden, nullptr,
                      layer.input_norm->f32(), config_.norm_eps, &weight, at.input});
  ops.linear(*device_,
             {step.num_tokens, at.input, &weight, layer.qkv_bias ? layer.qkv_bias->f32() : nullptr,
              /*accumulate=*/false, at.qkv, weight.rows()});
  kernels::QkvParams qkv{};
  qkv.num_tokens = step.num_tokens;
  qkv.num_heads = config_.num_heads;
  qkv.num_kv_heads = config_.num_kv_heads;
  qkv.head_dim = config_.head_dim;
  qkv.qkv = at.qkv;
  qkv.q_norm = layer.q_norm ? layer.q_norm->f32() : nullptr;
  qkv.k_norm = layer.k_norm ? layer.k_norm->f32() : nullptr;
  qkv.norm_eps = config_.norm_eps;
  qkv.cos_sin = at.cos_sin;
  qkv.rotary_dim = config_.rope.rotary_dim;
  qkv.interleaved = config_.rope.interleaved;
  qkv.q_scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim));
  qkv.kv = kv;
  qkv.layer = index;
  qkv.slot_mapping = step.slot_mapping;
  ops.qkv(*device_, qkv);
}

void LayerStack::KeepTail(const Activations& at) {
  if (tail_.is_whole()) return;
  const auto keep = [this](float* data, int64_t width, int64_t stride) {
    device_->ops().keep_rows(*device_,
                             {tail_.step().num_tokens, tail_.rows(), width, stride, data});
  };
  keep(at.hidden, config_.hidden_size, config_.hidden_size);
  const int64_t queries = int64_t{config_.num_heads} * config_.head_dim;
  keep(at.qkv, queries, Matrices(config_.num_layers - 1).qkv->rows());
}

void LayerStack::Attention(const DecoderStep& step, const Activations& at, int index,
                           const kernels::KvCache* kv) {
  const kernels::OpTable& ops = device_->ops();
  const LayerWeights& layer = Layer(index);
  ops.attention(*device_, AttentionOf(step, at, index, kv));
  ops.linear(*device_, {step.num_tokens, at.input, Matrices(index).output.get(),
                        layer.output_bias ? layer.output_bias->f32() : nullptr, /*accumulate=*/true,
                        at.hidden, config_.hidden_size});
}

kernels::AttentionParams LayerStack::AttentionOf(const DecoderStep& step, const Activations& at,
                                                 int index, const kernels::KvCache* kv) const {
  kernels::AttentionParams attention{};
  attention.num_tokens = step.num_tokens;
  attention.num_seqs = step.num_seqs;
  attention.num_heads = config_.num_heads;
  attention.num_kv_heads = config_.num_kv_heads;
  attention.head_dim = config_.head_dim;
  attention.qkv = at.qkv;
  attention.kv = kv;
  attention.layer = index;
  attention.cu_seqlens = step.cu_seqlens;
  attention.seq_lens = step.seq_lens;
  attention.block_table = step.block_table;
  attention.block_table_stride = step.block_table_stride;
  attention.step = step.number;
  attention.window = config_.window(index);
  attention.consumer = Matrices(index).output.get();
  attention.out = at.input;
  return attention;
}

void LayerStack::FeedForward(const DecoderStep& step, const Activations& at, int index,
                             const DecoderStep* next, const kernels::KvCache* kv) {
  const kernels::OpTable& ops = device_->ops();
  const LayerWeights& layer = Layer(index);
  const LayerMatrices& matrices = Matrices(index);
  ops.norm(*device_, {step.num_tokens, config_.hidden_size, at.hidden, nullptr,
                      layer.post_norm->f32(), config_.norm_eps, matrices.gate_up.get(), at.input});
  kernels::GatedLinearParams up{};
  up.num_tokens = step.num_tokens;
  up.in = at.input;
  up.weight = matrices.gate_up.get();
  up.activation = kernels::Activation::kSilu;
  up.consumer = matrices.down.get();
  up.out = at.gated;
  up.bias = layer.gate_up_bias ? layer.gate_up_bias->f32() : nullptr;
  kernels::AttentionParams next_attention{};
  if (next != nullptr && next->num_tokens > 0) {
    next_attention = AttentionOf(*next, at, index + 1, kv);
    up.next_attention = &next_attention;
  }
  ops.gated_linear(*device_, up);
  ops.linear(*device_, {step.num_tokens, at.gated, matrices.down.get(),
                        layer.down_bias ? layer.down_bias->f32() : nullptr, /*accumulate=*/true,
                        at.hidden, config_.hidden_size});
}

}  // namespace modu::engine
