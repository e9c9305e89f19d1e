// Which instruction sets this process may use: CPUID for the processor, XCR0 for the operating
// system's register state, arch_prctl for AMX's tile data. Any thread; asks the machine each time.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace modu::kernels::cpu {

/// Each level has all of those before it.
enum class Isa : uint8_t {
  kNone,        // no AVX2: the plain backend
  kAvx2,        // with FMA and F16C
  kAvx512,      // F, BW, DQ, VL, VBMI, VBMI2 and VNNI
  kAvx512Bf16,  // chosen where its dot products are faster than f32's
  kAmx,         // TILE, INT8 and BF16, and the system's permission to use tile data
};

constexpr std::string_view NameOf(Isa isa) {
  constexpr std::string_view kNames[] = {"ref", "avx2", "avx512", "avx512bf16", "amx"};
  return kNames[static_cast<int>(isa)];
}

/// What the choice depends on.
struct MachineFeatures {
  // Of CPUID: leaf 1, and leaf 7's subleaves 0 and 1.
  uint32_t leaf1_ecx = 0, leaf7_ebx = 0, leaf7_ecx = 0, leaf7_edx = 0, leaf7_1_eax = 0;
  uint64_t xcr0 = 0;             // register state that the system saves
  bool fast_bf16_dots = false;   // vdpbf16ps does more products a cycle than f32 FMAs
  bool tile_permission = false;  // the system has granted XTILEDATA to this process
};

/// Asks for XTILEDATA where processor and system have it; a grant holds for the whole process.
MachineFeatures ReadMachine();

/// What `level` needs and `machine` lacks, by name ("AMX-TILE, AMX-INT8"); empty if nothing.
std::string MissingFor(Isa level, const MachineFeatures& machine);

/// The best level that lacks nothing, and of kAvx512 and kAvx512Bf16 the faster one.
Isa BestIsa(const MachineFeatures& machine);

/// BestIsa of this machine.
Isa DetectIsa();

}  // namespace modu::kernels::cpu
