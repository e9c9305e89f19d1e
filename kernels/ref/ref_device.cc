#include "kernels/ref/ref_device.h"

#include <cstring>
#include <new>

#include "kernels/check.h"
#include "kernels/float_formats.h"
#include "kernels/kv_codes.h"
#include "kernels/ref/dequantize.h"

namespace modu::kernels {
namespace ref {
namespace {

DType HeldAs(DType kv) { return IsKvCode(kv) ? DType::kF32 : kv; }

Rounding ChooseRounding(std::span<const WeightSource> parts, Numerics numerics) {
  if (numerics == Numerics::kExact) return Rounding::kFloat32;
  if (numerics == Numerics::kBf16) return Rounding::kBf16;
  for (const WeightSource& part : parts) {
    if (!IsBlockQuantised(part.dtype)) return Rounding::kBf16;  // plain and FP8 weights stay whole
  }
  return Rounding::kInt8Groups;
}

}  // namespace

RefWeight::RefWeight(std::span<const WeightSource> parts, WeightUse weight_use, Numerics numerics)
    : rounding(ChooseRounding(parts, numerics)), use(weight_use) {
  MODU_CHECK(!parts.empty());
  MODU_CHECK(use != WeightUse::kGatedLinear ||
             (parts.size() == 2 && parts[0].rows == parts[1].rows));
  cols_ = parts[0].cols;
  for (const WeightSource& part : parts) rows_ += part.rows;
  values.resize(static_cast<size_t>(rows_ * cols_));
  row_scales.assign(static_cast<size_t>(rows_), 1.0f);
  int64_t first = 0;
  for (const WeightSource& part : parts) {
    MODU_CHECK(part.cols == cols_);
    MODU_CHECK(part.scales == nullptr || part.num_scales == 1 || part.num_scales == part.rows);
    for (int64_t row = 0; row < part.rows; ++row) {
      DequantizeRow(part.dtype, part.data + row * RowBytes(part.dtype, cols_), cols_,
                    values.data() + (first + row) * cols_);
      if (part.scales != nullptr) {
        row_scales[static_cast<size_t>(first + row)] = part.scales[part.num_scales == 1 ? 0 : row];
      }
    }
    first += part.rows;
  }
  if (rounding == Rounding::kBf16) {
    if (ReadByRows(use)) table = values;
    for (float& value : values) value = Bf16ToFloat(FloatToBf16(value));
  }
  bytes_ = static_cast<int64_t>((values.size() + table.size() + row_scales.size()) * sizeof(float));
}

RefKvCache::RefKvCache(const KvLayout& layout, int64_t num_blocks) {
  MODU_CHECK(layout.dtype == DType::kF32 || layout.dtype == DType::kBF16 || IsKvCode(layout.dtype));
  layout_ = layout;
  num_blocks_ = num_blocks;
  const int64_t elements = num_blocks * layout.num_layers * 2 * layout.num_kv_heads *
                           layout.block_size * layout.head_dim;
  if (layout.dtype == DType::kBF16) {
    bf16_.resize(static_cast<size_t>(elements));
  } else {
    f32_.resize(static_cast<size_t>(elements));
  }
  bytes_ = RowBytes(HeldAs(layout.dtype), elements);
}

int64_t RefKvCache::Index(int64_t slot, int layer, int part, int kv_head) const {
  const int64_t block = slot / layout_.block_size, offset = slot % layout_.block_size;
  MODU_CHECK(slot >= 0 && block < num_blocks_);
  const int64_t head =
      ((block * layout_.num_layers + layer) * 2 + part) * layout_.num_kv_heads + kv_head;
  return (head * layout_.block_size + offset) * layout_.head_dim;
}

void RefKvCache::Store(int64_t index, const float* values) {
  for (int i = 0; i < layout_.head_dim; ++i) {
    if (f32_.empty()) {
      bf16_[static_cast<size_t>(index + i)] = FloatToBf16(values[i]);
    } else {
      f32_[static_cast<size_t>(index + i)] = values[i];
    }
  }
}

void RefKvCache::Load(int64_t index, float* values) const {
  for (int i = 0; i < layout_.head_dim; ++i) {
    values[i] = f32_.empty() ? Bf16ToFloat(bf16_[static_cast<size_t>(index + i)])
                             : f32_[static_cast<size_t>(index + i)];
  }
}

namespace {

class HostBuffer final : public Buffer {
 public:
  explicit HostBuffer(size_t bytes) {
    bytes_ = bytes;
    data_ = static_cast<std::byte*>(::operator new(bytes == 0 ? 1 : bytes, std::align_val_t{64}));
    std::memset(data_, 0, bytes);
  }
  ~HostBuffer() override { ::operator delete(data_, std::align_val_t{64}); }
};

bool Argmax(Device&, const ArgmaxParams&) { return false; }

const OpTable kOps = {Embed,       KeepRows,  Norm, Linear,   Argmax,
                      GatedLinear, RopeTable, Qkv,  Attention};

class RefDevice final : public Device {
 public:
  explicit RefDevice(Numerics numerics) : numerics_(numerics) {}

  const OpTable& ops() const override { return kOps; }
  std::string Describe() const override {
    return std::string("ref, 1 thread, ") + NameOf(numerics_);
  }
  Numerics numerics() const override { return numerics_; }
  int num_threads() const override { return 1; }
  int KvBlockSize() const override { return 32; }
  DType DefaultKvDType() const override {
    return numerics_ == Numerics::kExact ? DType::kF32 : DType::kBF16;
  }

  absl::StatusOr<std::unique_ptr<PackedWeight>> Pack(std::span<const WeightSource> parts,
                                                     WeightUse use, Phase phase) override {
    return std::make_unique<RefWeight>(parts, use, NumericsOf(numerics_, phase));
  }
  size_t PreparedBytes(const PackedWeight& consumer, int max_tokens) const override {
    return static_cast<size_t>(consumer.cols()) * static_cast<size_t>(max_tokens) * sizeof(double);
  }
  std::unique_ptr<Buffer> Allocate(size_t bytes) override {
    return std::make_unique<HostBuffer>(bytes);
  }
  std::unique_ptr<KvCache> CreateKvCache(const KvLayout& layout, int64_t num_blocks) override {
    return std::make_unique<RefKvCache>(layout, num_blocks);
  }
  int64_t KvBlockBytes(const KvLayout& layout) const override {
    return RowBytes(HeldAs(layout.dtype), int64_t{2} * layout.num_layers * layout.num_kv_heads *
                                              layout.block_size * layout.head_dim);
  }
  void ParallelFor(int n, void (*task)(void* context, int i), void* context) override {
    for (int i = 0; i < n; ++i) task(context, i);
  }

 private:
  const Numerics numerics_;
};

}  // namespace
}  // namespace ref

std::unique_ptr<Device> OpenRefDevice(const DeviceOptions& options) {
  return std::make_unique<ref::RefDevice>(options.numerics.value_or(Numerics::kInt8));
}

}  // namespace modu::kernels
