// Progress for people: one line that is rewritten on a terminal; elsewhere a line every ten seconds
// and one at the end.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>

namespace modu::store {

class ProgressLine {
 public:
  /// `fd`: where it writes, stderr as a rule. `doing`: what is under way, such as "loading".
  ProgressLine(int fd, std::string doing);
  ~ProgressLine();  // ends an open line
  void Update(int64_t done, int64_t total);

 private:
  using Clock = std::chrono::steady_clock;
  const int fd_;
  const std::string doing_;
  const bool terminal_;
  const Clock::time_point start_ = Clock::now();
  Clock::time_point last_;
  int64_t first_done_ = -1;  // what an earlier try had brought does not count towards the rate
  bool open_ = false;
};

}  // namespace modu::store
