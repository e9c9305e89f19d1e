#include "kernels/cpu/packed_weight.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "kernels/check.h"
#include "kernels/cpu/block_codes.h"
#include "kernels/cpu/coarse_head.h"
#include "kernels/cpu/tile_config.h"
#include "kernels/float_formats.h"

namespace modu::kernels::cpu {
namespace {

/// The kind of activations that all parts of a weight can multiply with.
PreparedKind KindOf(std::span<const WeightSource> parts, Numerics numerics, PreparedKind bf16) {
  if (numerics == Numerics::kExact) return PreparedKind::kF32;
  if (numerics == Numerics::kBf16) return bf16;
  MODU_CHECK(numerics == Numerics::kInt8);
  for (const WeightSource& part : parts) {
    if (!IsBlockQuantised(part.dtype)) return bf16;
  }
  return PreparedKind::kInt8;
}

/// In bf16 products f32 and f16 weights are stored rounded, unless `embed` reads them exactly.
StripFormat StoredFormat(DType dtype, WeightUse use, PreparedKind kind) {
  const StripFormat format = FormatOf(dtype);
  const bool wide = format == StripFormat::kF32 || format == StripFormat::kF16;
  return wide && IsBf16(kind) && !ReadByRows(use) ? StripFormat::kBF16 : format;
}

template <typename T>
T LoadAs(const std::byte* p) {
  T value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

/// Up to a group of a row of a plain type, as a strip holds it: the type's own bits, or bf16.
void ReadPlain(DType dtype, StripFormat format, const std::byte* in, int inputs, std::byte* out) {
  const auto to_bf16 = [&](auto value_at) {
    for (int k = 0; k < inputs; ++k) {
      const uint16_t bits = FloatToBf16(value_at(k));
      std::memcpy(out + 2 * k, &bits, sizeof(bits));
    }
  };
  if (dtype == DType::kF32 && format == StripFormat::kBF16) {
    to_bf16([in](int k) { return LoadAs<float>(in + 4 * k); });
  } else if (dtype == DType::kF16 && format == StripFormat::kBF16) {
    to_bf16([in](int k) { return F16ToFloat(LoadAs<uint16_t>(in + 2 * k)); });
  } else {
    MODU_CHECK(RowBytes(dtype, kGroup) == CodeBytes(format) / kStrip);  // the strip holds the type
    std::memcpy(out, in, static_cast<size_t>(RowBytes(dtype, inputs)));
  }
}

/// Weights of kBytes into column n of a plain group.
template <int kBytes>
void WritePlain(const Strip& strip, int n, int inputs, const std::byte* from, std::byte* group) {
  if (strip.order == StripOrder::kByOutput) {
    std::memcpy(group + PlainOffset(strip.format, strip.order, n, 0), from,
                static_cast<size_t>(kBytes * inputs));
    return;
  }
  for (int k = 0; k < inputs; ++k) {
    std::memcpy(group + PlainOffset(strip.format, strip.order, n, k), from + kBytes * k, kBytes);
  }
}

/// One row of a plain type into column n of a strip, which holds the type or bf16.
void PackPlainRow(const WeightSource& part, const Strip& strip, int64_t row, int n,
                  std::byte* data) {
  const std::byte* in = part.data + row * RowBytes(part.dtype, part.cols);
  const int64_t bytes = CodeBytes(strip.format) / (kGroup * kStrip);
  const auto write = bytes == 1 ? WritePlain<1> : bytes == 2 ? WritePlain<2> : WritePlain<4>;
  std::byte group[4 * kGroup];
  for (int64_t k = 0; k < part.cols; k += kGroup, data += strip.group_bytes) {
    const auto inputs = static_cast<int>(std::min<int64_t>(kGroup, part.cols - k));
    ReadPlain(part.dtype, strip.format, in + RowBytes(part.dtype, k), inputs, group);
    write(strip, n, inputs, group, data);
  }
}

/// One row into column n of a strip, in whole numbers or as it is. `scales` (or null) gets those of
/// the first: [groups] ScaleBytes.
void PackRow(const WeightSource& part, const Strip& strip, int64_t row, int n, bool whole,
             std::byte* data, std::byte* scales) {
  if (!IsQuantised(strip.format)) return PackPlainRow(part, strip, row, n, data);
  const std::byte* in = part.data + row * RowBytes(part.dtype, part.cols);
  const auto groups = static_cast<int>(part.cols / kGroup);
  if (!whole) {
    GroupCodes codes = {};
    for (int g = 0; g < groups; ++g, data += strip.group_bytes) {
      ReadGroup(part.dtype, in, g, &codes);
      WriteCodes(strip.format, strip.order, codes, n, data);
      WriteScales(strip.format, codes, n, data + CodeBytes(strip.format));
    }
    return;
  }
  GroupCodes chunk[2 * kChunkPairs];
  for (int first = 0; first < groups; first += 2 * kChunkPairs) {
    const int some = std::min(groups - first, 2 * kChunkPairs);
    for (int g = 0; g < some; ++g) {
      ReadGroup(part.dtype, in, first + g, &chunk[g]);
      if (scales != nullptr) {
        WriteScales(strip.format, chunk[g], n, scales + (first + g) * ScaleBytes(strip.format));
      }
    }
    WriteChunk(strip.format, {chunk, static_cast<size_t>(some)}, n, data);
    data += ChunkBytes(strip.format, some);
  }
}

int64_t StripBytes(const Strip& strip, int64_t groups, bool whole) {
  if (!whole) return groups * strip.group_bytes;
  int64_t bytes = 0;
  for (int64_t first = 0; first < groups; first += 2 * kChunkPairs) {
    bytes += ChunkBytes(strip.format, std::min<int64_t>(groups - first, 2 * kChunkPairs));
  }
  return bytes;
}

struct PackItem {
  const WeightSource* part;
  int64_t first_row;     // within the part
  size_t offset;         // of the strip
  size_t scales_offset;  // of a head's exact ones
};

/// The first of either half, then the second of either, and so on.
template <typename T>
std::vector<T> PairHalves(const std::vector<T>& all) {
  std::vector<T> pairs;
  for (size_t i = 0; i < all.size() / 2; ++i) {
    pairs.push_back(all[i]);
    pairs.push_back(all[all.size() / 2 + i]);
  }
  return pairs;
}

}  // namespace

CpuWeight::CpuWeight() = default;
CpuWeight::~CpuWeight() = default;

absl::StatusOr<std::unique_ptr<CpuWeight>> CpuWeight::Create(std::span<const WeightSource> parts,
                                                             WeightUse use, Numerics numerics,
                                                             WorkerPool& pool, WeightArena& arena,
                                                             PreparedKind bf16, Phase turn) {
  std::unique_ptr<CpuWeight> weight(new CpuWeight);
  absl::Status status = weight->Pack(parts, use, numerics, pool, arena, bf16, turn);
  if (!status.ok()) return status;
  return weight;
}

absl::Status CpuWeight::Pack(std::span<const WeightSource> parts, WeightUse use, Numerics numerics,
                             WorkerPool& pool, WeightArena& arena, PreparedKind bf16, Phase turn) {
  use_ = use;
  MODU_CHECK(!parts.empty());
  const bool gated = use == WeightUse::kGatedLinear;
  MODU_CHECK(!gated || (parts.size() == 2 && parts[0].rows == parts[1].rows));
  cols_ = parts[0].cols;
  const PreparedKind kind = KindOf(parts, numerics, bf16);
  prepared_ = MakePreparedLayout(kind, cols_);
  const bool whole = kind == PreparedKind::kInt8;

  std::vector<PackItem> items;
  size_t head_bytes = 0;  // of scales as they are
  for (const WeightSource& part : parts) {
    const StripFormat format = StoredFormat(part.dtype, use, kind);
    MODU_CHECK(part.rows > 0 && part.cols == cols_ && part.data != nullptr);
    MODU_CHECK(cols_ % TraitsOf(part.dtype).block_elements == 0);
    MODU_CHECK((format != StripFormat::kBF16 && kind != PreparedKind::kBf16Pairs) ||
               cols_ % 2 == 0);
    MODU_CHECK(part.scales == nullptr || part.num_scales == 1 || part.num_scales == part.rows);
    part_rows_.push_back(part.rows);
    part_strips_.push_back(static_cast<int64_t>(strips_.size()));
    part_scales_.push_back(static_cast<int64_t>(head_bytes));
    for (int64_t row = 0; row < part.rows; row += kStrip) {
      Strip strip;
      strip.column = static_cast<int32_t>((gated ? 0 : rows_) + row);
      strip.columns = static_cast<int32_t>(std::min<int64_t>(kStrip, part.rows - row));
      strip.format = format;
      strip.order = kind == PreparedKind::kBf16Tiles ? StripOrder::kByOutput : StripOrder::kByInput;
      strip.group_bytes = static_cast<int32_t>(GroupBytes(format));
      strip.bytes = StripBytes(strip, prepared_.groups(), whole);
      strips_.push_back(strip);
      items.push_back({&part, row, 0, head_bytes});
      if (whole && ReadByRows(use)) {
        head_bytes += static_cast<size_t>(prepared_.groups() * ScaleBytes(format));
      }
    }
    rows_ += part.rows;
  }
  if (gated) {  // gate and up of the same features side by side: one worker computes both
    strips_ = PairHalves(strips_);
    items = PairHalves(items);
  }
  size_t bytes = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    items[i].offset = bytes;
    bytes += static_cast<size_t>(strips_[i].bytes);
  }
  if (head_bytes != 0) {
    absl::StatusOr<WeightArena::Piece> scales = arena.Allocate(head_bytes, /*turn=*/std::nullopt);
    if (!scales.ok()) return scales.status();
    scales_of_head_ = *std::move(scales);
  }
  absl::StatusOr<WeightArena::Piece> memory = arena.Allocate(bytes, turn);
  if (!memory.ok()) return memory.status();
  memory_ = *std::move(memory);

