// RoughMath of one set of instructions. Included by files that are compiled for it only.
#pragma once
#include "kernels/cpu/attention_powers-inl.h"
#include "kernels/cpu/vector_math-inl.h"
#include "tests/kernels_linear/rough_math.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

template <Float (*kOf)(Float)>
void OfSixteen(const float* x, float* y) {
  for (int i = 0; i < 16; i += kLanes) Store(y + i, kOf(Load(x + i)));
}

void PowersOfScores(const float (&scores)[32], float top, uint32_t seen, uint16_t (&out)[32]) {
  StorePowers(scores, PowersOrigin(top), seen, reinterpret_cast<std::byte*>(out));
}

constexpr RoughMath kRoughMath = {OfSixteen<RoughPowerOfTwo>, OfSixteen<RoughReciprocal>,
                                  OfSixteen<RoughSilu>, OfSixteen<RoughGeluTanh>, PowersOfScores};

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
