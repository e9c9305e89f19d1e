// The AVX-512 form of the matrix products, compiled against SIMDe's portable versions of the
// intrinsics: its logic runs on machines without AVX-512.
// clang-format off: it comes first
#include "tests/kernels_linear/emulated_avx512.h"
// clang-format on

#include "tests/kernels_linear/linear_emulated.h"

#include "kernels/cpu/coarse_int8-inl.h"
#include "kernels/cpu/int8_join-inl.h"
#include "kernels/cpu/linear_bf16_dots-inl.h"
#include "kernels/cpu/linear_bf16_tiles-inl.h"
#include "kernels/cpu/linear_f32-inl.h"
#include "kernels/cpu/linear_int8-inl.h"
#include "kernels/cpu/linear_int8_winograd-inl.h"
#include "kernels/cpu/scalar_tiles.h"
#include "tests/kernels_linear/emulated_dot_pairs-inl.h"
#include "tests/kernels_linear/rough_math-inl.h"

namespace modu::kernels::cpu {
const Int8Kernels& Int8KernelsEmulated() { return emulated::kInt8Kernels; }
const Int8Kernels& Int8WinogradEmulated() { return emulated::kWinogradKernels<1>; }
const Bf16TileKernels& Bf16TileKernelsEmulated() { return emulated::kBf16TileKernels<ScalarTiles>; }
const FloatKernels& FloatKernelsEmulated() { return emulated::kFloatKernels; }
FloatStripFn Bf16DotsEmulated() { return emulated::Bf16DotsStrip; }
CoarseStripFn CoarseStripEmulated() { return emulated::CoarseStrip; }
RoughMath RoughMathEmulated() { return emulated::kRoughMath; }
}  // namespace modu::kernels::cpu
