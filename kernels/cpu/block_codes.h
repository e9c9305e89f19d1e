// One group of 32 weights of a block-quantised checkpoint row as codes and scales, before they are
// laid into a strip, and back from a strip. Scalar; any thread.
#pragma once
#include <cstddef>
#include <cstdint>

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

/// Weights d * (code - middle + mu) instead of d * code + m, in formats with an m: its place then
/// holds mu as bf16 (kW4F16) or a float of such value. Equal weights without a d get one. Returns
/// the m with which d * code + m is what it was, exactly.
float CountFromMiddle(StripFormat format, GroupCodes* codes);

/// Column `n` (0..31) of a quantised strip's group, whose bytes were zero.
void WriteGroup(StripFormat format, StripOrder order, const GroupCodes& codes, int n,
                std::byte* group);
/// The sums of the same column's codes, behind a group of 8-bit codes.
void WriteSums(StripFormat format, const GroupCodes& codes, int n, std::byte* group);

/// Byte of input k of column n in a plain strip's group.
int64_t PlainOffset(StripFormat format, StripOrder order, int n, int k);

/// Column `n` of any strip's group as f32, without outside scales; `m`: what CountFromMiddle
/// returned, where the group is of such codes. out: [inputs].
void DecodeColumn(StripFormat format, StripOrder order, const std::byte* group, int n, int inputs,
                  float* out, const float* m = nullptr);

}  // namespace modu::kernels::cpu
