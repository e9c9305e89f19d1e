#include "server/store/progress_line.h"

#include <unistd.h>

#include <cstdio>
#include <string>
#include <utility>

namespace modu::store {

ProgressLine::ProgressLine(int fd, std::string doing)
    : fd_(fd),
      doing_(std::move(doing)),
      terminal_(isatty(fd) == 1),
      last_(terminal_ ? Clock::time_point() : start_) {}

ProgressLine::~ProgressLine() {
  if (open_) dprintf(fd_, "\n");
}

void ProgressLine::Update(int64_t done, int64_t total) {
  const auto now = Clock::now();
  const bool whole = total > 0 && done >= total;
  const auto gap = terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(10'000);
  if (first_done_ < 0) first_done_ = whole ? 0 : done;
  if (!whole && now - last_ < gap) return;
  last_ = now;
  const double seconds = std::chrono::duration<double>(now - start_).count();
  const double rate = seconds > 0.2 ? static_cast<double>(done - first_done_) / 1e6 / seconds : 0;
  char text[160];
  if (total > 0) {
    const int filled = static_cast<int>(30 * done / total);
    std::snprintf(text, sizeof(text), "[%-30s] %3d%%  %.1f / %.1f MB  %.1f MB/s",
                  std::string(static_cast<size_t>(filled < 0    ? 0
                                                  : filled > 30 ? 30
                                                                : filled),
                              '=')
                      .c_str(),
                  static_cast<int>(100 * done / total), static_cast<double>(done) / 1e6,
                  static_cast<double>(total) / 1e6, rate);
  } else if (done > 0) {
    std::snprintf(text, sizeof(text), "%.1f MB  %.1f MB/s", static_cast<double>(done) / 1e6, rate);
  } else {
    std::snprintf(text, sizeof(text), "%.0f s", seconds);
  }
  if (terminal_) {
    dprintf(fd_, "\r\x1b[K%s %s", doing_.c_str(), text);
    open_ = true;
  } else {
    dprintf(fd_, "%s %s\n", doing_.c_str(), text);
  }
}

}  // namespace modu::store
