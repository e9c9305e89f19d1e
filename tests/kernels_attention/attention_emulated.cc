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
#include "kernels/cpu/rows-inl.h"
#include "kernels/cpu/scalar_tiles.h"

namespace modu::kernels::cpu::emulated {
namespace {
/// VDPBF16PS as the SDM has it; SIMDe's adds in another order and keeps denormals.
Float DotPairs(Float sum, Int a, Int b) {
  alignas(64) float c[16];
  alignas(64) uint32_t x[16], y[16];
  _mm512_store_ps(c, sum);
  _mm512_store_si512(x, a);
  _mm512_store_si512(y, b);
  const auto value = [](uint32_t bits) {
    float f;
    __builtin_memcpy(&f, &bits, sizeof(f));
    return f;
  };
  for (int i = 0; i < 16; ++i) {
    c[i] = FusedFlushed(value(x[i] & 0xFFFF0000u), value(y[i] & 0xFFFF0000u), c[i]);
    c[i] = FusedFlushed(value(x[i] << 16), value(y[i] << 16), c[i]);
  }
  return _mm512_load_ps(c);
}
}  // namespace
}  // namespace modu::kernels::cpu::emulated

#include "kernels/cpu/dot_tiles-inl.h"
#include "tests/kernels_attention/attention_emulated.h"

namespace modu::kernels::cpu {

extern const AttentionKernels kAttentionEmulated = {emulated::RunF32, emulated::RunBf16,
                                                    emulated::Merge};
extern const RowKernels kRowKernelsEmulated = {emulated::RmsNorm, emulated::QkvToken<false>,
                                               emulated::QkvToken<true>};

AttentionFn Bf16AttentionEmulated() { return emulated::RunBf16Tiles<ScalarTiles>; }
AttentionFn Bf16DotAttentionEmulated() { return emulated::RunBf16Tiles<emulated::DotTiles>; }

}  // namespace modu::kernels::cpu
