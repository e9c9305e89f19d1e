#include "tests/reordered_server/reordered_device.h"

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kernels/check.h"
#include "kernels/ops.h"

namespace modu::tests {
namespace {

using kernels::Device;

class ReorderedDevice final : public Device {
 public:
  ReorderedDevice(std::unique_ptr<Device> inner, OrderBy by) : inner_(std::move(inner)), by_(by) {}

  Device& inner() const { return *inner_; }
  OrderBy by() const { return by_; }

  const kernels::OpTable& ops() const override;
  std::string Describe() const override { return inner_->Describe() + ", reordered attention"; }
  kernels::Numerics numerics() const override { return inner_->numerics(); }
  int num_threads() const override { return inner_->num_threads(); }
  int KvBlockSize() const override { return inner_->KvBlockSize(); }
  kernels::DType DefaultKvDType() const override { return inner_->DefaultKvDType(); }
  absl::StatusOr<std::unique_ptr<kernels::PackedWeight>> Pack(
      std::span<const kernels::WeightSource> parts, kernels::WeightUse use,
      kernels::Phase phase) override {
    return inner_->Pack(parts, use, phase);
  }
  size_t PreparedBytes(const kernels::PackedWeight& consumer, int max_tokens) const override {
    return inner_->PreparedBytes(consumer, max_tokens);
  }
  std::unique_ptr<kernels::Buffer> Allocate(size_t bytes) override {
    return inner_->Allocate(bytes);
  }
  std::unique_ptr<kernels::KvCache> CreateKvCache(const kernels::KvLayout& layout,
                                                  int64_t num_blocks) override {
    return inner_->CreateKvCache(layout, num_blocks);
  }
  int64_t KvBlockBytes(const kernels::KvLayout& layout) const override {
    return inner_->KvBlockBytes(layout);
  }
  void ParallelFor(int n, void (*task)(void* context, int i), void* context) override {
    inner_->ParallelFor(n, task, context);
  }

 private:
  const std::unique_ptr<Device> inner_;
  const OrderBy by_;
};

/// An op of the wrapped backend, called with the wrapped backend.
template <auto kOp, typename Params>
auto Forward(Device& device, const Params& params) {
  Device& inner = static_cast<ReorderedDevice&>(device).inner();
  return (inner.ops().*kOp)(inner, params);
}

/// By how many blocks sequence s's past is rotated; 0, the real order, for one sequence, one row or
/// one thread.
int Rotation(const ReorderedDevice& device, const kernels::AttentionParams& p, int s) {
  switch (device.by()) {
    case OrderBy::kBatch:
      return p.num_seqs - 1;
    case OrderBy::kChunk:
      return p.cu_seqlens[s + 1] - p.cu_seqlens[s] - 1;
    case OrderBy::kThreads:
      return device.num_threads() - 1;
  }
  return 0;
}

void ReorderedAttention(Device& device, const kernels::AttentionParams& p) {
  const auto& reordered = static_cast<const ReorderedDevice&>(device);
  MODU_CHECK(p.window == 0);  // a window's rows do not all see the same blocks
  const int block_size = device.KvBlockSize();
  std::vector<int32_t> table(p.block_table, p.block_table + p.num_seqs * p.block_table_stride);
  for (int s = 0; s < p.num_seqs; ++s) {
    const int rows = p.cu_seqlens[s + 1] - p.cu_seqlens[s];
    const int whole = (p.seq_lens[s] - rows) / block_size;  // blocks before the first row
    if (whole < 2) continue;
    const auto first = table.begin() + s * p.block_table_stride;
    std::rotate(first, first + Rotation(reordered, p, s) % whole, first + whole);
  }
  kernels::AttentionParams params = p;
  params.block_table = table.data();
  Forward<&kernels::OpTable::attention>(device, params);
}

constexpr kernels::OpTable kOps = {
    Forward<&kernels::OpTable::embed, kernels::EmbedParams>,
    Forward<&kernels::OpTable::keep_rows, kernels::KeepRowsParams>,
    Forward<&kernels::OpTable::norm, kernels::NormParams>,
    Forward<&kernels::OpTable::linear, kernels::LinearParams>,
    Forward<&kernels::OpTable::argmax, kernels::ArgmaxParams>,
    Forward<&kernels::OpTable::gated_linear, kernels::GatedLinearParams>,
    Forward<&kernels::OpTable::rope_table, kernels::RopeTableParams>,
    Forward<&kernels::OpTable::qkv, kernels::QkvParams>,
    ReorderedAttention,
};

const kernels::OpTable& ReorderedDevice::ops() const { return kOps; }

}  // namespace

std::unique_ptr<Device> ReorderAttention(std::unique_ptr<Device> device, OrderBy by) {
  return std::make_unique<ReorderedDevice>(std::move(device), by);
}

}  // namespace modu::tests
