// 2 MB aligned memory that many weights share, in huge pages where the system gives them. One
// thread allocates; a piece stays valid while its chunk is held, also after the arena is gone.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "kernels/dtype.h"

namespace modu::kernels::cpu {

class WeightArena {
 public:
  struct Chunk;
  struct Region {
    const std::byte* data = nullptr;
    size_t bytes = 0;
  };
  struct Piece {
    std::byte* data = nullptr;           // zeroed, 64-byte aligned
    std::shared_ptr<Chunk> chunk;        // keeps data alive
    std::shared_ptr<const Region> next;  // read after this one, once given; it may have gone
  };

  /// At most `limit` bytes in all: more would be swapped out, or end the process at a time of the
  /// system's choice.
  explicit WeightArena(int64_t limit) : limit_(limit) {}

  /// ResourceExhausted, naming need and limit, past the limit or where the system refuses.
  /// turn: read by the rows of that phase, between the piece before it and the one after it that
  /// were allocated for the same; none: no piece's `next`.
  absl::StatusOr<Piece> Allocate(size_t bytes, std::optional<Phase> turn = Phase::kGeneration);

 private:
  const int64_t limit_;
  int64_t given_ = 0;
  std::shared_ptr<Chunk> current_;
  std::shared_ptr<Region> next_[2];  // by phase: the last piece's
};

}  // namespace modu::kernels::cpu
