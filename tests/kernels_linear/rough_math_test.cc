#include "tests/kernels_linear/rough_math.h"

#include <xmmintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>
#include <vector>

#include "kernels/cpu/isa.h"
#include "tests/catch.h"
#include "tests/kernels_linear/random_weights.h"

namespace modu::kernels::cpu {
namespace {

using tests::Random;

std::vector<std::pair<const char*, RoughMath>> Candidates() {
  std::vector<std::pair<const char*, RoughMath>> candidates;
  if (DetectIsa() < Isa::kAvx2) return candidates;
  candidates.emplace_back("twin", RoughMathTwin());
#if defined(MODU_HAVE_EMULATED)
  candidates.emplace_back("emulated", RoughMathEmulated());
#endif
  if (DetectIsa() >= Isa::kAmx) candidates.emplace_back("amx", RoughMathAmx());
  return candidates;
}

std::vector<float> Of(RoughMath::Function function, const std::vector<float>& x) {
  std::vector<float> y(x.size());
  for (size_t i = 0; i < x.size(); i += 16) {
    alignas(64) float in[16] = {}, out[16];
    const size_t count = std::min<size_t>(16, x.size() - i);
    std::memcpy(in, x.data() + i, count * sizeof(float));
    function(in, out);
    std::memcpy(y.data() + i, out, count * sizeof(float));
  }
  return y;
}

/// The largest relative error.
template <typename Exact>
double WorstOf(RoughMath::Function function, const std::vector<float>& x, const Exact& exact) {
  double worst = 0;
  const std::vector<float> y = Of(function, x);
  for (size_t i = 0; i < x.size(); ++i) {
    const double want = exact(static_cast<double>(x[i]));
    if (want != 0) worst = std::max(worst, std::fabs(y[i] / want - 1));
  }
  return worst;
}

std::vector<float> Between(float from, float to) {
  Random random(7);
  std::vector<float> x = {from, to};
  for (int i = 0; i < 20000; ++i) x.push_back(random.Between(from, to));
  return x;
}

}  // namespace

TEST_CASE("rough functions are as near as they say") {
  for (const auto& [name, math] : Candidates()) {
    INFO(name);
    const auto power = [](double x) { return std::exp2(x); };
    CHECK(WorstOf(math.power_of_two, Between(-124, 0), power) < 3.2e-6);
    CHECK(WorstOf(math.power_of_two, Between(-2, 2), power) < 3.2e-6);
    CHECK(WorstOf(math.power_of_two, Between(0, 125), power) < 3.2e-6);
    CHECK(Of(math.power_of_two, {0.0f, -3.0f}) == std::vector<float>{1.0f, 0.125f});
    const auto inverse = [](double x) { return 1 / x; };
    CHECK(WorstOf(math.reciprocal, Between(1, 4), inverse) < 1.1e-6);
    CHECK(WorstOf(math.reciprocal, {1e6f, 3e20f, 0x1p125f}, inverse) < 1.1e-6);
    const auto silu = [](double x) { return x / (1 + std::exp(-x)); };
    CHECK(WorstOf(math.silu, Between(-80, 80), silu) < 1e-5);
    CHECK(WorstOf(math.silu, Between(-4, 4), silu) < 1e-5);
    const auto gelu = [](double x) {
      const double inner = 1.5957691216057308 * (x + 0.044715 * x * x * x);
      return x / (1 + std::exp(-inner));
    };
    CHECK(WorstOf(math.gelu_tanh, Between(-9.8f, 40), gelu) < 2e-5);
  }
}

TEST_CASE("powers of scores are bf16 as near as they say, on every instruction set the same") {
  const auto value = [](uint16_t bits) {
    const uint32_t wide = uint32_t{bits} << 16;
    float x;
    std::memcpy(&x, &wide, sizeof(x));
    return x;
  };
  std::vector<uint16_t> first;
  for (const auto& [name, math] : Candidates()) {
    INFO(name);
    Random dice(11);
    std::vector<uint16_t> all;
    double squares = 0, worst = 0;
    constexpr int kRounds = 2000;
    for (int round = 0; round < kRounds; ++round) {
      const float top = dice.Between(-300, 300);
      float scores[32];
      uint16_t out[32];
      for (float& score : scores) score = top - dice.Between(0, 20);
      scores[round % 32] = top;
      math.powers(scores, top, ~0u, out);
      CHECK(out[round % 32] == 0x3F80);  // 1
      for (int i = 0; i < 32; ++i) {
        const double error = value(out[i]) / std::exp2(double{scores[i]} - double{top}) - 1;
        squares += error * error;
        worst = std::max(worst, std::fabs(error));
        all.push_back(out[i]);
      }
    }
    CHECK(worst < 5.6e-3);
    CHECK(std::sqrt(squares / (32 * kRounds)) < 1.85e-3);
    if (first.empty()) first = all;
    CHECK(all == first);
    // Far below and no number: 0, as what the row does not see is.
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    float scores[32] = {-200, -1e30f, -kInfinity, std::nanf(""), 0, 0, 5};
    uint16_t out[32];
    math.powers(scores, 0, ~0u << 5, out);
    CHECK(std::all_of(out, out + 5, [](uint16_t bits) { return bits == 0; }));
    CHECK((out[5] == 0x3F80 && out[7] == 0x3F80));
    math.powers(scores, 0, ~0u, out);
    CHECK((out[0] == 0 && out[1] == 0 && out[2] == 0 && out[3] == 0 && out[4] == 0x3F80));
    math.powers(scores, kInfinity, ~0u, out);
    CHECK(std::all_of(out, out + 32, [](uint16_t bits) { return bits == 0; }));
  }
}

TEST_CASE("rough functions take what is large, tiny or no number") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const auto& [name, math] : Candidates()) {
    INFO(name);
    for (const RoughMath::Function function : {math.silu, math.gelu_tanh}) {
      const std::vector<float> y =
          Of(function, {1e4f, 3e38f, kInfinity, -1e4f, 0.0f, 1e-30f, std::nanf("")});
      CHECK(std::fabs(y[0] / 1e4f - 1) < 1e-5f);
      CHECK((y[1] > 2.9e38f && y[2] == kInfinity));
      CHECK((std::fabs(y[3]) < 1e-30f && y[4] == 0.0f));
      CHECK(std::fabs(y[5] / 0.5e-30f - 1) < 1.2e-4f);
      CHECK(std::isnan(y[6]));
    }
    const std::vector<float> powers = Of(math.power_of_two, {-200.0f, -3e38f, std::nanf("")});
    CHECK((powers[0] < 0x1p-125f && powers[1] < 0x1p-125f && std::isnan(powers[2])));
  }
}

TEST_CASE("rough functions have the same bits on every instruction set") {
  const auto candidates = Candidates();
  if (candidates.size() < 2) return;
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040);  // denormals are zeros, as workers have them
  std::vector<float> x = Between(-300, 100);
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float more : {-0.5f, 0.5f, -1e-9f, -1.5f, -2.5f, 0.0f, 1e-38f, -3e38f, -infinity}) {
    x.push_back(more);
  }
  std::vector<float> above_one = Between(1, 1e30f);
  const RoughMath& first = candidates[0].second;
  for (const auto& [name, math] : candidates) {
    INFO(name);
    const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
      return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    };
    CHECK(same(Of(math.power_of_two, x), Of(first.power_of_two, x)));
    CHECK(same(Of(math.silu, x), Of(first.silu, x)));
    CHECK(same(Of(math.gelu_tanh, x), Of(first.gelu_tanh, x)));
    CHECK(same(Of(math.reciprocal, above_one), Of(first.reciprocal, above_one)));
  }
  _mm_setcsr(before);
}

}  // namespace modu::kernels::cpu
