// Which instruction sets this process may use: CPUID for the processor, XCR0 for the operating
// system's register state, arch_prctl for AMX's tile data. Any thread; asks the machine each time.
#pragma once
#include <cstdint>
#include <string_view>

namespace modu::kernels::cpu {

enum class Isa : uint8_t {
  kNone,    // no AVX2: the plain backend
  kAvx2,    // with FMA and F16C
  kAvx512,  // F, BW, DQ, VL, VBMI and VNNI; else kAvx2
};

constexpr std::string_view NameOf(Isa isa) {
  constexpr std::string_view kNames[] = {"ref", "avx2", "avx512"};
  return kNames[static_cast<int>(isa)];
}

/// The best set that the processor and the system offer.
Isa DetectIsa();

}  // namespace modu::kernels::cpu
