#include "kernels/cpu/isa.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace modu::kernels::cpu {
namespace {

constexpr int kOsxsave = 27;  // of leaf 1's ECX
// Bits of XCR0: SSE and AVX; those and AVX-512's masks and registers; AMX's configuration and data.
constexpr uint64_t kAvxState = 0x6, kAvx512State = 0xE6, kTileState = uint64_t{3} << 17;
// Linux's <asm/prctl.h>, which older headers lack: arch_prctl(2), "Dynamic XSTATE".
constexpr long kRequestXstatePermission = 0x1023;
constexpr long kXtileData = 18;

constexpr bool Has(uint64_t word, int bit) { return ((word >> bit) & 1) != 0; }

/// A feature bit of CPUID and the level that needs it first.
struct Feature {
  Isa level;
  uint32_t MachineFeatures::* word;
  int bit;
  const char* name;
};
constexpr Feature kFeatures[] = {
    {Isa::kAvx2, &MachineFeatures::leaf1_ecx, 12, "FMA"},
    {Isa::kAvx2, &MachineFeatures::leaf1_ecx, 29, "F16C"},
    {Isa::kAvx2, &MachineFeatures::leaf7_ebx, 5, "AVX2"},
    {Isa::kAvx512, &MachineFeatures::leaf7_ebx, 16, "AVX512F"},
    {Isa::kAvx512, &MachineFeatures::leaf7_ebx, 17, "AVX512DQ"},
    {Isa::kAvx512, &MachineFeatures::leaf7_ebx, 30, "AVX512BW"},
    {Isa::kAvx512, &MachineFeatures::leaf7_ebx, 31, "AVX512VL"},
    {Isa::kAvx512, &MachineFeatures::leaf7_ecx, 1, "AVX512-VBMI"},
    {Isa::kAvx512, &MachineFeatures::leaf7_ecx, 6, "AVX512-VBMI2"},
    {Isa::kAvx512, &MachineFeatures::leaf7_ecx, 11, "AVX512-VNNI"},
    {Isa::kAvx512Bf16, &MachineFeatures::leaf7_1_eax, 5, "AVX512-BF16"},
    {Isa::kAmx, &MachineFeatures::leaf7_edx, 22, "AMX-BF16"},
    {Isa::kAmx, &MachineFeatures::leaf7_edx, 24, "AMX-TILE"},
    {Isa::kAmx, &MachineFeatures::leaf7_edx, 25, "AMX-INT8"},
};

struct Registers {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
};

/// Zeros where the processor has no such leaf.
Registers ReadLeaf(unsigned leaf, unsigned subleaf) {
  Registers r;
  if (__get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx) == 0) return {};
  return r;
}

/// AMD's vdpbf16ps is issued as often as an FMA and does twice its products (measured on Zen 4,
/// where it came); Intel's takes four times as long (Sapphire Rapids).
bool HasFastBf16Dots() {
  Registers vendor;
  unsigned highest = 0;
  return __get_cpuid(0, &highest, &vendor.ebx, &vendor.ecx, &vendor.edx) != 0 &&
         vendor.ebx == signature_AMD_ebx && vendor.ecx == signature_AMD_ecx &&
         vendor.edx == signature_AMD_edx;
}

uint64_t ReadXcr0() {
  uint32_t low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

}  // namespace

MachineFeatures ReadMachine() {
  MachineFeatures machine;
  machine.leaf1_ecx = ReadLeaf(1, 0).ecx;
  const Registers leaf7 = ReadLeaf(7, 0);
  machine.leaf7_ebx = leaf7.ebx;
  machine.leaf7_ecx = leaf7.ecx;
  machine.leaf7_edx = leaf7.edx;
  if (leaf7.eax >= 1) machine.leaf7_1_eax = ReadLeaf(7, 1).eax;  // eax: the last subleaf
  if (Has(machine.leaf1_ecx, kOsxsave)) machine.xcr0 = ReadXcr0();
  machine.fast_bf16_dots = HasFastBf16Dots();
  const bool tiles = Has(machine.leaf7_edx, 24) && (machine.xcr0 & kTileState) == kTileState;
  machine.tile_permission =
      tiles && ::syscall(SYS_arch_prctl, kRequestXstatePermission, kXtileData) == 0;
  return machine;
}

std::string MissingFor(Isa level, const MachineFeatures& machine) {
  std::string missing;
  const auto add = [&](const char* name) {
    if (!missing.empty()) missing += ", ";
    missing += name;
  };
  for (const Feature& feature : kFeatures) {
    if (feature.level <= level && !Has(machine.*feature.word, feature.bit)) add(feature.name);
  }
  const auto saves = [&](uint64_t state) { return (machine.xcr0 & state) == state; };
  if (level >= Isa::kAvx2 && !saves(kAvxState)) add("the system's AVX state");
  if (level >= Isa::kAvx512 && !saves(kAvx512State)) add("the system's AVX-512 state");
  if (level >= Isa::kAmx && !saves(kTileState)) add("the system's AMX state");
  if (level >= Isa::kAmx && saves(kTileState) && !machine.tile_permission) {
    add("the system's permission for AMX tile data");
  }
  return missing;
}

Isa BestIsa(const MachineFeatures& machine) {
  for (const Isa level : {Isa::kAmx, Isa::kAvx512Bf16, Isa::kAvx512, Isa::kAvx2}) {
    if (level == Isa::kAvx512Bf16 && !machine.fast_bf16_dots) continue;
    if (MissingFor(level, machine).empty()) return level;
  }
  return Isa::kNone;
}

Isa DetectIsa() { return BestIsa(ReadMachine()); }

}  // namespace modu::kernels::cpu