  bool any_scales = false;
  for (const WeightSource& part : parts) any_scales = any_scales || part.scales != nullptr;
  if (any_scales) scales_.assign(strips_.size() * kStrip, 1.0f);

  pool.Run(static_cast<int>(items.size()), 4, [&](int first, int last, int) {
    for (auto i = static_cast<size_t>(first); i < static_cast<size_t>(last); ++i) {
      Strip& strip = strips_[i];
      std::byte* const data = memory_.data + items[i].offset;
      const WeightSource& part = *items[i].part;
      for (int n = 0; n < strip.columns; ++n) {
        const int64_t row = items[i].first_row + n;
        PackRow(part, strip, row, n, whole, data,
                head_bytes == 0 ? nullptr : scales_of_head_.data + items[i].scales_offset);
        if (any_scales && part.scales != nullptr) {
          scales_[i * kStrip + static_cast<size_t>(n)] =
              part.scales[part.num_scales == 1 ? 0 : row];
        }
      }
      strip.data = data;
      if (any_scales) strip.scales = scales_.data() + i * kStrip;
    }
  });

  bytes_ = static_cast<int64_t>(bytes + head_bytes + scales_.size() * sizeof(float));
  return absl::OkStatus();
}

void CpuWeight::AddCoarseHead(WorkerPool& pool, WeightArena& arena) {
  if (prepared_.kind != PreparedKind::kInt8) return;
  for (const Strip& strip : strips_) {
    if (strip.format != StripFormat::kW8F16) return;
  }
  absl::StatusOr<std::unique_ptr<CoarseHead>> head =
      CoarseHead::Create(strips_, prepared_, pool, arena);
  if (!head.ok()) return;
  coarse_head_ = *std::move(head);
  if (coarse_head_ == nullptr) return;
  spared_bytes_ = bytes_;
  bytes_ += coarse_head_->bytes();
}

void CpuWeight::DecodeRow(int64_t row, float* out) const {
  MODU_CHECK(row >= 0 && row < rows_ && use_ != WeightUse::kGatedLinear);
  size_t part = 0;
  while (row >= part_rows_[part]) row -= part_rows_[part++];
  const auto index = static_cast<size_t>(part_strips_[part] + row / kStrip);
  const Strip& strip = strips_[index];
  const bool whole = prepared_.kind == PreparedKind::kInt8;
  MODU_CHECK(!whole || ReadByRows(use_));
  const auto n = static_cast<int>(row % kStrip);
  const std::byte* const scales =
      !whole ? nullptr
             : scales_of_head_.data + part_scales_[part] +
                   row / kStrip * prepared_.groups() * ScaleBytes(strip.format);
  for (int64_t k = 0; k < cols_; k += kGroup) {
    const int64_t g = k / kGroup;
    const std::byte* const codes =
        strip.data + (whole ? CodesInChunks(strip.format, g) : g * strip.group_bytes);
    DecodeColumn(strip.format, strip.order, codes,
                 whole ? scales + g * ScaleBytes(strip.format) : codes + CodeBytes(strip.format), n,
                 static_cast<int>(std::min<int64_t>(kGroup, cols_ - k)), out + k);
  }
  if (strip.scales == nullptr) return;
  for (int64_t k = 0; k < cols_; ++k) out[k] *= strip.scales[n];
}

PreparedLayout MakePreparedLayout(PreparedKind kind, int64_t cols) {
  PreparedLayout layout{.kind = kind, .cols = cols};
  if (kind == PreparedKind::kBf16Tiles) {
    layout.row_bytes = 4;
    layout.block_rows = kTileMaxRows;
    layout.block_bytes = layout.groups() * kTileMaxRows * kTileRowBytes;
  } else if (kind == PreparedKind::kBf16Pairs) {
    layout.block_bytes = cols * 2;
  } else if (kind == PreparedKind::kInt8) {
    MODU_CHECK(cols % kGroup == 0);
    layout.block_bytes = Int8RowBytes(layout.groups());
  } else {
    layout.block_bytes = cols * static_cast<int64_t>(sizeof(float));
  }
  layout.block_bytes = (layout.block_bytes + 63) / 64 * 64;
  // Of a chunk of K all blocks' pieces are read: 64 KiB from each other they would share a third
  // of the second cache's sets (2,048 of 64 bytes).
  if (layout.block_rows > 1 && layout.block_bytes % 65536 == 0) layout.block_bytes += 4096;
  if (layout.block_bytes % 4096 == 0) layout.block_bytes += 64;
  if (layout.block_rows == 1) layout.row_bytes = layout.block_bytes;
  return layout;
}

const PreparedLayout& LayoutOf(const PackedWeight& consumer) {
  return static_cast<const CpuWeight&>(consumer).prepared();
}

}  // namespace modu::kernels::cpu
