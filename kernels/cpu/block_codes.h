// One group of 32 weights of a block-quantised checkpoint row as codes and scales, before they are
// laid into a strip, and back from a strip. Scalar; any thread.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/cpu/packed_weight.h"

namespace modu::kernels::cpu {

/// The strip format that holds `dtype` exactly.
StripFormat FormatOf(DType dtype);

struct GroupCodes {
  alignas(8) uint8_t code[32];  // as the strip format stores them (kW8Half: two's complement)
  uint16_t d16, m16;            // kW4F16, kW8F16: f16 bits
  float d, m;                   // other formats; kW8Half: the two halves' scales
};

/// Group g of a row of `dtype` (block types only).
void ReadGroup(DType dtype, const std::byte* row, int64_t g, GroupCodes* codes);

/// Column `n` (0..31) of a quantised strip's group, whose bytes were zero.
void WriteCodes(StripFormat format, StripOrder order, const GroupCodes& codes, int n,
                std::byte* at);
/// The same column's scales and minimum, as the format has them: ScaleBytes.
void WriteScales(StripFormat format, const GroupCodes& codes, int n, std::byte* at);

/// Bytes of a chunk of up to 2 * kChunkPairs groups in whole numbers.
int64_t ChunkBytes(StripFormat format, int64_t groups);
/// Bytes from a strip in whole numbers to the codes of its group g.
int64_t CodesInChunks(StripFormat format, int64_t g);
/// Column `n` of such a chunk, whose bytes were zero. A weight that is not finite makes the
/// output's unit NaN.
void WriteChunk(StripFormat format, std::span<const GroupCodes> groups, int n, std::byte* chunk);

/// Byte of input k of column n in a plain strip's group.
int64_t PlainOffset(StripFormat format, StripOrder order, int n, int k);

/// Column `n` of any strip's group as f32, without outside scales; `scales`: what WriteScales
/// wrote. out: [inputs].
void DecodeColumn(StripFormat format, StripOrder order, const std::byte* codes,
                  const std::byte* scales, int n, int inputs, float* out);

}  // namespace modu::kernels::cpu
