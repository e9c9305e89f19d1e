#include "server/cli/weight_check.h"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/checkpoint/checkpoint.h"
#include "kernels/ref/dequantize.h"
#include "server/cli/in_model.h"

namespace modu::cli {
namespace {

absl::Status CheckTensor(const engine::TensorInfo& info, const std::vector<std::byte>& data) {
  const int64_t cols = info.shape.empty() ? 1 : info.shape.back();
  const int64_t row_bytes = kernels::RowBytes(info.dtype, cols);
  if (cols <= 0 || row_bytes <= 0) return absl::OkStatus();
  const int64_t rows = info.bytes / row_bytes;
  std::vector<float> values(static_cast<size_t>(cols));
  int64_t found = 0, first_row = 0, first_col = 0;
  for (int64_t row = 0; row < rows; ++row) {
    kernels::DequantizeRow(info.dtype, data.data() + row * row_bytes, cols, values.data());
    for (int64_t col = 0; col < cols; ++col) {
      if (std::isfinite(values[static_cast<size_t>(col)]) || found++ > 0) continue;
      first_row = row;
      first_col = col;
    }
  }
  if (found == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("check: tensor ", info.name, " has ", found,
                                                 " values that are not finite, the first in row ",
                                                 first_row, ", column ", first_col));
}

}  // namespace

absl::Status CheckWeightsFinite(const std::string& path) {
  const auto checkpoint = engine::OpenCheckpoint(path);
  if (!checkpoint.ok()) return InModel(path, checkpoint.status());
  std::vector<std::byte> data;
  for (const engine::TensorInfo& info : (*checkpoint)->tensors()) {
    data.resize(static_cast<size_t>(info.bytes));
    if (absl::Status read = (*checkpoint)->Read(info, data.data()); !read.ok())
      return InModel(path, read);
    if (absl::Status finite = CheckTensor(info, data); !finite.ok()) return InModel(path, finite);
  }
  return absl::OkStatus();
}

}  // namespace modu::cli
