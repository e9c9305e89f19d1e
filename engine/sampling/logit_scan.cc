#include "engine/sampling/logit_scan.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <limits>

namespace modu::engine {
namespace {

// GCC's and clang's vector types: the same source is 4 lanes wide for any x86-64 and 8 lanes wide
// under AVX2. Sixteen lanes are kept either way, so both give the same bits.
template <int W>
struct Lanes;
template <>
struct Lanes<4> {
  typedef float F __attribute__((vector_size(16)));
  typedef int32_t I __attribute__((vector_size(16)));
};
template <>
struct Lanes<8> {
  typedef float F __attribute__((vector_size(32)));
  typedef int32_t I __attribute__((vector_size(32)));
};

constexpr float kMinusInf = -std::numeric_limits<float>::infinity();
constexpr int kLanes = 16;
constexpr float kExpLowest = -87.0f;  // exp(-87) is still a normal float

#define MODU_INLINE __attribute__((always_inline)) inline

template <int W>
MODU_INLINE void Load(const float* from, typename Lanes<W>::F* to) {
  std::memcpy(to, from, sizeof(*to));
}

template <int W>
MODU_INLINE void Exp(const typename Lanes<W>::F& x, typename Lanes<W>::F* y) {
  using F = typename Lanes<W>::F;
  using I = typename Lanes<W>::I;
  const F lowest = F{} + kExpLowest;
  const I alive = x >= lowest;
  const F c = alive ? x : lowest;
  const F magic =
      F{} + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer that lies in the low bits
  const F shifted = c * 1.44269504f + magic;
  const F rounded = shifted - magic;
  const F r = (c - rounded * 0.693359375f) -
              rounded * -2.12194440e-4f;  // Cody and Waite, two pieces of ln 2
  F p = F{} + 1.9875691500e-4f;           // Cephes expf
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  I bits;
  I exponent;
  std::memcpy(&bits, &p, sizeof(bits));
  std::memcpy(&exponent, &shifted, sizeof(exponent));
  bits += exponent << 23;
  bits &= alive;
  std::memcpy(y, &bits, sizeof(bits));
}

template <int W>
MODU_INLINE RowMax FindMaxImpl(const float* logits, int32_t n) {
  using F = typename Lanes<W>::F;
  using I = typename Lanes<W>::I;
  constexpr int kVectors = kLanes / W;
  F max[kVectors];
  I good[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    max[v] = F{} + kMinusInf;
    good[v] = ~I{};
  }
  const F largest = F{} + FLT_MAX;
  int32_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      F x;
      Load<W>(logits + i + v * W, &x);
      good[v] &= x <= largest;
      max[v] = x > max[v] ? x : max[v];
    }
  }
  float top = kMinusInf;
  bool bad = false;
  for (int v = 0; v < kVectors; ++v) {
    for (int lane = 0; lane < W; ++lane) {
      top = std::max(top, max[v][lane]);
      bad |= good[v][lane] == 0;
    }
  }
  for (; i < n; ++i) {
    bad |= !(logits[i] <= FLT_MAX);
    if (logits[i] > top) top = logits[i];
  }
  if (bad || top == kMinusInf) return {top, -1, bad};
  int32_t at = 0;
  const F wanted = F{} + top;
  for (; at + kLanes <= n; at += kLanes) {  // the block that holds it, then the place in it
    I hit{};
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      F x;
      Load<W>(logits + at + v * W, &x);
      hit |= x == wanted;
    }
    int64_t parts[W / 2];
    std::memcpy(parts, &hit, sizeof(parts));
    int64_t any = 0;
    for (int64_t part : parts) any |= part;
    if (any != 0) break;
  }
  while (logits[at] != top) ++at;
  return {top, at, false};
}

template <int W>
MODU_INLINE double SumExpImpl(const float* logits, int32_t n, float max, float scale,
                              std::vector<double>* block_sums) {
  using F = typename Lanes<W>::F;
  constexpr int kVectors = kLanes / W;
  double total = 0;
  for (int32_t begin = 0; begin < n; begin += kScanBlock) {
    const int32_t end = std::min(n, begin + kScanBlock);
    F sum[kVectors];
    for (int v = 0; v < kVectors; ++v) sum[v] = F{};
    int32_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        F x, y;
        Load<W>(logits + i + v * W, &x);
        x = (x - max) * scale;
        Exp<W>(x, &y);
        sum[v] += y;
      }
    }
    double block = 0;
    for (int v = 0; v < kVectors; ++v) {
      for (int lane = 0; lane < W; ++lane) block += sum[v][lane];
    }
    for (; i < end; ++i) block += ExpWeight(logits[i], max, scale);
    total += block;
    if (block_sums != nullptr) block_sums->push_back(block);
  }
  return total;
}

