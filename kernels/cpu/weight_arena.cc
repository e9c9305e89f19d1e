#include "kernels/cpu/weight_arena.h"

#include <sys/mman.h>

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace modu::kernels::cpu {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kChunk = size_t{32} << 20;

size_t RoundUp(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

/// In MiB, rounded up.
int64_t Mebibytes(int64_t bytes) { return (bytes + (int64_t{1} << 20) - 1) >> 20; }

}  // namespace

struct WeightArena::Chunk {
  /// data stays null where the system refuses.
  explicit Chunk(size_t size) : bytes(size) {
    // Mapped with room to start on a huge page: rows then need 512 times fewer TLB entries.
    mapped_bytes = bytes + kHugePage;
    mapped =
        mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) return;
    const auto address = reinterpret_cast<uintptr_t>(mapped);
    data = reinterpret_cast<std::byte*>(RoundUp(address, kHugePage));
    madvise(data, bytes, MADV_HUGEPAGE);  // advice only: small pages work too
  }
  ~Chunk() {
    if (mapped != MAP_FAILED) munmap(mapped, mapped_bytes);
  }
  Chunk(const Chunk&) = delete;
  Chunk& operator=(const Chunk&) = delete;

  void* mapped = nullptr;
  size_t mapped_bytes = 0;
  std::byte* data = nullptr;
  size_t bytes = 0, used = 0;
};

absl::StatusOr<WeightArena::Piece> WeightArena::Allocate(size_t bytes, std::optional<Phase> turn) {
  // Nothing near the limit may overflow the roundings below.
  const int64_t left = limit_ - given_;
  if (bytes > static_cast<size_t>(std::max<int64_t>(left, 0))) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "weights: ", Mebibytes(given_), " MiB so far and ", bytes >> 20,
        " MiB for one more matrix exceed the limit of ", Mebibytes(limit_), " MiB of memory"));
  }
  bytes = RoundUp(bytes, 64);
  const bool own = bytes > kChunk;  // a chunk of its own; the current one keeps its room
  std::shared_ptr<Chunk> chunk = current_;
  if (own || chunk == nullptr || chunk->bytes - chunk->used < bytes) {
    chunk = std::make_shared<Chunk>(RoundUp(std::max(bytes, kChunk), kHugePage));
    if (chunk->data == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("weights: the system gives no more memory after ", Mebibytes(given_),
                       " MiB; ", Mebibytes(static_cast<int64_t>(chunk->bytes)),
                       " MiB more are needed, the limit is ", Mebibytes(limit_), " MiB"));
    }
    if (!own) current_ = chunk;
  }
  std::byte* const data = chunk->data + chunk->used;
  chunk->used += bytes;
  given_ += static_cast<int64_t>(bytes);
  const auto after = std::make_shared<Region>();
  if (turn.has_value()) {
    std::shared_ptr<Region>& next = next_[static_cast<int>(*turn)];
    if (next != nullptr) *next = {data, bytes};
    next = after;
  }
  return Piece{data, std::move(chunk), after};
}

}  // namespace modu::kernels::cpu
