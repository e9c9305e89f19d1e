// Up to 64 groups of activations to int8 together, on AVX-512: what is worked out once a group is
// so for sixteen in one register, lane i of group i. The bits are QuantiseGroup's.
// Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/int8_lanes-inl.h"
#include "kernels/cpu/quantise_four-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

/// Lane 4 j + i: the four lanes 4 j.. of x[i], joined.
template <typename Join>
MODU_INLINE Float JoinLanes(const Float (&x)[4], const Join& join) {
  const auto halve = [&](Float a, Float b) {
    return join(_mm512_mask_blend_ps(0xCCCC, a, b), _mm512_shuffle_ps(a, b, 0x4E));
  };
  const Float left = halve(x[0], x[1]), right = halve(x[2], x[3]);
  return join(_mm512_shuffle_ps(left, right, 0x88), _mm512_shuffle_ps(left, right, 0xDD));
}

/// Lane 4 i + j: the lanes j, 4 + j, 8 + j and 12 + j of x[i], joined.
template <typename Join>
MODU_INLINE Float JoinQuarters(const Float (&x)[4], const Join& join) {
  const auto halve = [&](Float a, Float b) {
    return join(_mm512_mask_blend_ps(0xFF00, a, b), _mm512_shuffle_f32x4(a, b, 0x4E));
  };
  const Float left = halve(x[0], x[1]), right = halve(x[2], x[3]);
  return join(_mm512_shuffle_f32x4(left, right, 0x88), _mm512_shuffle_f32x4(left, right, 0xDD));
}

/// The smallest and largest values of 16 groups.
struct GroupRanges {
  Float low, high;
};
/// Of `count` groups, 1 to 16, `stride` floats apart; anything behind them.
MODU_INLINE GroupRanges RangesOf(const float* values, int64_t stride, int count) {
  const auto smaller = [](Float a, Float b) { return Min(a, b); };
  const auto larger = [](Float a, Float b) { return Max(a, b); };
  Float lows[4] = {}, highs[4] = {};
#pragma GCC unroll 1
  for (int quad = 0; 4 * quad < count; ++quad, values += 4 * stride) {
    const int last = count - 1 - 4 * quad;
    Float low[4], high[4];
    const float* v = values;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      if (i > 0) v += i <= last ? stride : 0;
      const Float a = Load(v), b = Load(v + kLanes);
      low[i] = Min(a, b);
      high[i] = Max(a, b);
    }
    lows[quad] = JoinLanes(low, smaller);
    highs[quad] = JoinLanes(high, larger);
  }
  return {JoinQuarters(lows, smaller), JoinQuarters(highs, larger)};
}

MODU_INLINE Float LargestOf(const GroupRanges& x) { return Max(x.high, Sub(Zero(), x.low)); }

struct GroupSteps {
  Float scale, inverse, centre;
};
template <bool kCentres>
MODU_INLINE GroupSteps StepsOf(const GroupRanges& x, float least) {
  Float reach = LargestOf(x), centre = Zero();
  if constexpr (kCentres) {
    const Float half = Set(0.5f), middle = Add(Mul(half, x.low), Mul(half, x.high));
    const Float from_middle = Max(Sub(x.high, middle), Sub(middle, x.low));
    const Float gain = Sub(Mul(reach, reach), Mul(from_middle, from_middle));
    const __mmask16 lopsided = _mm512_cmp_ps_mask(gain, Set(least), _CMP_GE_OQ);
    centre = _mm512_maskz_mov_ps(lopsided, Add(middle, Zero()));
    reach = _mm512_mask_blend_ps(lopsided, reach, from_middle);
  }
  const __mmask16 some = _mm512_cmp_ps_mask(reach, Set(1e-36f), _CMP_GE_OQ);
  const Float steps = Set(kInt8Steps);
  return {_mm512_maskz_mov_ps(some, Div(reach, steps)),
          _mm512_maskz_mov_ps(some, Div(steps, reach)), centre};
}

/// Two groups' values as bytes in their order.
template <bool kCentres>
MODU_INLINE Int PairOfBytes(const float* const (&values)[2], const float* centres,
                            const float* inverses) {
  Int words[2];
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const Float inverse = Set(inverses[i]), centre = Set(kCentres ? centres[i] : 0);
    const auto whole = [&](Float x) {
      return _mm512_cvtps_epi32(Mul(kCentres ? Sub(x, centre) : x, inverse));
    };
    words[i] = _mm512_packs_epi32(whole(Load(values[i])), whole(Load(values[i] + kLanes)));
  }
  const Int order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return _mm512_permutexvar_epi32(order, _mm512_packs_epi16(words[0], words[1]));
}

