// A backend whose numbers do depend on neighbours, to show that the invariance matrix would see it.
// It is the real one but for attention: the blocks that every query row of a sequence sees whole
// are walked in an order that depends on the step. Softmax does not care in which order it meets
// the past, so the result is the same up to rounding; a kernel that cuts its work by batch size
// (split-K by rows, one flash-decoding split count for the whole batch) differs in just this way.
// Linked into the test's own server, never into build/modu. Threads as the wrapped Device.
#pragma once
#include <memory>

#include "kernels/device.h"

namespace modu::tests {

/// What the order depends on.
enum class OrderBy : unsigned char {
  kBatch,    // sequences in the step
  kChunk,    // this sequence's rows in the step
  kThreads,  // workers of the backend
};

std::unique_ptr<kernels::Device> ReorderAttention(std::unique_ptr<kernels::Device> device,
                                                  OrderBy by);

}  // namespace modu::tests
