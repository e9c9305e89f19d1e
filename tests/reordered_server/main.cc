// `modu serve` on the reordered backend, for the inverse of the invariance matrix
// (tests/e2e/invariance_test.py --expect-difference).
//   modu_reordered_server batch|chunk|threads MODEL [flags of modu serve]
#include <cstdio>
#include <string>

#include "server/cli/serve_command.h"
#include "tests/reordered_server/reordered_device.h"

namespace modu::tests {
namespace {

template <OrderBy kBy>
absl::StatusOr<std::unique_ptr<kernels::Device>> Open(const kernels::DeviceOptions& options) {
  absl::StatusOr<std::unique_ptr<kernels::Device>> device = kernels::OpenCpuDevice(options);
  if (!device.ok()) return device;
  return ReorderAttention(*std::move(device), kBy);
}

int Main(int argc, char** argv) {
  const std::string by = argc > 1 ? argv[1] : "";
  if (by == "batch") return cli::ServeOn(cli::ModelOn(Open<OrderBy::kBatch>), argc - 1, argv + 1);
  if (by == "chunk") return cli::ServeOn(cli::ModelOn(Open<OrderBy::kChunk>), argc - 1, argv + 1);
  if (by == "threads")
    return cli::ServeOn(cli::ModelOn(Open<OrderBy::kThreads>), argc - 1, argv + 1);
  std::fprintf(stderr, "usage: modu_reordered_server batch|chunk|threads MODEL [flags]\n");
  return 2;
}

}  // namespace
}  // namespace modu::tests

int main(int argc, char** argv) { return modu::tests::Main(argc, argv); }
