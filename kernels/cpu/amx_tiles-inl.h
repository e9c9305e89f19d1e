// The processor's tile registers behind the interface that tile kernels are templates over;
// scalar_tiles.h has the same in plain code. Own assembly, since GCC 12's intrinsics say too little
// of the memory that they read (the configuration counts as 8 bytes, a tile load as none, so stores
// before them may be moved or dropped). The compiler knows nothing of tile registers: a sequence
// that counts on them stays within one function. Included by op_dtype_amx files only.
#pragma once
#include <cstdint>

#include "kernels/cpu/tile_config.h"
#include "kernels/cpu/vector-inl.h"

namespace modu::kernels::cpu::MODU_ISA {
namespace {

struct AmxTiles {
  /// Shapes of all tiles, which become zero.
  MODU_INLINE void Configure(const TileConfig& config) {
    asm volatile("ldtilecfg %0" : : "m"(config) : "memory");
  }
  /// Gives the registers back: a thread without tiles in use costs no state to save.
  MODU_INLINE void Release() { asm volatile("tilerelease" : : : "memory"); }

  template <int kTile>
  MODU_INLINE void Zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }
  /// Row r from base + r * stride bytes.
  template <int kTile>
  MODU_INLINE void Load(const void* base, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(base), "r"(stride), "i"(kTile) : "memory");
  }
  /// The same of what will not be read again soon: it takes little of the first cache.
  template <int kTile>
  MODU_INLINE void LoadOnce(const void* base, int64_t stride) {
    asm volatile("tileloaddt1 (%0,%1,1), %%tmm%c2"
                 :
                 : "r"(base), "r"(stride), "i"(kTile)
                 : "memory");
  }
  template <int kTile>
  MODU_INLINE void Store(void* base, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)"
                 :
                 : "r"(base), "r"(stride), "i"(kTile)
                 : "memory");
  }

  /// C += A x B in f32, of bf16 in A and B; see ScalarTiles for the order of additions.
  template <int kC, int kA, int kB>
  MODU_INLINE void DotBf16() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
  }
};

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
