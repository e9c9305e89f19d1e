// The choice of an instruction set, on machines made up bit by bit.
#include "kernels/cpu/isa.h"

#include "tests/catch.h"

namespace modu::kernels::cpu {
namespace {

/// A processor with everything (SDM volume 2, CPUID, leaves 1 and 7) under a system that saves all.
MachineFeatures Everything() {
  MachineFeatures m;
  m.leaf1_ecx = 1u << 12 | 1u << 27 | 1u << 29;
  m.leaf7_ebx = 1u << 5 | 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
  m.leaf7_ecx = 1u << 1 | 1u << 6 | 1u << 11;
  m.leaf7_edx = 1u << 22 | 1u << 24 | 1u << 25;
  m.leaf7_1_eax = 1u << 5;
  m.xcr0 = 0x600E7;
  m.tile_permission = true;
  return m;
}

}  // namespace

TEST_CASE("the best level is the last that lacks nothing") {
  CHECK(BestIsa(Everything()) == Isa::kAmx);
  CHECK(BestIsa(MachineFeatures{}) == Isa::kNone);

  MachineFeatures refused = Everything();
  refused.tile_permission = false;
  CHECK(BestIsa(refused) == Isa::kAvx512);
  CHECK(MissingFor(Isa::kAmx, refused) == "the system's permission for AMX tile data");
  CHECK(MissingFor(Isa::kAvx512, refused).empty());

  MachineFeatures old_system = Everything();  // a kernel from before AMX
  old_system.xcr0 = 0xE7;
  old_system.tile_permission = false;
  CHECK(BestIsa(old_system) == Isa::kAvx512);
  CHECK(MissingFor(Isa::kAmx, old_system) == "the system's AMX state");

  MachineFeatures zen4 = Everything();
  zen4.leaf7_edx = 0;
  zen4.xcr0 = 0xE7;
  zen4.tile_permission = false;
  CHECK(BestIsa(zen4) == Isa::kAvx512);
  CHECK(MissingFor(Isa::kAvx512Bf16, zen4).empty());  // the level is there, but slower
  zen4.fast_bf16_dots = true;
  CHECK(BestIsa(zen4) == Isa::kAvx512Bf16);
  zen4.leaf7_1_eax = 0;
  CHECK(BestIsa(zen4) == Isa::kAvx512);
  CHECK(MissingFor(Isa::kAvx512Bf16, zen4) == "AVX512-BF16");
  zen4.leaf7_1_eax = 1u << 5;
  CHECK(MissingFor(Isa::kAmx, zen4) == "AMX-BF16, AMX-TILE, AMX-INT8, the system's AMX state");

  MachineFeatures no_vnni = zen4;
  no_vnni.leaf7_ecx = 1u << 1 | 1u << 6;
  CHECK(BestIsa(no_vnni) == Isa::kAvx2);
  CHECK(MissingFor(Isa::kAvx512, no_vnni) == "AVX512-VNNI");

  MachineFeatures no_avx_state = zen4;
  no_avx_state.xcr0 = 0x1;
  CHECK(BestIsa(no_avx_state) == Isa::kNone);
}

TEST_CASE("each feature bit counts for its level and those above it") {
  struct Bit {
    uint32_t MachineFeatures::* word;
    int bit;
    Isa best_without;
    const char* name;
  };
  const Bit bits[] = {
      {&MachineFeatures::leaf1_ecx, 12, Isa::kNone, "FMA"},
      {&MachineFeatures::leaf1_ecx, 29, Isa::kNone, "F16C"},
      {&MachineFeatures::leaf7_ebx, 5, Isa::kNone, "AVX2"},
      {&MachineFeatures::leaf7_ebx, 16, Isa::kAvx2, "AVX512F"},
      {&MachineFeatures::leaf7_ebx, 17, Isa::kAvx2, "AVX512DQ"},
      {&MachineFeatures::leaf7_ebx, 30, Isa::kAvx2, "AVX512BW"},
      {&MachineFeatures::leaf7_ebx, 31, Isa::kAvx2, "AVX512VL"},
      {&MachineFeatures::leaf7_ecx, 1, Isa::kAvx2, "AVX512-VBMI"},
      {&MachineFeatures::leaf7_ecx, 6, Isa::kAvx2, "AVX512-VBMI2"},
      {&MachineFeatures::leaf7_ecx, 11, Isa::kAvx2, "AVX512-VNNI"},
      {&MachineFeatures::leaf7_1_eax, 5, Isa::kAvx512, "AVX512-BF16"},
      {&MachineFeatures::leaf7_edx, 22, Isa::kAvx512, "AMX-BF16"},
      {&MachineFeatures::leaf7_edx, 24, Isa::kAvx512, "AMX-TILE"},
      {&MachineFeatures::leaf7_edx, 25, Isa::kAvx512, "AMX-INT8"},
  };
  for (const Bit& bit : bits) {
    MachineFeatures machine = Everything();
    machine.*bit.word &= ~(1u << bit.bit);
    INFO(bit.name);
    CHECK(BestIsa(machine) == bit.best_without);
    CHECK(MissingFor(Isa::kAmx, machine) == bit.name);
  }
  for (const auto& [state, best] : {std::pair<uint64_t, Isa>{0x2, Isa::kNone},
                                    {0x4, Isa::kNone},
                                    {0x20, Isa::kAvx2},
                                    {0x40, Isa::kAvx2},
                                    {0x80, Isa::kAvx2},
                                    {0x20000, Isa::kAvx512},
                                    {0x40000, Isa::kAvx512}}) {
    MachineFeatures machine = Everything();
    machine.xcr0 &= ~state;
    CHECK(BestIsa(machine) == best);
  }
}

TEST_CASE("this machine's answer is the same each time, and what it lacks is named") {
  const MachineFeatures machine = ReadMachine();
  const Isa best = DetectIsa();
  CHECK(BestIsa(machine) == best);
  for (const Isa level : {Isa::kAvx2, Isa::kAvx512, Isa::kAmx}) {
    CHECK(MissingFor(level, machine).empty() == (level <= best));
  }
  WARN("best here: " << NameOf(best) << "; amx lacks: " << MissingFor(Isa::kAmx, machine));
}

}  // namespace modu::kernels::cpu
