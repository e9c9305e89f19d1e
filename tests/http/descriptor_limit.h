// Few file descriptors for a while, as far as the system's hard limit lets them be given back.
#pragma once
#include <sys/resource.h>

#include <algorithm>

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

}  // namespace modu::testing
