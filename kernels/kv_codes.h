// KV in 8 bits, as every backend holds it: each token's K and V of a head are codes times a float32
// scale of their own, codes either whole numbers in [-127, 127] or FP8 E4M3. Before K is coded, it
// and the queries go through a Walsh-Hadamard matrix, which leaves their products as they are and
// spreads K's few large dims over all (QuaRot, arXiv 2404.00456); so does V, and the weighted sums
// of it go through the matrix once more, which is its own inverse but for a factor. A token that is
// not finite, or overflows in being rotated (above 3e38 / the head's size), has the scale NaN in K
// and 0 in V.
#pragma once
#include <cmath>
#include <cstdint>

#include "kernels/dtype.h"

namespace modu::kernels {

constexpr bool IsKvCode(DType dtype) { return dtype == DType::kI8 || dtype == DType::kF8E4M3; }

/// Dims that are rotated together: the largest power of two that divides the head's size.
constexpr int RotationSpan(int head_dim) { return head_dim & -head_dim; }

constexpr float kLargestInt8Code = 127.0f;
constexpr float kLargestF8Code = 448.0f;
/// Rows whose largest magnitude is below this are zeros: its reciprocal must be finite.
constexpr float kLeastKvMagnitude = 1e-30f;

/// Bytes of the two scales, K's and V's, of one token and head; 0 for other types.
constexpr int64_t KvScaleBytes(DType dtype) { return IsKvCode(dtype) ? 8 : 0; }

}  // namespace modu::kernels
