// Passes over one row of logits, written so that the compiler keeps them in vector registers. Sums
// run over 16 fixed lanes and then blocks of 256 in double, so a row gives the same bits on every
// machine. Pure functions, any thread. n need not be a multiple of anything.
#pragma once
#include <cstdint>
#include <vector>

namespace modu::engine {

constexpr int kScanBlock = 256;

struct RowMax {
  float max;       // -inf if nothing is finite
  int32_t argmax;  // lowest id that has it; -1 if nothing is finite
  bool bad;        // NaN or +inf somewhere
};
RowMax FindMax(const float* logits, int32_t n);

/// Sum of exp((logits[i] - max) * scale); block_sums (if not null) gets one sum for each kScanBlock
/// logits. -inf adds 0.
double SumExp(const float* logits, int32_t n, float max, float scale,
              std::vector<double>* block_sums);

/// exp((logit - max) * scale) by the same polynomial as SumExp, to 2 ulp or so; 0 below exp(-87).
float ExpWeight(float logit, float max, float scale);

struct Candidate {
  float value;
  int32_t id;
};
/// Total order: larger first, then lower id.
inline bool Before(const Candidate& a, const Candidate& b) {
  return a.value > b.value || (a.value == b.value && a.id < b.id);
}

/// The k first in `Before` order among logits above -inf (fewer if there are fewer), in rising id
/// order. `work` is scratch.
void SelectTopK(const float* logits, int32_t n, int32_t k, std::vector<Candidate>* out,
                std::vector<Candidate>* work);

/// All with logits[i] >= threshold, in rising id order; a threshold of -inf means all that are
/// finite.
void SelectAtLeast(const float* logits, int32_t n, float threshold, std::vector<Candidate>* out);

/// The passes over a row as one set of instructions has them; what is above takes the widest.
struct LogitPasses {
  RowMax (*find_max)(const float* logits, int32_t n);
  double (*sum_exp)(const float* logits, int32_t n, float max, float scale,
                    std::vector<double>* block_sums);
  /// The next 16 logits from i on of which one is at least `threshold`; n's last few count.
  int32_t (*skip_below)(const float* logits, int32_t i, int32_t n, float threshold);
  /// The largest of each 64 logits; the last ones, fewer, are left out.
  void (*block_maxima)(const float* logits, int32_t n, std::vector<float>* maxima);
};

/// lanes: 4, 8 or 16; null where the machine has none so wide.
const LogitPasses* LogitPassesOf(int lanes);

}  // namespace modu::engine
