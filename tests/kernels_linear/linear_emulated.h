// The AVX-512 kernels over emulated intrinsics (linear_emulated.cc), where SIMDe is installed.
#pragma once
#include "kernels/cpu/linear_kernels.h"

namespace modu::kernels::cpu {
const Int8Kernels& Int8KernelsEmulated();
const Int8Kernels& Int8WinogradEmulated();  // for any number of rows
const FloatKernels& FloatKernelsEmulated();
FloatStripFn Bf16DotsEmulated();
CoarseStripFn CoarseStripEmulated();
const Bf16TileKernels& Bf16TileKernelsEmulated();
}  // namespace modu::kernels::cpu