template <int W>
MODU_INLINE bool AnyAtLeast(const float* logits, const typename Lanes<W>::F& threshold) {
  using F = typename Lanes<W>::F;
  using I = typename Lanes<W>::I;
  I hit{};
#pragma GCC unroll 4
  for (int v = 0; v < kLanes / W; ++v) {
    F x;
    Load<W>(logits + v * W, &x);
    hit |= x >= threshold;
  }
  int64_t parts[W / 2];
  std::memcpy(parts, &hit, sizeof(parts));
  int64_t any = 0;
  for (int64_t part : parts) any |= part;
  return any != 0;
}

/// Finds the next 16 logits from i on of which one is at least `threshold`; n's last few count as
/// found.
template <int W>
MODU_INLINE int32_t SkipBelowImpl(const float* logits, int32_t i, int32_t n, float threshold) {
  typename Lanes<W>::F wanted{};
  wanted += threshold;
  while (i + kLanes <= n && !AnyAtLeast<W>(logits + i, wanted)) i += kLanes;
  return i;
}

#if defined(__x86_64__)
#define MODU_AVX2 __attribute__((target("avx2")))
MODU_AVX2 RowMax FindMaxAvx2(const float* logits, int32_t n) { return FindMaxImpl<8>(logits, n); }
MODU_AVX2 double SumExpAvx2(const float* logits, int32_t n, float max, float scale,
                            std::vector<double>* block_sums) {
  return SumExpImpl<8>(logits, n, max, scale, block_sums);
}
MODU_AVX2 int32_t SkipBelowAvx2(const float* logits, int32_t i, int32_t n, float threshold) {
  return SkipBelowImpl<8>(logits, i, n, threshold);
}
bool HasAvx2() {
  static const bool has = __builtin_cpu_supports("avx2");
  return has;
}
#else
RowMax FindMaxAvx2(const float* logits, int32_t n) { return FindMaxImpl<4>(logits, n); }
double SumExpAvx2(const float* logits, int32_t n, float max, float scale,
                  std::vector<double>* block_sums) {
  return SumExpImpl<4>(logits, n, max, scale, block_sums);
}
int32_t SkipBelowAvx2(const float* logits, int32_t i, int32_t n, float threshold) {
  return SkipBelowImpl<4>(logits, i, n, threshold);
}
bool HasAvx2() { return false; }
#endif

int32_t SkipBelow(const float* logits, int32_t i, int32_t n, float threshold) {
  return HasAvx2() ? SkipBelowAvx2(logits, i, n, threshold)
                   : SkipBelowImpl<4>(logits, i, n, threshold);
}

/// Keeps the k first, in their order. More than k must be there.
Candidate KeepTopK(int32_t k, std::vector<Candidate>* candidates, std::vector<Candidate>* work) {
  work->assign(candidates->begin(), candidates->end());
  std::nth_element(work->begin(), work->begin() + (k - 1), work->end(), Before);
  const Candidate last = (*work)[k - 1];
  size_t kept = 0;
  for (const Candidate& candidate : *candidates) {
    if (!Before(last, candidate)) (*candidates)[kept++] = candidate;
  }
  candidates->resize(kept);
  return last;
}

}  // namespace

RowMax FindMax(const float* logits, int32_t n) {
  return HasAvx2() ? FindMaxAvx2(logits, n) : FindMaxImpl<4>(logits, n);
}

double SumExp(const float* logits, int32_t n, float max, float scale,
              std::vector<double>* block_sums) {
  if (block_sums != nullptr) block_sums->clear();
  return HasAvx2() ? SumExpAvx2(logits, n, max, scale, block_sums)
                   : SumExpImpl<4>(logits, n, max, scale, block_sums);
}

float ExpWeight(float logit, float max, float scale) {
  Lanes<4>::F x{}, y;
  x += (logit - max) * scale;
  Exp<4>(x, &y);
  return y[0];
}

void SelectTopK(const float* logits, int32_t n, int32_t k, std::vector<Candidate>* out,
                std::vector<Candidate>* work) {
  out->clear();
  if (k <= 0) return;
  // Collect whatever beats the k-th best so far; each time the list has doubled, cut it back and
  // raise the bar. Later ids that only equal the bar lose the tie, so "beats" is strict once there
  // is a bar.
  const size_t full = static_cast<size_t>(k) * 2 + 64;
  float bar = kMinusInf;
  int32_t i = 0;
  while (i < n) {
    i = SkipBelow(logits, i, n, bar);
    const int32_t end = std::min(n, i + kLanes);
    for (; i < end; ++i) {
      if (logits[i] > bar) out->push_back({logits[i], i});
    }
    if (out->size() >= full) bar = KeepTopK(k, out, work).value;
  }
  if (out->size() > static_cast<size_t>(k)) KeepTopK(k, out, work);
}

void SelectAtLeast(const float* logits, int32_t n, float threshold, std::vector<Candidate>* out) {
  out->clear();
  const float lowest = std::max(threshold, -FLT_MAX);
  int32_t i = 0;
  while (i < n) {
    i = SkipBelow(logits, i, n, lowest);
    const int32_t end = std::min(n, i + kLanes);
    for (; i < end; ++i) {
      if (logits[i] >= lowest) out->push_back({logits[i], i});
    }
  }
}

}  // namespace modu::engine
