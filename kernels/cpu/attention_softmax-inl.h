// Softmax of a piece of one row, and how the pieces' states (attention_kernel.h) merge: what the
// vector and the tile kernels of attention share. Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/hadamard-inl.h"
#include "kernels/cpu/vector_math-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

MODU_INLINE int64_t TokenOf(const AttentionItem& item, int token) {
  return item.q_tokens == nullptr ? token : item.q_tokens[token];
}

constexpr float kLowest = -3.0e38f;

/// Turns scores [first, last) of one piece into exp(score - max) in place; positions outside, in
/// the same groups of 16, become 0. Writes max and sum to state[0] and state[1].
MODU_INLINE void SoftmaxPiece(float* scores, int first, int last, float* state) {
  const int begin = first / 16 * 16;
  Group top = SetGroup(kLowest);
  for (int i = begin; i < last; i += 16) {
    Group x = LoadGroup(scores + i);
    for (int part = 0; part < kParts; ++part) {
      if (i < first || i + 16 > last) {
        const int at = i + part * kLanes;
        x.part[part] = Select(x.part[part], Set(kLowest), first - at, last - at);
      }
      top.part[part] = Max(x.part[part], top.part[part]);
    }
  }
  const float max = Max(top);
  Group sum = SetGroup(0.0f);
  for (int i = begin; i < last; i += 16) {
    Group x = LoadGroup(scores + i);
    for (int part = 0; part < kParts; ++part) {
      x.part[part] = Exp(Sub(x.part[part], Set(max)));
      if (i < first || i + 16 > last) {
        const int at = i + part * kLanes;
        x.part[part] = Select(x.part[part], Zero(), first - at, last - at);
      }
      sum.part[part] = Add(sum.part[part], x.part[part]);
    }
    StoreGroup(scores + i, x);
  }
  state[0] = max;
  state[1] = Sum(sum);
}

MODU_INLINE float ExpOf(float x) {
  float lanes[kLanes];
  Store(lanes, Exp(Set(x)));
  return lanes[0];
}

/// total (+)= piece, by the usual rescaling to the larger max.
void MergeState(const float* piece, bool is_first, int padded_dim, float* total) {
  if (is_first) {
    total[0] = piece[0];
    total[1] = piece[1];
    for (int i = kStateHeader; i < kStateHeader + padded_dim; i += 16) {
      StoreGroup(total + i, LoadGroup(piece + i));
    }
    return;
  }
  const float max = piece[0] > total[0] ? piece[0] : total[0];
  const float old_factor = ExpOf(total[0] - max);
  const float new_factor = ExpOf(piece[0] - max);
  total[0] = max;
  total[1] = __builtin_fmaf(piece[1], new_factor, total[1] * old_factor);
  for (int i = kStateHeader; i < kStateHeader + padded_dim; i += kLanes) {
    Store(total + i, Fma(Load(piece + i), Set(new_factor), Mul(Load(total + i), Set(old_factor))));
  }
}

/// MergeState of each of `rows` rows, StateFloats apart, whose bit of `seen` is set: a total
/// without pieces before becomes the piece.
template <int kMostRows>
void MergeStates(const float* pieces, int rows, uint32_t seen, int padded_dim, float* totals) {
  static_assert(kMostRows % kLanes == 0 && kMostRows <= 32);
  const int64_t state_floats = StateFloats(padded_dim);
  // Of all rows at once: largest scores and sums, of the piece and of the total.
  alignas(64) float top[2][kMostRows] = {}, sum[2][kMostRows] = {}, factor[2][kMostRows];
  for (int r = 0; r < rows; ++r) {
    const float* const piece = pieces + r * state_floats;
    const float* const total = totals + r * state_floats;
    if ((seen >> r & 1) == 0) continue;
    top[0][r] = piece[0], sum[0][r] = piece[1];
    if (total[kHasPieces] != 0.0f) top[1][r] = total[0], sum[1][r] = total[1];
  }
  for (int r = 0; r < rows; r += kLanes) {
    const Float piece = Load(top[0] + r), total = Load(top[1] + r);
    const Float max = Max(piece, total);
    const Float old_factor = Exp(Sub(total, max)), new_factor = Exp(Sub(piece, max));
    Store(top[0] + r, max);
    Store(sum[0] + r, Fma(Load(sum[0] + r), new_factor, Mul(Load(sum[1] + r), old_factor)));
    Store(factor[0] + r, new_factor);
    Store(factor[1] + r, old_factor);
  }
  for (int r = 0; r < rows; ++r) {
    if ((seen >> r & 1) == 0) continue;
    const float* const piece = pieces + r * state_floats;
    float* const total = totals + r * state_floats;
    if (total[kHasPieces] == 0.0f) {
      MergeState(piece, true, padded_dim, total);
      total[kHasPieces] = 1.0f;
      continue;
    }
    total[0] = top[0][r];
    total[1] = sum[0][r];
    const Float new_factor = Set(factor[0][r]), old_factor = Set(factor[1][r]);
    for (int i = kStateHeader; i < state_floats; i += kLanes) {
      Store(total + i, Fma(Load(piece + i), new_factor, Mul(Load(total + i), old_factor)));
    }
  }
}

/// out = o / l, where V is rotated in its own dims again.
void Finish(const float* state, int head_dim, int value_span, float* out) {
  const float inverse = 1.0f / state[1] / static_cast<float>(value_span);
  if (head_dim == 64 && value_span == 64) {  // most heads, in registers
    Float v[64 / kLanes];
    LoadAll(state + kStateHeader, v);
    for (Float& x : v) x = Mul(x, Set(inverse));
    HadamardInRegisters(v);
    StoreAll(v, out);
    return;
  }
  int i = 0;
  for (; i + kLanes <= head_dim; i += kLanes) {
    Store(out + i, Mul(Load(state + kStateHeader + i), Set(inverse)));
  }
  for (; i < head_dim; ++i) out[i] = state[kStateHeader + i] * inverse;
  Hadamard(out, head_dim, value_span);
}

inline void Merge(const MergeItem& item) {
  float total[kStateHeader + 1024];
  for (int piece = 0; piece < item.num_pieces; ++piece) {
    MergeState(item.partials + piece * item.piece_stride, piece == 0, item.padded_dim, total);
  }
  Finish(total, item.head_dim, item.value_span, item.out);
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
