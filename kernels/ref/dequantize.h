// Rows of every checkpoint type to float32, by the formats' own definitions: one plain loop a type,
// no tricks. The oracle of the packed layouts and the way in for norms, biases and scales. Any
// thread.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/dtype.h"

namespace modu::kernels {

/// `data`: `cols` elements of `type` (RowBytes(type, cols) bytes, any alignment); `cols` a multiple
/// of the type's block. `out`: [cols] float32. F8 gives the unscaled values. Source: GGUF's
/// block_q*_* structs; the sums are float32, product before sum, as the formats' own dequantisation
/// defines them.
void DequantizeRow(DType type, const std::byte* data, int64_t cols, float* out);

}  // namespace modu::kernels
