// Inside of the x86 backend: what its ops reach through a Device. Only kernels/cpu includes this.
// One thread calls ops (worker 0 of the pool); kernels run on the pool's workers.
#pragma once
#include <memory>
#include <string>

#include "kernels/cpu/attention_plan.h"
#include "kernels/cpu/coarse_argmax.h"
#include "kernels/cpu/isa.h"
#include "kernels/cpu/kv_ahead.h"
#include "kernels/cpu/prepared.h"
#include "kernels/cpu/worker_distance.h"
#include "kernels/cpu/worker_pool.h"
#include "kernels/device.h"
#include "kernels/ops.h"

namespace modu::kernels::cpu {

struct AttentionKernels;
struct LinearKernels;
class WeightArena;

class CpuDevice final : public Device {
 public:
  CpuDevice(Isa isa, Numerics numerics, int num_threads);
  /// With kernels of the caller's choice (a test's: AMX's logic over the scalar twin).
  CpuDevice(Isa isa, Numerics numerics, int num_threads, const LinearKernels& linear_kernels,
            const AttentionKernels& attention_kernels);
  ~CpuDevice() override;

  const OpTable& ops() const override;
  std::string Describe() const override;
  Numerics numerics() const override { return numerics_; }
  int num_threads() const override { return pool_.size(); }
  int KvBlockSize() const override;
  int BestStepTokens() const override;
  DType DefaultKvDType() const override;
  using Device::Pack;
  absl::StatusOr<std::unique_ptr<PackedWeight>> Pack(std::span<const WeightSource> parts,
                                                     WeightUse use, Phase phase) override;
  size_t PreparedBytes(const PackedWeight& consumer, int max_tokens) const override;
  std::unique_ptr<Buffer> Allocate(size_t bytes) override;
  std::unique_ptr<KvCache> CreateKvCache(const KvLayout& layout, int64_t num_blocks) override;
  int64_t KvBlockBytes(const KvLayout& layout) const override;
  void ParallelFor(int n, void (*task)(void* context, int i), void* context) override;

  uint64_t NextStep() override {
    if (isa_ < Isa::kAmx) worker_distance_.Look(pool_);  // not measured what it would gain
    return Device::NextStep();
  }

  Isa isa() const { return isa_; }
  WorkerPool& pool() { return pool_; }
  PrepareFn prepare() const { return prepare_; }
  /// At least `bytes` that all workers share within one op; not kept between ops. Grows on use.
  std::byte* SharedScratch(size_t bytes) {
    if (shared_scratch_ == nullptr || shared_scratch_->bytes() < bytes) {
      shared_scratch_ = Allocate(bytes);
    }
    return shared_scratch_->data();
  }
  WorkerDistance& worker_distance() { return worker_distance_; }
  KvAhead& kv_ahead() { return kv_ahead_; }
  AttentionPlans& attention_plans() { return attention_plans_; }
  CoarsePauses& coarse_pauses() { return coarse_pauses_; }
  const LinearKernels& linear_kernels() const { return *linear_kernels_; }
  const AttentionKernels& attention_kernels() const { return *attention_kernels_; }

 private:
  const Isa isa_;
  const Numerics numerics_;
  WorkerPool pool_;
  const LinearKernels* linear_kernels_;
  const AttentionKernels* attention_kernels_;
  PrepareFn prepare_;
  std::unique_ptr<WeightArena> arena_;
  std::unique_ptr<Buffer> shared_scratch_;
  WorkerDistance worker_distance_;
  KvAhead kv_ahead_;
  AttentionPlans attention_plans_;
  CoarsePauses coarse_pauses_;
};

/// The device that an op of this backend's table is called with.
inline CpuDevice& Cpu(Device& device) { return static_cast<CpuDevice&>(device); }

// The table's entries (linear_ops.cc and argmax_ops.cc; norm, rope, qkv and attention in their own
// files).
void Embed(Device&, const EmbedParams& p);
void KeepRows(Device&, const KeepRowsParams& p);
void Norm(Device&, const NormParams& p);
void Linear(Device&, const LinearParams& p);
bool Argmax(Device&, const ArgmaxParams& p);
void GatedLinear(Device&, const GatedLinearParams& p);
void RopeTable(Device&, const RopeTableParams& p);
void Qkv(Device&, const QkvParams& p);
void Attention(Device&, const AttentionParams& p);

// Paged KV memory (kv_cache.cc).
int CpuKvBlockSize();
int64_t CpuKvBlockBytes(const KvLayout& layout);
std::unique_ptr<KvCache> MakeCpuKvCache(const KvLayout& layout, int64_t num_blocks,
                                        WorkerPool& pool);

}  // namespace modu::kernels::cpu
