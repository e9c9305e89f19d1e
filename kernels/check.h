// CHECK: for bugs of ours, never for user input or a file's content (those are absl::Status).
#pragma once
#include <cstdio>
#include <cstdlib>

namespace modu {
[[noreturn]] inline void CheckFailed(const char* file, int line, const char* what) {
  std::fprintf(stderr, "%s:%d: CHECK failed: %s\n", file, line, what);
  std::abort();
}
}  // namespace modu

#define MODU_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::modu::CheckFailed(__FILE__, __LINE__, #condition))
