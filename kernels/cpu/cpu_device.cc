#include "kernels/cpu/cpu_device.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <new>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/check.h"
#include "kernels/cpu/attention_kernel.h"
#include "kernels/cpu/cores.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/memory_limit.h"
#include "kernels/cpu/packed_weight.h"

namespace modu::kernels {
namespace cpu {
namespace {

/// Large ones in huge pages where the system gives them (a hint: without it only slower).
class HostBuffer final : public Buffer {
 public:
  explicit HostBuffer(size_t bytes) {
    constexpr size_t kHugePage = size_t{2} << 20;
    if (bytes >= kHugePage) {
      alignment_ = std::align_val_t{kHugePage};
      bytes = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    }
    bytes_ = bytes;
    data_ = static_cast<std::byte*>(::operator new(std::max<size_t>(bytes, 1), alignment_));
    if (bytes >= kHugePage) madvise(data_, bytes, MADV_HUGEPAGE);
    std::memset(data_, 0, bytes);
  }
  ~HostBuffer() override { ::operator delete(data_, alignment_); }

 private:
  std::align_val_t alignment_{64};
};

const OpTable kOps = {Embed,       KeepRows,  Norm, Linear,   Argmax,
                      GatedLinear, RopeTable, Qkv,  Attention};

const LinearKernels& KernelsOf(Isa isa) {
  static const LinearKernels kAvx2 = {
      .int8 = Int8KernelsAvx2(), .f32 = FloatKernelsAvx2(), .coarse = CoarseStripAvx2()};
  static const LinearKernels kAvx512 = {
      .int8 = Int8KernelsAvx512(), .f32 = FloatKernelsAvx512(), .coarse = CoarseStripAvx512()};
  static const LinearKernels kAvx512Bf16 = {.int8 = Int8WinogradAvx512(),
                                            .f32 = FloatKernelsAvx512(),
                                            .bf16_dots = Bf16DotsAvx512Bf16(),
                                            .coarse = CoarseStripAvx512(),
                                            .long_share = kLongShareZen4};
  static const LinearKernels kAmx = {.int8 = Int8KernelsAvx512(),
                                     .f32 = FloatKernelsAvx512(),
                                     .bf16_tiles = Bf16TileKernelsAmx(),
                                     .coarse = CoarseStripAvx512()};
  switch (isa) {
    case Isa::kAmx:
      return kAmx;
    case Isa::kAvx512Bf16:
      return kAvx512Bf16;
    case Isa::kAvx512:
      return kAvx512;
    case Isa::kAvx2:
      return kAvx2;
    case Isa::kNone:
      break;
  }
  MODU_CHECK(false);
}

/// Attention by products of bf16 rounds queries and probabilities to bf16: not where numerics are
/// exact.
const AttentionKernels& AttentionKernelsOf(Isa isa, Numerics numerics) {
  static const AttentionKernels kAvx512Bf16 = AttentionKernelsAvx512Bf16();
  static const AttentionKernels kAmx = AttentionKernelsAmx();
  if (numerics != Numerics::kExact && isa == Isa::kAmx) return kAmx;
  if (numerics != Numerics::kExact && isa == Isa::kAvx512Bf16) return kAvx512Bf16;
  return isa >= Isa::kAvx512 ? kAttentionAvx512 : kAttentionAvx2;
}

}  // namespace

CpuDevice::CpuDevice(Isa isa, Numerics numerics, int num_threads)
    : CpuDevice(isa, numerics, num_threads, KernelsOf(isa), AttentionKernelsOf(isa, numerics)) {}

CpuDevice::CpuDevice(Isa isa, Numerics numerics, int num_threads,
                     const LinearKernels& linear_kernels, const AttentionKernels& attention_kernels)
    : isa_(isa),
      numerics_(numerics),
      pool_(num_threads > 0 ? num_threads : AvailableCores()),
      linear_kernels_(&linear_kernels),
      attention_kernels_(&attention_kernels),
      prepare_(linear_kernels_->f32.prepare),
      arena_(std::make_unique<WeightArena>(MemoryLimitBytes())) {}

CpuDevice::~CpuDevice() = default;

const OpTable& CpuDevice::ops() const { return kOps; }

std::string CpuDevice::Describe() const {
  return "cpu " + std::string(NameOf(isa_)) + ", " + std::to_string(num_threads()) +
         (num_threads() == 1 ? " thread, " : " threads, ") + kernels::NameOf(numerics_);
}

absl::StatusOr<std::unique_ptr<PackedWeight>> CpuDevice::Pack(std::span<const WeightSource> parts,
                                                              WeightUse use, Phase phase) {
  auto weight = CpuWeight::Create(parts, use, NumericsOf(numerics_, phase), pool_, *arena_,
                                  linear_kernels_->bf16_activations(), phase);
  if (weight.ok() && use == WeightUse::kHead && linear_kernels_->coarse != nullptr) {
    (*weight)->AddCoarseHead(pool_, *arena_);
  }
  return weight;
}

size_t CpuDevice::PreparedBytes(const PackedWeight& consumer, int max_tokens) const {
  return static_cast<size_t>(LayoutOf(consumer).Bytes(max_tokens));
}

std::unique_ptr<Buffer> CpuDevice::Allocate(size_t bytes) {
  return std::make_unique<HostBuffer>(bytes);
}

/// int8 with int8 products, where attention multiplies its codes as they lie: batches were measured
/// to be faster by a twentieth to a quarter, and the quality stays within the bounds of
/// docs/operations.md, for weights that are multiplied in bf16 under int8 too (benchmarks/results).
/// With AMX rows that int8 products follow do so; for others codes are written out as bf16 first.
DType CpuDevice::DefaultKvDType() const {
  if (numerics_ == Numerics::kExact) return DType::kF32;
  const bool codes = NumericsOf(numerics_, Phase::kGeneration) == Numerics::kInt8;
  return codes ? DType::kI8 : DType::kBF16;
}

int CpuDevice::KvBlockSize() const { return CpuKvBlockSize(); }

/// Where tiles multiply prompts, all rows that a worker has share one decoding of the weights: a
/// prompt of 1,500 in one step takes 0.93 of what it takes in three (SmolLM2-135M on two cores,
/// benchmarks/results/2026-12-01-amx-prompts.md); larger ones leave the second cache. Decoded on
/// vectors it gains nothing.
int CpuDevice::BestStepTokens() const {
  const bool tiles = linear_kernels_->bf16_tiles.products != nullptr;
  const Numerics of_prompts = NumericsOf(numerics_, Phase::kPrompt);
  return tiles && of_prompts == Numerics::kBf16 ? 1536 : Device::BestStepTokens();
}

int64_t CpuDevice::KvBlockBytes(const KvLayout& layout) const { return CpuKvBlockBytes(layout); }
std::unique_ptr<KvCache> CpuDevice::CreateKvCache(const KvLayout& layout, int64_t num_blocks) {
  return MakeCpuKvCache(layout, num_blocks, pool_);
}

void CpuDevice::ParallelFor(int n, void (*task)(void* context, int i), void* context) {
  pool_.Run(n, 1, [&](int first, int last, int) {
    for (int i = first; i < last; ++i) task(context, i);
  });
}

}  // namespace cpu

absl::StatusOr<std::unique_ptr<Device>> OpenCpuDevice(const DeviceOptions& options) {
  const cpu::MachineFeatures machine = cpu::ReadMachine();
  cpu::Isa isa = cpu::BestIsa(machine);
  if (!options.isa.empty()) {
    constexpr cpu::Isa kLevels[] = {cpu::Isa::kNone, cpu::Isa::kAvx2, cpu::Isa::kAvx512,
                                    cpu::Isa::kAvx512Bf16, cpu::Isa::kAmx};
    const auto* const level =
        std::find_if(std::begin(kLevels), std::end(kLevels),
                     [&](cpu::Isa candidate) { return cpu::NameOf(candidate) == options.isa; });
    if (level == std::end(kLevels)) {
      return absl::InvalidArgumentError(absl::StrCat("isa: no such set as ", options.isa));
    }
    const std::string missing = cpu::MissingFor(*level, machine);
    if (!missing.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("isa: ", options.isa, " needs what this machine lacks: ", missing));
    }
    isa = *level;
  }
  if (isa == cpu::Isa::kNone) return OpenRefDevice(options);
  // Tiles multiply a prompt's many rows in bf16 twice as fast as vectors do in int8, which decode
  // weights in less time: for the few rows of a decode that counts. Without tiles int8 has the most
  // operations an instruction.
  const Numerics fastest = isa != cpu::Isa::kAmx ? Numerics::kInt8
                           : options.packs_twice ? Numerics::kPhased
                                                 : Numerics::kBf16;
  return std::make_unique<cpu::CpuDevice>(isa, options.numerics.value_or(fastest),
                                          options.num_threads);
}

}  // namespace modu::kernels
