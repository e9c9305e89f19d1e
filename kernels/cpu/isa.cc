#include "kernels/cpu/isa.h"

#include <cpuid.h>

namespace modu::kernels::cpu {
namespace {

struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers Cpuid(unsigned leaf, unsigned subleaf) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d) == 0) return {};
  return r;
}

constexpr bool Bit(uint64_t word, int bit) { return ((word >> bit) & 1) != 0; }

/// The register state that the system saves: 6 is SSE and AVX, 0xE6 AVX-512 as well.
uint64_t EnabledState() {
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

}  // namespace

Isa DetectIsa() {
  const Registers leaf1 = Cpuid(1, 0), leaf7 = Cpuid(7, 0);
  const bool fma = Bit(leaf1.c, 12), f16c = Bit(leaf1.c, 29), osxsave = Bit(leaf1.c, 27);
  if (!osxsave || !fma || !f16c || !Bit(leaf7.b, 5)) return Isa::kNone;
  const uint64_t state = EnabledState();
  if ((state & 0x6) != 0x6) return Isa::kNone;
  const bool foundation =
      Bit(leaf7.b, 16) && Bit(leaf7.b, 17) && Bit(leaf7.b, 30) && Bit(leaf7.b, 31);  // F DQ BW VL
  const bool bytes = Bit(leaf7.c, 1) && Bit(leaf7.c, 11);                            // VBMI, VNNI
  if (foundation && bytes && (state & 0xE6) == 0xE6) return Isa::kAvx512;
  return Isa::kAvx2;
}

}  // namespace modu::kernels::cpu
