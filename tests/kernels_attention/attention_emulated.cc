// The AVX-512 form of the attention and row kernels, compiled against SIMDe's portable versions of
// the intrinsics: its logic runs on machines without AVX-512.
// clang-format off: it comes first
#include "tests/kernels_linear/emulated_avx512.h"
// clang-format on

#include "tests/kernels_attention/attention_emulated.h"

#include "kernels/cpu/attention-inl.h"
#include "kernels/cpu/attention_int8-inl.h"
#include "kernels/cpu/attention_tiles-inl.h"
#include "kernels/cpu/dot_tiles-inl.h"
#include "kernels/cpu/rows-inl.h"
#include "kernels/cpu/scalar_tiles.h"
#include "tests/kernels_linear/emulated_dot_pairs-inl.h"

namespace modu::kernels::cpu {

extern const AttentionKernels kAttentionEmulated = emulated::FloatAttention();
extern const RowKernels kRowKernelsEmulated = emulated::ThisRowKernels();

AttentionKernels TileAttentionEmulated() {
  return emulated::TileAttention<ScalarTiles>(kAttentionEmulated);
}
AttentionKernels DotAttentionEmulated() {
  AttentionKernels kernels = emulated::TileAttention<emulated::DotTiles>(kAttentionEmulated);
  kernels.run_int8 = emulated::RunInt8;
  return kernels;
}

AttentionKernels PlainValuesEmulated() {
  AttentionKernels kernels = kAttentionEmulated;
  kernels.run_int8 = emulated::RunTiles<emulated::Int8Products<emulated::Int8Values>>;
  return kernels;
}

}  // namespace modu::kernels::cpu