/// Lane i: the sum of group i, from eight sums of four of each group of a pair.
MODU_INLINE Int SumsOfGroups(const Int* pairs) {
  const auto join = [](Int a, Int b) {
    return AddProducts(SetInt(0), _mm512_packs_epi32(a, b), _mm512_set1_epi16(1));
  };
  const Int left = join(join(pairs[0], pairs[1]), join(pairs[2], pairs[3]));
  const Int right = join(join(pairs[4], pairs[5]), join(pairs[6], pairs[7]));
  const Int order = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
  return _mm512_permutexvar_epi32(order, AddInt(_mm512_shuffle_i32x4(left, right, 0x88),
                                                _mm512_shuffle_i32x4(left, right, 0xDD)));
}

/// What is known of groups that are taken together, by steps, each for all of them: the steps'
/// chains of a few groups would be waited for. kCentres: whether they may have centres.
constexpr int kMostTogether = 64;
template <bool kCentres>
class GroupsTogether {
 public:
  alignas(64) float scales[kMostTogether];
  alignas(64) float centres[kMostTogether];
  alignas(64) int32_t begins[kMostTogether];

  MODU_INLINE GroupsTogether(const float* values, int64_t stride, int count)
      : values_(values), stride_(stride), count_(count) {
    for (int i = 0; i < count_; i += 16) {
      const int some = count_ - i < 16 ? count_ - i : 16;
      const GroupRanges ranges = RangesOf(values_ + i * stride_, stride_, some);
      Store(lows() + i, ranges.low);
      Store(highs() + i, ranges.high);
    }
  }

  /// LeastGain of them.
  MODU_INLINE float Least() {
    alignas(64) float largest[kMostTogether];
    for (int i = 0; i < count_; i += 16) Store(largest + i, LargestOf(RangesAt(i)));
    float squares = 0;
    for (int i = 0; i < count_; ++i) squares = __builtin_fmaf(largest[i], largest[i], squares);
    return LeastOf(squares);
  }

  /// Calls put(i, bytes) for every other group i, with its bytes and the next one's; false where a
  /// value is not finite: then nothing of this counts.
  template <typename Put>
  MODU_INLINE bool Quantise(float least, const Put& put) {
    for (int i = 0; i < count_; i += 16) {
      const GroupSteps steps = StepsOf<kCentres>(RangesAt(i), least);
      Store(scales + i, steps.scale);
      Store(inverses_ + i, steps.inverse);
      Store(centres + i, steps.centre);
    }
    for (int p = count_ / 2; p < (count_ + 15) / 16 * 8; ++p) sums_[p] = SetInt(0);
    Int lowest = SetInt(0);
    const float* values = values_;
#pragma GCC unroll 1
    for (int i = 0; i < count_; i += 2, values += 2 * stride_) {
      const float* const next = values + (i + 1 < count_ ? stride_ : 0);
      const Int bytes = PairOfBytes<kCentres>({values, next}, centres + i, inverses_ + i);
      put(i, bytes);
      lowest = _mm512_min_epi8(lowest, bytes);
      sums_[i / 2] = OnesDot(SetInt(0), bytes);
    }
    for (int i = 0; i < count_; i += 16) {
      const Int sums = SumsOfGroups(sums_ + i / 2);
      _mm512_store_si512(begins + i, _mm512_sub_epi32(SetInt(0), _mm512_slli_epi32(sums, 3)));
    }
    // NaN, and infinity times the 0 that it makes of its group's inverse, are converted to the
    // lowest number.
    return _mm512_cmpeq_epi8_mask(lowest, _mm512_set1_epi8(-128)) == 0;
  }

 private:
  float* lows() { return scales; }
  float* highs() { return centres; }
  MODU_INLINE GroupRanges RangesAt(int i) { return {Load(lows() + i), Load(highs() + i)}; }

  const float* const values_;
  const int64_t stride_;
  const int count_;
  alignas(64) float inverses_[kMostTogether];
  Int sums_[kMostTogether / 2];
};

/// So few groups are sooner done by fours: their chains are shorter.
constexpr int kFewGroups = 6;

