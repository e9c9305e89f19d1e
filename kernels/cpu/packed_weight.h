// A matrix as the x86 kernels read it: strips of 32 outputs, inside a strip K in groups of 32
// inputs, so that a worker streams one linear range. Every part of the matrix starts a new strip
// and keeps its own format; unused columns of a strip, and inputs past the last of its last group,
// are zero. Immutable once packed; any thread.
//
// A group of a quantised strip is codes, then scales (then minimums) of the 32 columns. Vectors
// multiply many columns with one input (StripOrder::kByInput; all sets read the same bytes):
//   kW4  : code of (column n, input k) in byte (n/16)*256 + (k/8)*64 + (n%16)*4 + k%4,
//          low nibble for k%8 < 4, else high: a dword holds 8 inputs of one column
//   kW8* : in byte (n/16)*512 + (k/4)*64 + (n%16)*4 + k%4: a dword holds 4 inputs of one column
// Plain groups are [32 inputs][32 columns], bf16 in pairs [16][32][2].
// bf16 tiles take the weights as their first factor, a row of a tile is 32 inputs of one column
// (StripOrder::kByOutput):
//   kW4  : 16-bit word (n/4)*32 + k holds the codes of input k and columns n/4*4 .. + 3, the first
//          in its lowest bits: one shift gives the 32 indices into a column's table of 16 weights
//   kW8* : in byte n*32 + k, kW8F16 less 128 (two's complement)
// Plain groups are [32 columns][32 inputs].
// Where int8 activations multiply the strip, each group of 8-bit codes ends with the sums of its
// codes, int16 [32], in kW8Half one such row for either half (kW8F16: of codes less 128). Sums of
// nibbles are made faster than read. Where these activations are kInt8Pairs, codes with a minimum
// count from the middle of their range (CountFromMiddle in block_codes.h).
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/cpu/prepared.h"
#include "kernels/cpu/weight_arena.h"
#include "kernels/cpu/worker_pool.h"
#include "kernels/device.h"

namespace modu::kernels::cpu {

constexpr int kStrip = 32;  // outputs

enum class StripFormat : uint8_t {
  kW4F16,   // q*d + m, q 0..15; d, m f16: Q4_0 (m = -8d), Q4_1
  kW4F32,   // the same with d, m f32: Q4_K, whose scales are products that f16 would round
  kW8F16,   // (u - 128)*d, d f16: Q8_0, Q5_0
  kW8Min,   // q*d + m, q 0..31; d, m f32: Q5_1, Q5_K
  kW8Half,  // q*d[k/16], q int8 -32..31; two d f32 a group: Q6_K
  kF32,
  kF16,
  kBF16,
  kF8,  // E4M3; the tensor's or channel's factor lies outside
};

constexpr bool IsQuantised(StripFormat format) { return format <= StripFormat::kW8Half; }
/// Those with an m.
constexpr bool HasMinimum(StripFormat format) {
  return format == StripFormat::kW4F16 || format == StripFormat::kW4F32 ||
         format == StripFormat::kW8Min;
}

/// Bytes of one group (32 inputs of 32 outputs), without sums.
constexpr int64_t GroupBytes(StripFormat format) {
  switch (format) {
    case StripFormat::kW4F16:
      return 512 + 2 * 64;
    case StripFormat::kW4F32:
      return 512 + 2 * 128;
    case StripFormat::kW8F16:
      return 1024 + 64;
    case StripFormat::kW8Min:
      return 1024 + 2 * 128;
    case StripFormat::kW8Half:
      return 1024 + 2 * 128;
    case StripFormat::kF32:
      return 4 * 1024;
    case StripFormat::kF16:
      return 2 * 1024;
    case StripFormat::kBF16:
      return 2 * 1024;
    case StripFormat::kF8:
      return 1024;
  }
  return 0;
}

/// Bytes of the sums behind a group where int8 activations multiply it.
constexpr int64_t SumBytes(StripFormat format) {
  if (format == StripFormat::kW8Half) return 2 * 64;
  return format == StripFormat::kW8F16 || format == StripFormat::kW8Min ? 64 : 0;
}

/// What lies side by side in a group.
enum class StripOrder : uint8_t { kByInput, kByOutput };

struct Strip {
  const std::byte* data = nullptr;
  const float* scales = nullptr;  // [32] factors on the output, or null
  int32_t column = 0;             // first output; in a gated linear: of its half
  int32_t columns = 0;            // outputs used, 1..32
  int32_t group_bytes = 0;        // from one group to the next
  StripFormat format = StripFormat::kF32;
  StripOrder order = StripOrder::kByInput;
};

class CpuWeight final : public PackedWeight {
 public:
  /// Packs over the pool. Sizes and dtypes have been validated; K must be a multiple of 32 for
  /// block-quantised parts and even otherwise. `kinds`: which layouts of
  /// activations this machine's kernels read. Fails as the arena does.
  static absl::StatusOr<std::unique_ptr<CpuWeight>> Create(std::span<const WeightSource> parts,
                                                           WeightUse use, Numerics numerics,
                                                           WorkerPool& pool, WeightArena& arena,
                                                           ActivationKinds kinds = {});

  WeightUse use() const { return use_; }
  const PreparedLayout& prepared() const { return prepared_; }
  /// In a gated linear strip 2i is the gate and 2i+1 the up of the same 32 features.
  std::span<const Strip> strips() const { return strips_; }
  /// About the share that worker `worker` of `workers` has of the matrix that was packed after this
  /// one, by bytes: models are packed in the order in which they are multiplied. Only to be fetched
  /// ahead: that matrix may be gone.
  WeightArena::Region FollowingShare(int worker, int workers) const {
    const size_t share = memory_.next->bytes / static_cast<size_t>(workers);
    return {memory_.next->data + share * static_cast<size_t>(worker), share};
  }
  /// Weights are rounded to bf16 as they are read (those not stored so).
  bool round_to_bf16() const { return IsBf16(prepared_.kind); }

  /// Row `row` of a head as the file has it, exactly. out: [cols] f32. (Of other uses too, but of
  /// codes that count from the middle.)
  void DecodeRow(int64_t row, float* out) const;

 private:
  CpuWeight() = default;
  float* minimums() const {
    return reinterpret_cast<float*>(minimums_.data);
  }  // [strips][groups][32]
  absl::Status Pack(std::span<const WeightSource> parts, WeightUse use, Numerics numerics,
                    WorkerPool& pool, WeightArena& arena, ActivationKinds kinds);

  WeightUse use_ = WeightUse::kLinear;
  PreparedLayout prepared_;
  std::vector<Strip> strips_;
  std::vector<int64_t> part_rows_;    // rows of each part
  std::vector<int64_t> part_strips_;  // its first strip
  std::vector<float> scales_;
  WeightArena::Piece minimums_;  // of a head whose codes count from the middle
  WeightArena::Piece memory_;
};

}  // namespace modu::kernels::cpu
