// Few file descriptors for a while, as far as the system's hard limit lets them be given back.
#pragma once
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <vector>

namespace modu::testing {

class DescriptorLimit {
 public:
  explicit DescriptorLimit(rlim_t limit) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    rlimit now = before_;
    now.rlim_cur = std::min(limit, before_.rlim_max);
    ::setrlimit(RLIMIT_NOFILE, &now);
    limit_ = now.rlim_cur;
  }
  ~DescriptorLimit() { ::setrlimit(RLIMIT_NOFILE, &before_); }
  rlim_t limit() const { return limit_; }

 private:
  rlimit before_{};
  rlim_t limit_ = 0;
};

/// Takes every descriptor but the last one, which is for the connecting side: none is left for the
/// side that accepts. No assertion may stand between its making and Free: UBSan's vptr check needs
/// a pipe of its own.
class NoDescriptors {
 public:
  NoDescriptors() {
    for (int fd = ::dup(0); fd >= 0; fd = ::dup(0)) taken_.push_back(fd);
    if (taken_.empty()) return;
    filled_ = true;
    ::close(taken_.back());
    taken_.pop_back();
  }
  ~NoDescriptors() { Free(); }
  NoDescriptors(const NoDescriptors&) = delete;
  NoDescriptors& operator=(const NoDescriptors&) = delete;

  void Free() {
    for (int fd : taken_) ::close(fd);
    taken_.clear();
  }
  bool filled() const { return filled_; }

 private:
  DescriptorLimit limit_{256};
  std::vector<int> taken_;
  bool filled_ = false;
};

}  // namespace modu::testing
