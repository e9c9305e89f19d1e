#include "engine/sampling/logit_scan.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

namespace modu::engine {
namespace {

// GCC's and clang's vector types: the same source is 4 lanes wide for any x86-64, 8 under AVX2 and
// 16 under AVX-512. Sixteen lanes are kept in any case, so all give the same bits.
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
template <>
struct Lanes<16> {
  typedef float F __attribute__((vector_size(64)));
  typedef int32_t I __attribute__((vector_size(64)));
};

constexpr float kMinusInf = -std::numeric_limits<float>::infinity();
constexpr int kLanes = 16;
constexpr int32_t kMaximaBlock = 64;
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

/// The largest of each kMaximaBlock logits; the last ones, fewer, are left out.
template <int W>
MODU_INLINE void BlockMaximaImpl(const float* logits, int32_t n, std::vector<float>* maxima) {
  using F = typename Lanes<W>::F;
  for (int32_t begin = 0; begin + kMaximaBlock <= n; begin += kMaximaBlock) {
    F max = F{} + kMinusInf;
    for (int32_t i = begin; i < begin + kMaximaBlock; i += W) {
      F x;
      Load<W>(logits + i, &x);
      max = x > max ? x : max;
    }
    float top = kMinusInf;
    for (int lane = 0; lane < W; ++lane) top = std::max(top, max[lane]);
    maxima->push_back(top);
  }
}

/// kPasses##Name: lanes wide, compiled for `target`.
#define MODU_PASSES(Name, lanes, target)                                                       \
  target RowMax FindMax##Name(const float* logits, int32_t n) {                                \
    return FindMaxImpl<lanes>(logits, n);                                                      \
  }                                                                                            \
  target double SumExp##Name(const float* logits, int32_t n, float max, float scale,           \
                             std::vector<double>* block_sums) {                                \
    return SumExpImpl<lanes>(logits, n, max, scale, block_sums);                               \
  }                                                                                            \
  target int32_t SkipBelow##Name(const float* logits, int32_t i, int32_t n, float threshold) { \
    return SkipBelowImpl<lanes>(logits, i, n, threshold);                                      \
  }                                                                                            \
  target void BlockMaxima##Name(const float* logits, int32_t n, std::vector<float>* maxima) {  \
    BlockMaximaImpl<lanes>(logits, n, maxima);                                                 \
  }                                                                                            \
  constexpr LogitPasses kPasses##Name = {FindMax##Name, SumExp##Name, SkipBelow##Name,         \
                                         BlockMaxima##Name};

MODU_PASSES(Any, 4, )
#if defined(__x86_64__)
MODU_PASSES(Avx2, 8, __attribute__((target("avx2"))))
MODU_PASSES(Avx512, 16, __attribute__((target("avx512f,avx512bw,avx512dq"))))
bool HasAvx2() { return __builtin_cpu_supports("avx2"); }
bool HasAvx512() {
  return __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
}
#else
constexpr LogitPasses kPassesAvx2 = kPassesAny, kPassesAvx512 = kPassesAny;
bool HasAvx2() { return false; }
bool HasAvx512() { return false; }
#endif

const LogitPasses& Best() {
  static const LogitPasses& best = *LogitPassesOf(HasAvx512() ? 16 : HasAvx2() ? 8 : 4);
  return best;
}

/// Keeps the k first, in their order. More than k must be there.
void KeepTopK(int32_t k, std::vector<Candidate>* candidates, std::vector<Candidate>* work) {
  work->assign(candidates->begin(), candidates->end());
  std::nth_element(work->begin(), work->begin() + (k - 1), work->end(), Before);
  const Candidate last = (*work)[k - 1];
  std::erase_if(*candidates, [&](const Candidate& candidate) { return Before(last, candidate); });
}

}  // namespace

const LogitPasses* LogitPassesOf(int lanes) {
  if (lanes == 16) return HasAvx512() ? &kPassesAvx512 : nullptr;
  if (lanes == 8) return HasAvx2() ? &kPassesAvx2 : nullptr;
  return lanes == 4 ? &kPassesAny : nullptr;
}

RowMax FindMax(const float* logits, int32_t n) { return Best().find_max(logits, n); }

double SumExp(const float* logits, int32_t n, float max, float scale,
              std::vector<double>* block_sums) {
  if (block_sums != nullptr) block_sums->clear();
  return Best().sum_exp(logits, n, max, scale, block_sums);
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
  // k blocks whose largest logits are at least the k-th largest of all blocks' have k logits that
  // are: nothing below it is wanted, and little above it is not.
  std::vector<float> maxima;
  maxima.reserve(static_cast<size_t>(n / kMaximaBlock));
  Best().block_maxima(logits, n, &maxima);
  float bar = kMinusInf;
  if (maxima.size() >= static_cast<size_t>(k)) {
    std::nth_element(maxima.begin(), maxima.begin() + (k - 1), maxima.end(), std::greater<>());
    bar = maxima[static_cast<size_t>(k - 1)];
  }
  SelectAtLeast(logits, n, bar, out);
  if (out->size() > static_cast<size_t>(k)) KeepTopK(k, out, work);
}

void SelectAtLeast(const float* logits, int32_t n, float threshold, std::vector<Candidate>* out) {
  out->clear();
  const float lowest = std::max(threshold, -FLT_MAX);
  int32_t i = 0;
  while (i < n) {
    i = Best().skip_below(logits, i, n, lowest);
    const int32_t end = std::min(n, i + kLanes);
    for (; i < end; ++i) {
      if (logits[i] >= lowest) out->push_back({logits[i], i});
    }
  }
}

}  // namespace modu::engine
