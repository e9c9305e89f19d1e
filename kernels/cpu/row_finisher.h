// Rows of kInt8 that several workers write in pieces (prepared.h): whoever writes the last piece of
// some rows finishes them, while what they are finished from is still near, and without a barrier.
#pragma once
#include <algorithm>
#include <atomic>
#include <vector>

#include "kernels/cpu/linear_kernels.h"
#include "kernels/cpu/prepared.h"

namespace modu::kernels::cpu {

class RowFinisher {
 public:
  /// Rows [0, num_rows) of `out`, `block_rows` of which are written together, in `pieces` pieces.
  /// For a layout that needs no finishing, and for rows in one piece, all of this is nothing.
  RowFinisher(const FloatKernels& kernels, const PreparedLayout& layout, Prepared out, int num_rows,
              int block_rows, int pieces)
      : finish_(kernels.finish_rows), layout_(layout), out_(out), block_rows_(block_rows) {
    if (layout.kind != PreparedKind::kInt8 || pieces == 1) return;
    missing_ = std::vector<std::atomic<int>>(
        static_cast<size_t>((num_rows + block_rows - 1) / block_rows));
    for (std::atomic<int>& missing : missing_) missing.store(pieces, std::memory_order_relaxed);
  }

  /// `pieces` pieces of rows [row, row + rows), which begin a block and reach the end of one or of
  /// all.
  void Wrote(int row, int rows, int pieces = 1) {
    if (missing_.empty()) return;
    for (const int end = row + rows; row < end; row += block_rows_) {
      auto& missing = missing_[static_cast<size_t>(row / block_rows_)];
      // Acquires what the other pieces' writers released.
      if (missing.fetch_sub(pieces, std::memory_order_acq_rel) != pieces) continue;
      finish_(layout_, layout_.Row(out_, row), std::min(block_rows_, end - row));
    }
  }

  /// One worker's pieces, told in one go where the same rows follow each other: each telling takes
  /// a cache line from the other workers.
  class Pieces {
   public:
    explicit Pieces(RowFinisher& finisher) : finisher_(finisher) {}
    ~Pieces() { Tell(); }
    Pieces(const Pieces&) = delete;
    Pieces& operator=(const Pieces&) = delete;

    void Wrote(int row, int rows) {
      if (row != row_ || rows != rows_) Tell();
      row_ = row;
      rows_ = rows;
      ++pieces_;
    }

   private:
    void Tell() {
      if (pieces_ > 0) finisher_.Wrote(row_, rows_, pieces_);
      pieces_ = 0;
    }

    RowFinisher& finisher_;
    int row_ = 0, rows_ = 0, pieces_ = 0;
  };

 private:
  const FinishRowsFn finish_;
  const PreparedLayout layout_;
  const Prepared out_;
  const int block_rows_;
  std::vector<std::atomic<int>> missing_;  // pieces of each block
};

}  // namespace modu::kernels::cpu
