#include "kernels/cpu/cpu_device.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "kernels/check.h"
#include "kernels/cpu/cores.h"
#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/packed_weight.h"

namespace modu::kernels {
namespace cpu {
namespace {

class HostBuffer final : public Buffer {
 public:
  explicit HostBuffer(size_t bytes) {
    bytes_ = bytes;
    data_ =
        static_cast<std::byte*>(::operator new(std::max<size_t>(bytes, 1), std::align_val_t{64}));
    std::memset(data_, 0, bytes);
  }
  ~HostBuffer() override { ::operator delete(data_, std::align_val_t{64}); }
};

const OpTable kOps = {Embed, Norm, Linear, GatedLinear, RopeTable, Qkv, Attention};

const LinearKernels& KernelsOf(Isa isa) {
  static const LinearKernels kAvx2 = {Int8KernelsAvx2(), FloatKernelsAvx2()};
  static const LinearKernels kAvx512 = {Int8KernelsAvx512(), FloatKernelsAvx512()};
  MODU_CHECK(isa != Isa::kNone);
  return isa == Isa::kAvx512 ? kAvx512 : kAvx2;
}

}  // namespace

CpuDevice::CpuDevice(Isa isa, Numerics numerics, int num_threads)
    : isa_(isa),
      numerics_(numerics),
      pool_(num_threads > 0 ? num_threads : AvailableCores()),
      linear_kernels_(&KernelsOf(isa)),
      prepare_(linear_kernels_->f32.prepare),
      arena_(std::make_unique<WeightArena>()) {}

CpuDevice::~CpuDevice() = default;

const OpTable& CpuDevice::ops() const { return kOps; }

std::string CpuDevice::Describe() const {
  constexpr const char* kNames[] = {"exact", "bf16", "int8"};
  return "cpu " + std::string(NameOf(isa_)) + ", " + std::to_string(num_threads()) +
         (num_threads() == 1 ? " thread, " : " threads, ") + kNames[static_cast<int>(numerics_)];
}

std::unique_ptr<PackedWeight> CpuDevice::Pack(std::span<const WeightSource> parts, WeightUse use) {
  return std::make_unique<CpuWeight>(parts, use, numerics_, pool_, *arena_);
}

size_t CpuDevice::PreparedBytes(const PackedWeight& consumer, int max_tokens) const {
  return static_cast<size_t>(LayoutOf(consumer).row_bytes) * static_cast<size_t>(max_tokens);
}

std::unique_ptr<Buffer> CpuDevice::Allocate(size_t bytes) {
  return std::make_unique<HostBuffer>(bytes);
}

int CpuDevice::KvBlockSize() const { return CpuKvBlockSize(); }
int64_t CpuDevice::KvBlockBytes(const KvLayout& layout) const { return CpuKvBlockBytes(layout); }
std::unique_ptr<KvCache> CpuDevice::CreateKvCache(const KvLayout& layout, int64_t num_blocks) {
  return MakeCpuKvCache(layout, num_blocks);
}

void CpuDevice::ParallelFor(int n, void (*task)(void* context, int i), void* context) {
  pool_.Run(n, 1, [&](int first, int last, int) {
    for (int i = first; i < last; ++i) task(context, i);
  });
}

}  // namespace cpu

std::unique_ptr<Device> OpenCpuDevice(const DeviceOptions& options) {
  const cpu::Isa best = cpu::DetectIsa();
  cpu::Isa isa = best;
  if (!options.isa.empty()) {
    isa = cpu::Isa::kNone;
    for (const cpu::Isa level : {cpu::Isa::kAvx2, cpu::Isa::kAvx512}) {
      if (options.isa == cpu::NameOf(level)) isa = level;
    }
    if (isa > best || (isa == cpu::Isa::kNone && options.isa != "ref")) return nullptr;
  }
  if (isa == cpu::Isa::kNone) return OpenRefDevice(options);
  return std::make_unique<cpu::CpuDevice>(isa, options.numerics, options.num_threads);
}

}  // namespace modu::kernels
