// Pieces of rows of activations to int8 (prepared.h). Included by op_dtype_isa files only.
#pragma once
#include "kernels/cpu/vector-inl.h"
#if defined(MODU_VECTOR_AVX512)
#include "kernels/cpu/quantise_sixteen-inl.h"
#else
#include "kernels/cpu/quantise_four-inl.h"
#endif

namespace modu::kernels::cpu::MODU_ISA {
namespace {

#if !defined(MODU_VECTOR_AVX512)
MODU_INLINE void QuantiseAlong(const float* values, std::byte* row, int64_t groups, int64_t g,
                               int64_t end) {
  const float least = end - g == groups ? LeastGain(values, groups) : kNoCentres;
  QuantiseFoursAlong(values, least, row, g, end);
}
MODU_INLINE void QuantiseDown(const float* values, int64_t stride, int rows, std::byte* row,
                              int64_t row_bytes, int64_t g) {
  QuantiseFoursDown(values, stride, rows, row, row_bytes, g);
}
#endif

/// Columns [first, first + count) of a row of `groups` groups. Whoever writes the last one writes
/// the zeros behind it.
MODU_INLINE void QuantiseRow(const float* values, int64_t count, std::byte* row, int64_t groups,
                             int64_t first) {
  const int64_t end = (first + count) / kGroup;
  QuantiseAlong(values, row, groups, first / kGroup, end);
  if (end == groups && groups % 2 != 0) {
    const GroupPlace last = PlaceOf(row, groups);
    __builtin_memset(last.values, 0, kGroup);
    last.Store(0, 0, 0);
  }
}

}  // namespace
}  // namespace modu::kernels::cpu::MODU_ISA
