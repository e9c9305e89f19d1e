// A sequence with random q, k and v over a paged cache whose unused bytes are all NaN, for tests
// that run the kernels directly: appends rows, attends to them, and knows the answer in double.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/kv_cache.h"
#include "kernels/cpu/row_kernels.h"
#include "kernels/float_formats.h"

namespace modu::kernels::cpu {

struct AttentionShape {
  int group = 3;
  int num_kv_heads = 2;
  int head_dim = 64;
  int window = 0;
  DType dtype = DType::kBF16;
};

/// Denormals as zeros, as the pool's workers compute.
class AsWorkers {
 public:
  AsWorkers() : saved_(_mm_getcsr()) { _mm_setcsr(saved_ | 0x8040u); }
  ~AsWorkers() { _mm_setcsr(saved_); }
  AsWorkers(const AsWorkers&) = delete;
  AsWorkers& operator=(const AsWorkers&) = delete;

 private:
  const unsigned saved_;
};

class PagedSequence {
 public:
  PagedSequence(const AttentionShape& shape, int seq_len, uint32_t seed)
      : shape_(shape),
        seq_len_(seq_len),
        blocks_((seq_len + kKvBlockTokens - 1) / kKvBlockTokens),
        cache_(KvLayout{2, shape.num_kv_heads, shape.head_dim, kKvBlockTokens, shape.dtype},
               2 * blocks_ + 3) {
    std::mt19937 random(seed);
    std::normal_distribution<float> normal;
    rows_.resize(static_cast<size_t>(seq_len) * row_width());
    for (float& x : rows_) x = normal(random);
    appended_.resize(rows_.size());
    std::vector<int32_t> free(static_cast<size_t>(2 * blocks_ + 3));
    for (size_t i = 0; i < free.size(); ++i) free[i] = static_cast<int32_t>(i);
    std::shuffle(free.begin(), free.end(), random);
    table_.assign(free.begin(), free.begin() + blocks_);
    Clear();
  }

  /// As before any token was appended.
  void Clear() {
    std::ranges::fill(appended_, NAN);
    std::memset(cache_.Head(0, 0), 0xFF,
                static_cast<size_t>(cache_.bytes()));  // NaN, or codes with that scale
  }

  int seq_len() const { return seq_len_; }
  size_t row_width() const {
    return static_cast<size_t>((shape_.group + 2) * shape_.num_kv_heads * shape_.head_dim);
  }
  int q_width() const { return shape_.group * shape_.num_kv_heads * shape_.head_dim; }
  /// q, K and V of a token for Append, which leaves them as they are.
  float* row(int token) { return rows_.data() + RowOffset(token); }

