// RoPE, the KV append and attention, each by its formula; softmax and sums in float64, positions in
// rising order.
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/check.h"
#include "kernels/float_formats.h"
#include "kernels/kv_codes.h"
#include "kernels/ref/ref_device.h"

namespace modu::kernels::ref {
namespace {

void NormHead(float* head, const float* weight, int head_dim, float eps) {
  double squares = 0;
  for (int i = 0; i < head_dim; ++i) squares += static_cast<double>(head[i]) * head[i];
  const double inverse = 1.0 / std::sqrt(squares / head_dim + eps);
  for (int i = 0; i < head_dim; ++i) {
    head[i] = static_cast<float>(head[i] * inverse * weight[i]);
  }
}

void RotateHead(float* head, const float* cos_sin, int rotary_dim, bool interleaved) {
  const int half = rotary_dim / 2;
  for (int i = 0; i < half; ++i) {
    float& a = head[interleaved ? 2 * i : i];
    float& b = head[interleaved ? 2 * i + 1 : i + half];
    const double x = a, y = b, cosine = cos_sin[i], sine = cos_sin[half + i];
    a = static_cast<float>(x * cosine - y * sine);
    b = static_cast<float>(y * cosine + x * sine);
  }
}

/// What is left of a head's values in 8 bits: codes times a scale of the largest magnitude.
void RoundToCodes(DType dtype, int head_dim, double* x) {
  double largest = 0;
  for (int i = 0; i < head_dim; ++i) largest = std::max(largest, std::abs(x[i]));
  const double codes = dtype == DType::kI8 ? kLargestInt8Code : kLargestF8Code;
  if (largest < kLeastKvMagnitude) {
    std::fill(x, x + head_dim, 0.0);
    return;
  }
  for (int i = 0; i < head_dim; ++i) {
    const double scaled = x[i] / largest * codes;
    const double code =
        dtype == DType::kI8
            ? std::nearbyint(scaled)
            : static_cast<double>(F8E4M3ToFloat(FloatToF8E4M3(static_cast<float>(scaled))));
    x[i] = code * largest / codes;
  }
}

/// y = H x / sqrt(span), run by run of the span; its own inverse.
void RotateDims(int head_dim, double* x) {
  const int span = RotationSpan(head_dim);
  std::vector<double> run(static_cast<size_t>(span));
  for (int base = 0; base < head_dim; base += span) {
    for (int i = 0; i < span; ++i) {
      double sum = 0;
      for (int j = 0; j < span; ++j) {
        const bool negative = std::popcount(static_cast<unsigned>(i & j)) % 2 != 0;
        sum += negative ? -x[base + j] : x[base + j];
      }
      run[static_cast<size_t>(i)] = sum / std::sqrt(span);
    }
    std::copy(run.begin(), run.end(), x + base);
  }
}

/// K and V of a head as a cache of codes holds them (kernels/kv_codes.h), back in their own dims.
void CodeToken(DType dtype, int head_dim, const float* k, const float* v, float* coded_k,
               float* coded_v) {
  const auto finite = [&](const float* x) {
    return std::all_of(x, x + head_dim, [](float value) { return std::isfinite(value); });
  };
  if (!finite(k) || !finite(v)) {
    std::fill(coded_k, coded_k + head_dim, std::numeric_limits<float>::quiet_NaN());
    std::fill(coded_v, coded_v + head_dim, 0.0f);
    return;
  }
  const auto code = [&](const float* from, float* to) {
    std::vector<double> x(from, from + head_dim);
    RotateDims(head_dim, x.data());
    RoundToCodes(dtype, head_dim, x.data());
    RotateDims(head_dim, x.data());
    std::ranges::transform(x, to, [](double value) { return static_cast<float>(value); });
  };
  code(k, coded_k);
  code(v, coded_v);
}

/// One query row of one head over the positions [first, position] of its sequence.
void AttendRow(const AttentionParams& p, const RefKvCache& kv, int seq, int64_t position,
               const float* q, int kv_head, float* out) {
  const int head_dim = p.head_dim, block_size = kv.layout().block_size;
  const int64_t first = p.window > 0 ? std::max<int64_t>(0, position - p.window + 1) : 0;
  const auto slot = [&](int64_t at) {
    const int64_t block = at / block_size;
    MODU_CHECK(block < p.block_table_stride);
    return int64_t{p.block_table[int64_t{seq} * p.block_table_stride + block]} * block_size +
           at % block_size;
  };
  std::vector<float> row(static_cast<size_t>(head_dim));
  std::vector<double> weights(static_cast<size_t>(position - first + 1));
  double largest = -std::numeric_limits<double>::infinity();
  for (int64_t at = first; at <= position; ++at) {
    kv.Load(kv.Index(slot(at), p.layer, 0, kv_head), row.data());
    double score = 0;
    for (int i = 0; i < head_dim; ++i)
      score += static_cast<double>(q[i]) * row[static_cast<size_t>(i)];
    weights[static_cast<size_t>(at - first)] = score;
    largest = std::max(largest, score);
  }
  double total = 0;
  std::vector<double> sums(static_cast<size_t>(head_dim), 0.0);
  for (int64_t at = first; at <= position; ++at) {
    const double weight = std::exp(weights[static_cast<size_t>(at - first)] - largest);
    total += weight;
    kv.Load(kv.Index(slot(at), p.layer, 1, kv_head), row.data());
    for (int i = 0; i < head_dim; ++i) {
      sums[static_cast<size_t>(i)] += weight * row[static_cast<size_t>(i)];
    }
  }
  for (int i = 0; i < head_dim; ++i) {
    out[i] = static_cast<float>(sums[static_cast<size_t>(i)] / total);
  }
}

}  // namespace

void RopeTable(Device&, const RopeTableParams& p) {
  const int half = p.rotary_dim / 2;
  for (int t = 0; t < p.num_tokens; ++t) {
    for (int i = 0; i < half; ++i) {
      const double angle = static_cast<double>(p.positions[t]) * p.inv_freq[i];
      float* row = p.cos_sin + int64_t{t} * p.rotary_dim;
      row[i] = static_cast<float>(std::cos(angle) * p.attention_scale);
      row[half + i] = static_cast<float>(std::sin(angle) * p.attention_scale);
    }
  }
}

void Qkv(Device&, const QkvParams& p) {
  auto& kv = static_cast<RefKvCache&>(*p.kv);
  const int head_dim = p.head_dim;
  const int64_t stride = int64_t{p.num_heads + 2 * p.num_kv_heads} * head_dim;
  std::vector<float> coded_k(static_cast<size_t>(head_dim)), coded_v(static_cast<size_t>(head_dim));
  for (int t = 0; t < p.num_tokens; ++t) {
    float* row = p.qkv + t * stride;
    for (int h = 0; h < p.num_heads + p.num_kv_heads; ++h) {
      float* head = row + int64_t{h} * head_dim;
      const bool is_query = h < p.num_heads;
      const float* norm = is_query ? p.q_norm : p.k_norm;
      if (norm != nullptr) NormHead(head, norm, head_dim, p.norm_eps);
      if (p.cos_sin != nullptr) {
        RotateHead(head, p.cos_sin + int64_t{t} * p.rotary_dim, p.rotary_dim, p.interleaved);
      }
      if (is_query) {
        for (int i = 0; i < head_dim; ++i) head[i] *= p.q_scale;
      }
    }
    for (int g = 0; g < p.num_kv_heads; ++g) {
      const float* k = row + int64_t{p.num_heads + g} * head_dim;
      const float* v = k + int64_t{p.num_kv_heads} * head_dim;
      if (IsKvCode(kv.layout().dtype)) {
        CodeToken(kv.layout().dtype, head_dim, k, v, coded_k.data(), coded_v.data());
        k = coded_k.data();
        v = coded_v.data();
      }
      kv.Store(kv.Index(p.slot_mapping[t], p.layer, 0, g), k);
      kv.Store(kv.Index(p.slot_mapping[t], p.layer, 1, g), v);
    }
  }
}

void Attention(Device&, const AttentionParams& p) {
  const auto& kv = static_cast<const RefKvCache&>(*p.kv);
  const auto& consumer = static_cast<const RefWeight&>(*p.consumer);
  const int head_dim = p.head_dim, group = p.num_heads / p.num_kv_heads;
  const int64_t width = int64_t{p.num_heads} * head_dim;
  const int64_t stride = width + 2 * int64_t{p.num_kv_heads} * head_dim;
  MODU_CHECK(consumer.cols() == width);
  // The fast kernels write rows head by head where these are whole groups.
  const bool whole = p.num_kv_heads == 1 || group * head_dim % kInt8Group != 0;
  const Centres centres = whole ? Centres::kWhereTheyGain : Centres::kNone;
  std::vector<float> row(static_cast<size_t>(width));
  for (int s = 0; s < p.num_seqs; ++s) {
    for (int32_t t = p.cu_seqlens[s]; t < p.cu_seqlens[s + 1]; ++t) {
      const int64_t position = int64_t{p.seq_lens[s]} - (p.cu_seqlens[s + 1] - t);
      for (int h = 0; h < p.num_heads; ++h) {
        AttendRow(p, kv, s, position, p.qkv + t * stride + int64_t{h} * head_dim, h / group,
                  row.data() + int64_t{h} * head_dim);
      }
      RoundActivations(consumer.rounding, row.data(), width, centres,
                       reinterpret_cast<double*>(p.out.data) + t * width);
    }
  }
}

}  // namespace modu::kernels::ref
