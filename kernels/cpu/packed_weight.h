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
// Where int8 activations multiply the strip (kInt8) it is whole numbers: chunks of up to 64 groups,
// each begun by float [32] units of the outputs, then its groups by twos (the last one with zeros
// if it is alone): the codes of the second, then of the first (the order in which they are read),
// by input, then dwords [32] of two int16, the first group's in the low half: d in units of the
// output (kW8Half: two arrays, of the halves of the groups), in formats with a minimum then an
// eighth of m, counted from the middle of the codes. int8_join-inl.h multiplies; units are such
// that its sums stay below 2^31. Formats that differ in their scales' type alone are the same
// there.
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
  kW8F16,   // (u - 128)*d, d f16: Q8_0
  kW8Min,   // q*d + m, q 0..31; d, m f32: Q5_0 (m = -16d), Q5_1, Q5_K
  kW8Half,  // q*d[k/16], q int8 -32..31; two d f32 a group: Q6_K
  kF32,
  kF16,
  kBF16,
  kF8,  // E4M3; the tensor's or channel's factor lies outside
};

constexpr bool IsQuantised(StripFormat format) { return format <= StripFormat::kW8Half; }
constexpr bool IsNibbles(StripFormat format) { return format <= StripFormat::kW4F32; }

/// Bytes of a group's codes, or plain weights: 32 inputs of 32 outputs.
constexpr int64_t CodeBytes(StripFormat format) {
  switch (format) {
    case StripFormat::kW4F16:
    case StripFormat::kW4F32:
      return 512;
    case StripFormat::kW8F16:
    case StripFormat::kW8Min:
    case StripFormat::kW8Half:
    case StripFormat::kF8:
      return 1024;
    case StripFormat::kF16:
    case StripFormat::kBF16:
      return 2 * 1024;
    case StripFormat::kF32:
      return 4 * 1024;
  }
  return 0;
}

/// Bytes of a group's scales and minimums, as the checkpoint has them.
constexpr int64_t ScaleBytes(StripFormat format) {
  switch (format) {
    case StripFormat::kW4F16:
      return 2 * 64;
    case StripFormat::kW8F16:
      return 64;
    case StripFormat::kW4F32:
    case StripFormat::kW8Min:
    case StripFormat::kW8Half:
      return 2 * 128;
    default:
      return 0;
  }
}

constexpr int64_t GroupBytes(StripFormat format) { return CodeBytes(format) + ScaleBytes(format); }

/// Of a strip in whole numbers: what codes count from, and by how many bits a group's products are
/// shifted to fit 16 (int8_join-inl.h).
constexpr int CodeMiddle(StripFormat format) {
  if (format == StripFormat::kW8F16) return 128;
  if (format == StripFormat::kW8Min) return 16;
  return format == StripFormat::kW8Half ? 0 : 8;
}
constexpr int ProductShift(StripFormat format) {
  if (format == StripFormat::kW8F16) return 4;
  return format == StripFormat::kW8Min || format == StripFormat::kW8Half ? 1 : 0;
}
/// Of the same: bytes of a chunk's units and of a pair.
constexpr int64_t kUnitsBytes = 128;
constexpr int64_t PairBytes(StripFormat format) {
  return 2 * CodeBytes(format) + (format == StripFormat::kW8F16 ? 128 : 2 * 128);
}

/// What lies side by side in a group.
enum class StripOrder : uint8_t { kByInput, kByOutput };

struct Strip {
  const std::byte* data = nullptr;
  const float* scales = nullptr;  // [32] factors on the output, or null
  int32_t column = 0;             // first output; in a gated linear: of its half
  int32_t columns = 0;            // outputs used, 1..32
  int32_t group_bytes = 0;        // from one group to the next; not of whole numbers
  int64_t bytes = 0;
  StripFormat format = StripFormat::kF32;
  StripOrder order = StripOrder::kByInput;
};

class CoarseHead;

class CpuWeight final : public PackedWeight {
 public:
  /// Packs over the pool. Sizes and dtypes have been validated; K must be a multiple of 32 for
  /// block-quantised parts and even otherwise. `bf16`: the kind of activations that this machine's
  /// bf16 products read; `turn`: the arena's. Fails as the arena does.
  static absl::StatusOr<std::unique_ptr<CpuWeight>> Create(std::span<const WeightSource> parts,
                                                           WeightUse use, Numerics numerics,
                                                           WorkerPool& pool, WeightArena& arena,
                                                           PreparedKind bf16 = PreparedKind::kBf16,
                                                           Phase turn = Phase::kGeneration);

  ~CpuWeight() override;

  /// For a head of 8-bit codes in whole numbers, so that argmax (ops.h) need not read all of them.
  /// Nothing for others, and nothing where memory does not hold it.
  void AddCoarseHead(WorkerPool& pool, WeightArena& arena);
  /// Null where there is none.
  const CoarseHead* coarse_head() const { return coarse_head_.get(); }

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
  /// whole numbers.)
  void DecodeRow(int64_t row, float* out) const;

 private:
  CpuWeight();
  absl::Status Pack(std::span<const WeightSource> parts, WeightUse use, Numerics numerics,
                    WorkerPool& pool, WeightArena& arena, PreparedKind bf16, Phase turn);

  WeightUse use_ = WeightUse::kLinear;
  PreparedLayout prepared_;
  std::vector<Strip> strips_;
  std::vector<int64_t> part_rows_;    // rows of each part
  std::vector<int64_t> part_strips_;  // its first strip
  std::vector<int64_t> part_scales_;  // where its first strip's lie in scales_of_head_
  std::vector<float> scales_;
  WeightArena::Piece scales_of_head_;  // in whole numbers: [strips][groups] ScaleBytes, exactly
  WeightArena::Piece memory_;
  std::unique_ptr<CoarseHead> coarse_head_;
};

}  // namespace modu::kernels::cpu