  /// Through the backend's own append; no norm, no RoPE.
  void Append(const RowKernels& kernels, int first, int count) {
    const AsWorkers flushing;
    for (int t = first; t < first + count; ++t) {
      QkvRow r{};
      r.row = Appended(t);
      std::copy_n(row(t), row_width(), r.row);
      r.num_heads = shape_.group * shape_.num_kv_heads;
      r.num_kv_heads = shape_.num_kv_heads;
      r.head_dim = shape_.head_dim;
      r.q_scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim));
      r.k = cache_.Head(1, 0) +
            table_[static_cast<size_t>(t / kKvBlockTokens)] * cache_.geometry().block_stride;
      r.head_bytes = cache_.geometry().head_bytes;
      r.half_bytes = cache_.geometry().half_bytes;
      r.v_offset = cache_.geometry().v_offset;
      r.offset = t % kKvBlockTokens;
      kernels.Qkv(shape_.dtype)(r);
    }
  }

  /// Output rows [count][q_width] of tokens [first, first + count). split: every piece on its own,
  /// then merged; reversed: merged in falling order (a deliberate mistake).
  std::vector<float> Attend(const AttentionKernels& kernels, int first, int count,
                            bool split = false, bool reversed = false) {
    const AsWorkers flushing;
    std::vector<float> out(static_cast<size_t>(count) * q_width(), NAN);
    const int rows = count * shape_.group;
    const int padded = cache_.geometry().padded_dim;
    const int64_t state = StateFloats(padded);
    std::vector<float> scratch(AttentionScratchFloats(shape_.dtype, rows, padded), NAN);
    for (int head = 0; head < shape_.num_kv_heads; ++head) {
      AttentionItem item{};
      const int column = head * shape_.group * shape_.head_dim;
      item.q = Appended(first) + column;
      item.q_stride = static_cast<int64_t>(row_width());
      item.num_tokens = count;
      item.group = shape_.group;
      item.first_position = first;
      item.head_dim = shape_.head_dim;
      item.padded_dim = padded;
      item.window = shape_.window;
      item.value_span = value_span();
      item.k = cache_.Head(1, head);
      item.half_bytes = cache_.geometry().half_bytes;
      item.v_offset = cache_.geometry().v_offset;
      item.block_stride = cache_.geometry().block_stride;
      item.block_table = table_.data();
      item.piece_begin = FirstVisible(first, shape_.window) / kPieceTokens;
      item.piece_end = (first + count - 1) / kPieceTokens + 1;
      item.out = out.data() + column;
      item.out_stride = q_width();
      item.scratch = scratch.data();
      const auto run = kernels.Run(shape_.dtype);
      if (!split) {
        run(item);
        continue;
      }
      const int pieces = item.piece_end - item.piece_begin;
      std::vector<float> partials(static_cast<size_t>(pieces * rows * state), NAN);
      for (int piece = 0; piece < pieces; ++piece) {
        AttentionItem one = item;
        one.piece_begin = item.piece_begin + piece;
        one.piece_end = one.piece_begin + 1;
        one.partials = partials.data() + piece * rows * state;
        run(one);
      }
      for (int r = 0; r < rows; ++r) {
        const int position = first + r / shape_.group;
        const int from = FirstVisible(position, shape_.window) / kPieceTokens;
        const int to = position / kPieceTokens;
        MergeItem merge{};
        merge.partials = partials.data() +
                         ((reversed ? to : from) - item.piece_begin) * rows * state + r * state;
        merge.piece_stride = (reversed ? -1 : 1) * rows * state;
        merge.num_pieces = to - from + 1;
        merge.head_dim = shape_.head_dim;
        merge.padded_dim = padded;
        merge.value_span = value_span();
        merge.out =
            out.data() + r / shape_.group * q_width() + column + r % shape_.group * shape_.head_dim;
        kernels.merge(merge);
      }
    }
    return out;
  }

  /// Of V; 1 where it is not held in codes.
  int value_span() const { return IsKvCode(shape_.dtype) ? RotationSpan(shape_.head_dim) : 1; }

  /// x[head_dim] from V's rotated dims to its own.
  void Rotate(double* x) const {
    const int span = value_span();
    const std::vector<double> from(x, x + shape_.head_dim);
    for (int i = 0; i < shape_.head_dim; ++i) {
      x[i] = 0;
      for (int j = 0; j < span; ++j) {
        const double sign = std::popcount(static_cast<unsigned>(i % span & j)) % 2 == 0 ? 1 : -1;
        x[i] += sign * from[static_cast<size_t>(i / span * span + j)] / span;
      }
    }
  }

  /// One head's K or V as a cache of that type holds it: which code is nearest is decided in
  /// float32.
  std::vector<double> Stored(const float* x, DType dtype) const {
    float largest = 0;
    for (int i = 0; i < shape_.head_dim; ++i) largest = std::max(largest, std::fabs(x[i]));
    const float codes = dtype == DType::kI8 ? kLargestInt8Code : kLargestF8Code;
    std::vector<double> stored;
    for (int i = 0; i < shape_.head_dim; ++i) {
      float code = x[i] * (codes / largest);
      if (dtype == DType::kF32) code = x[i];
      if (dtype == DType::kBF16) code = Bf16ToFloat(FloatToBf16(x[i]));
      if (dtype == DType::kI8) code = std::nearbyint(code);
      if (dtype == DType::kF8E4M3) code = F8E4M3ToFloat(FloatToF8E4M3(code));
      stored.push_back(IsKvCode(dtype) ? static_cast<double>(code) * (largest / codes)
                                       : static_cast<double>(code));
    }
    return stored;
  }

  /// The same rows by the formula, in double, over K and V as the cache's type holds them. After
  /// Append: q is scaled already, and q, K and V are rotated where KV is held in codes.
  std::vector<double> Expected(int first, int count) const {
    const int d = shape_.head_dim, heads = shape_.group * shape_.num_kv_heads;
    std::vector<std::vector<double>> stored;  // [token][K heads, V heads]
    for (int s = 0; s < first + count; ++s) {
      for (int h = 0; h < 2 * shape_.num_kv_heads; ++h) {
        stored.push_back(Stored(Appended(s) + (heads + h) * d, shape_.dtype));
      }
    }
    const auto kv = [&](int token, int head) -> const std::vector<double>& {
      return stored[static_cast<size_t>(token * 2 * shape_.num_kv_heads + head)];
    };
    std::vector<double> out;
    for (int t = first; t < first + count; ++t) {
      for (int h = 0; h < heads; ++h) {
        const float* q = Appended(t) + h * d;
        const int from = shape_.window > 0 ? std::max(0, t + 1 - shape_.window) : 0;
        const int k_head = h / shape_.group, v_head = shape_.num_kv_heads + k_head;
        std::vector<double> weights;
        double top = -1e300, total = 0;
        for (int s = from; s <= t; ++s) {
          double score = 0;
          for (int i = 0; i < d; ++i) {
            score += static_cast<double>(q[i]) * kv(s, k_head)[static_cast<size_t>(i)];
          }
          weights.push_back(score);
          top = std::max(top, score);
        }
        for (double& w : weights) total += w = std::exp(w - top);
        for (int i = 0; i < d; ++i) {
          double sum = 0;
          for (int s = from; s <= t; ++s) {
            sum += weights[s - from] * kv(s, v_head)[static_cast<size_t>(i)];
          }
          out.push_back(sum / total);
        }
        Rotate(out.data() + out.size() - static_cast<size_t>(d));
      }
    }
    return out;
  }

 private:
  size_t RowOffset(int token) const { return static_cast<size_t>(token) * row_width(); }
  float* Appended(int token) { return appended_.data() + RowOffset(token); }
  const float* Appended(int token) const { return appended_.data() + RowOffset(token); }

  const AttentionShape shape_;
  const int seq_len_;
  const int blocks_;
  CpuKvCache cache_;
  std::vector<float> rows_, appended_;
  std::vector<int32_t> table_;
};

}  // namespace modu::kernels::cpu