MODU_INLINE void StoreFirst(int8_t* values, Int bytes) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(values), _mm512_castsi512_si256(bytes));
}

/// What is known of `count` adjacent groups from g on, an even one. A pair's four floats go at
/// once: FinishRow reads them so, and would wait for two halves.
MODU_INLINE void StoreAdjacent(const GroupsTogether<true>& together, int count, std::byte* row,
                               int64_t g) {
  auto* pair = reinterpret_cast<UnfinishedPair*>(row) + g / 2;
  for (int i = 0; i < count; i += 16) {
    const __m512d scales = _mm512_castps_pd(Load(together.scales + i));
    const __m512d centres = _mm512_castps_pd(Load(together.centres + i));
    alignas(64) float floats[2][16];  // of pairs 0, 2, 4, 6 and of 1, 3, 5, 7
    Store(floats[0], _mm512_castpd_ps(_mm512_unpacklo_pd(scales, centres)));
    Store(floats[1], _mm512_castpd_ps(_mm512_unpackhi_pd(scales, centres)));
    alignas(32) uint16_t begins[16];
    _mm256_store_si256(
        reinterpret_cast<__m256i*>(begins),
        _mm256_xor_si256(_mm512_cvtsepi32_epi16(_mm512_load_si512(together.begins + i)),
                         _mm256_set1_epi32(0x8000)));
    for (int j = 0; j < 16 && i + j < count; j += 2, ++pair) {
      const float* const of_pair = floats[j / 2 % 2] + j / 4 * 4;
      if (i + j + 1 == count) {  // the other half may be another worker's
        pair->begin[0] = begins[j];
        pair->scale[0] = of_pair[0];
        pair->centre[0] = of_pair[2];
        return;
      }
      __builtin_memcpy(pair->begin, begins + j, sizeof(pair->begin));
      _mm_storeu_ps(pair->scale, _mm_load_ps(of_pair));
    }
  }
}

/// QuantiseFoursAlong with the row's LeastGain for `least`, if this is all of it.
MODU_INLINE void QuantiseAlong(const float* values, std::byte* row, int64_t groups, int64_t g,
                               int64_t end) {
  const bool is_whole = end - g == groups;
  const bool by_ranges = is_whole && groups > kFewGroups && groups <= kMostTogether;
  const float least = is_whole && !by_ranges ? LeastGain(values, groups) : kNoCentres;
  if (g % 2 != 0) {
    QuantiseGroup(values, least, PlaceOf(row, g++));
    values += kGroup;
  }
  while (end - g > kFewGroups) {
    const int count = static_cast<int>(end - g < kMostTogether ? end - g : kMostTogether);
    GroupsTogether<true> together(values, kGroup, count);
    auto* const pairs = reinterpret_cast<Int8Pair*>(row) + g / 2;
    if (together.Quantise(by_ranges ? together.Least() : least, [&](int i, Int bytes) {
          if (i + 1 == count) return StoreFirst(pairs[i / 2].values, bytes);
          _mm512_storeu_si512(pairs[i / 2].values, bytes);
        })) {
      StoreAdjacent(together, count, row, g);
    } else {
      QuantiseFoursAlong(values, by_ranges ? LeastGain(values, groups) : least, row, g, g + count);
    }
    g += count;
    values += count * kGroup;
  }
  QuantiseFoursAlong(values, least, row, g, end);
}

/// QuantiseFoursDown.
MODU_INLINE void QuantiseDown(const float* values, int64_t stride, int rows, std::byte* row,
                              int64_t row_bytes, int64_t g) {
  while (rows > kFewGroups) {
    const int count = rows < kMostTogether ? rows : kMostTogether;
    GroupsTogether<false> together(values, stride, count);
    int8_t* to = PlaceOf(row, g).values;
    if (together.Quantise(kNoCentres, [&](int i, Int bytes) {
          StoreFirst(to, bytes);
          to += row_bytes;
          if (i + 1 == count) return;
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm512_extracti64x4_epi64(bytes, 1));
          to += row_bytes;
        })) {
      for (int r = 0; r < count; ++r) {
        PlaceOf(row + r * row_bytes, g).Store(together.scales[r], 0, together.begins[r]);
      }
    } else {
      QuantiseFoursDown(values, stride, count, row, row_bytes, g);
    }
    rows -= count;
    values += count * stride;
    row += count * row_bytes;
  }
  QuantiseFoursDown(values, stride, rows, row, row_bytes, g);
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
