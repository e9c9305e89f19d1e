#include "kernels/cpu/coarse_head.h"

#include <algorithm>
#include <atomic>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <utility>

#include "kernels/check.h"
#include "kernels/cpu/block_codes.h"

namespace modu::kernels::cpu {
namespace {

constexpr int kLine = 64;          // bytes; codes of four inputs of 16 columns
constexpr int kHalf = 16;          // columns
constexpr int kLines = 8;          // of a group's half, in codes
constexpr double kHalfStep = 3.5;  // the middle of the codes with the same upper bits

/// Half a strip of a group: its codes to nibbles and fifth bits at `to`, and to each column's sum
/// of (2r)^2.
void CoarsenHalf(const uint8_t* codes, uint8_t* to, int32_t (&squares)[kHalf]) {
  uint8_t* const fifth = to + kLines / 2 * kLine;
  std::fill(fifth, fifth + kLine, uint8_t{0});
  std::fill(std::begin(squares), std::end(squares), 0);
  for (int z = 0; z < kLines; z += 2) {
    const uint8_t* const low = codes + z * kLine;
    const uint8_t* const high = low + kLine;
    uint8_t* const nibbles = to + z / 2 * kLine;
    for (int b = 0; b < kLine; ++b) {
      nibbles[b] = static_cast<uint8_t>((low[b] >> 3 & 15) | (high[b] >> 3 & 15) << 4);
      fifth[b] = static_cast<uint8_t>(fifth[b] | low[b] >> 7 << z | high[b] >> 7 << (z + 1));
    }
  }
  for (int z = 0; z < kLines; ++z) {
    for (int b = 0; b < kLine; ++b) {
      const int twice = 2 * (codes[z * kLine + b] & 7) - 7;
      squares[b / 4] += twice * twice;
    }
  }
}

/// Returns the largest sum of an output's units, NaN or infinite if one of them is.
float CoarsenStrip(const Strip& strip, int64_t groups, std::byte* to) {
  int32_t most_squares[kStrip] = {};
  float units[kStrip] = {};
  std::byte* out = to + kCoarseHeadBytes;
  const std::byte* chunk = strip.data;
  for (int64_t first = 0; first < groups; first += 2 * kChunkPairs) {
    const int64_t some = std::min<int64_t>(groups - first, 2 * kChunkPairs);
    float chunk_units[kStrip];
    std::memcpy(chunk_units, chunk, sizeof(chunk_units));
    for (int n = 0; n < kStrip; ++n) units[n] += chunk_units[n];
    std::memcpy(out, chunk, kUnitsBytes);
    out += kUnitsBytes;
    const std::byte* pair = chunk + kUnitsBytes;
    for (int64_t p = 0; p < PairsOf(some); ++p, pair += PairBytes(StripFormat::kW8F16)) {
      for (int g = 0; g < 2; ++g) {
        const std::byte* const codes = pair + (1 - g) * CodeBytes(StripFormat::kW8F16);
        for (int half = 0; half < 2; ++half, out += kCoarseHalfBytes) {
          int32_t squares[kHalf];
          CoarsenHalf(reinterpret_cast<const uint8_t*>(codes) + half * kLines * kLine,
                      reinterpret_cast<uint8_t*>(out), squares);
          for (int n = 0; n < kHalf; ++n) {
            int32_t& most = most_squares[half * kHalf + n];
            most = std::max(most, squares[n]);
          }
        }
      }
      std::memcpy(out, pair + 2 * CodeBytes(StripFormat::kW8F16), 128);
      out += 128;
    }
    chunk += ChunkBytes(StripFormat::kW8F16, some);
  }
  float lengths[kStrip];
  for (int n = 0; n < kStrip; ++n) {
    lengths[n] = std::max(kLeastLength, std::sqrt(static_cast<float>(most_squares[n])) / 2);
  }
  std::memcpy(to, lengths, sizeof(lengths));
  float most = 0;
  for (float sum : units) {
    if (!std::isfinite(sum)) return sum;
    most = std::max(most, sum);
  }
  return most;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CoarseHead>> CoarseHead::Create(std::span<const Strip> strips,
                                                               const PreparedLayout& layout,
                                                               WorkerPool& pool,
                                                               WeightArena& arena) {
  MODU_CHECK(layout.kind == PreparedKind::kInt8);
  std::unique_ptr<CoarseHead> head(new CoarseHead);
  head->strip_bytes_ = CoarseStripBytes(layout.groups());
  head->bytes_ = head->strip_bytes_ * static_cast<int64_t>(strips.size());
  absl::StatusOr<WeightArena::Piece> memory =
      arena.Allocate(static_cast<size_t>(head->bytes_), /*turn=*/std::nullopt);
  if (!memory.ok()) return memory.status();
  head->memory_ = *std::move(memory);
  std::vector<float> most(static_cast<size_t>(pool.size()), 0.0f);
  std::atomic<bool> finite{true};
  pool.Run(static_cast<int>(strips.size()), 4, [&](int first, int last, int worker) {
    float& most_units = most[static_cast<size_t>(worker)];
    for (int i = first; i < last; ++i) {
      const Strip& strip = strips[static_cast<size_t>(i)];
      MODU_CHECK(strip.format == StripFormat::kW8F16);
      const float units = CoarsenStrip(strip, layout.groups(),
                                       head->memory_.data + int64_t{i} * head->strip_bytes_);
      if (!std::isfinite(units)) finite = false;
      most_units = std::max(most_units, units);
    }
  });
  if (!finite) return nullptr;
  head->most_units_ = *std::max_element(most.begin(), most.end());
  return head;
}

bool CoarseHead::Describe(const PreparedLayout& layout, const std::byte* in, CoarseGroup* groups,
                          CoarseRow* row) const {
  // Whole products are those of codes less 128, shifted down by 4 bits.
  constexpr double kStep = 8.0 / (1 << ProductShift(StripFormat::kW8F16));
  constexpr double kFrom = (kHalfStep - CodeMiddle(StripFormat::kW8F16)) / 8;
  const auto* const pairs = reinterpret_cast<const Int8Pair*>(in);
  double rounding = 0;
  for (int64_t g = 0; g < 2 * PairsOf(layout.groups()); ++g) {
    const Int8Pair& pair = pairs[g / 2];
    const auto half = [&](uint32_t both) {
      return static_cast<int16_t>(g % 2 == 0 ? both & 0xFFFF : both >> 16);
    };
    const int8_t* const values = pair.values + g % 2 * kGroup;
    int32_t sum = 0, squares = 0;
    for (int k = 0; k < kGroup; ++k) {
      sum += values[k];
      squares += values[k] * values[k];
    }
    const double scale = half(pair.scales) / 32768.0, centre = half(pair.centres) / 32.0;
    const double length = std::sqrt(
        std::max(0.0, scale * scale * squares + centre * (2 * scale * sum + centre * kGroup)));
    // y is rounded by half a step twice, once before the scale; what is more is for the floats,
    // whose up to 64 additions, each of what is below 2^15 * (scale + centre / kInt8Steps), round
    // by 2^-24 of it.
    const double rounded = 0.5 + scale + std::fabs(centre) / kInt8Steps;
    groups[g].scale = static_cast<float>(kStep * scale);
    groups[g].begin = static_cast<float>(kStep * kFrom * (scale * sum + centre * kGroup));
    groups[g].centre = static_cast<float>(kStep * centre);
    groups[g].reach = static_cast<float>(length * (kStep / 8) + rounded / kLeastLength);
    rounding += std::fabs(0.5 * half(pair.centres)) / kLeastLength;  // S, by half a step
  }
  row->in = in;
  row->groups = groups;
  row->unit = RowUnit(layout, in);
  row->rounding = static_cast<float>(rounding);
  // Sums in whole numbers are below 2^31.
  return std::isfinite(*row->unit) && double{most_units_} * *row->unit * 0x1p33 < FLT_MAX;
}

}  // namespace modu::kernels::cpu
