// Cache lines made a worker's own before it writes them.
#pragma once
#include <cstddef>
#include <cstdint>

namespace modu::kernels::cpu {

/// Of memory that this worker alone is about to write whole; its content is lost. A worker that
/// writes, piece by piece, lines that another core has read was seen to wait for each of them: some
/// 270 cycles where cores seem to have no L3 in common. Stored to a row ahead, they come meanwhile;
/// prefetchw changed nothing (Zen 4 in a virtual machine;
/// benchmarks/results/2026-11-29-zen4-crowd.md).
inline void OwnLines(std::byte* begin, int64_t bytes) {
  constexpr int64_t kLine = 64;
  volatile std::byte* const lines = begin;
  for (int64_t i = 0; i < bytes; i += kLine) lines[i] = std::byte{0};
}

}  // namespace modu::kernels::cpu
