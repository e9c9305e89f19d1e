// The AVX-512 form of the attention and row kernels, compiled against SIMDe's portable versions of
// the intrinsics: its logic runs on machines without AVX-512.
#define MODU_VECTOR_EMULATED 1
#define MODU_VECTOR_AVX512 1
#define SIMDE_ENABLE_NATIVE_ALIASES
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wall"
#pragma GCC diagnostic ignored "-Wextra"
#include <simde/x86/avx512.h>
#include <simde/x86/fma.h>
#pragma GCC diagnostic pop

#include "kernels/cpu/attention-inl.h"
#include "kernels/cpu/attention_tiles-inl.h"
#include "kernels/cpu/dot_tiles-inl.h"
#include "kernels/cpu/rows-inl.h"
#include "kernels/cpu/scalar_tiles.h"
#include "tests/kernels_attention/attention_emulated.h"
#include "tests/kernels_linear/emulated_dot_pairs-inl.h"

namespace modu::kernels::cpu {

extern const AttentionKernels kAttentionEmulated = {emulated::RunF32, emulated::RunBf16,
                                                    emulated::Merge};
extern const RowKernels kRowKernelsEmulated = {emulated::RmsNorm, emulated::QkvToken<false>,
                                               emulated::QkvToken<true>};

AttentionFn Bf16AttentionEmulated() { return emulated::RunBf16Tiles<ScalarTiles>; }
AttentionFn Bf16DotAttentionEmulated() { return emulated::RunBf16Tiles<emulated::DotTiles>; }

}  // namespace modu::kernels::cpu
