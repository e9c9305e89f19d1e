#include "kernels/cpu/core_share.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace modu::kernels::cpu {
namespace {

// So much time that a thread wanted to run says enough: what a server's own threads and its client
// do at once (64 answers that end, 64 prompts) takes less.
constexpr int64_t kWantedNs = 40'000'000;
// Beside a neighbour on one of two cores it was 0.45; 0.03 without (16 streams and their client).
constexpr double kMostWaited = 0.3;
constexpr int kCalm = 20;
// Of the others', in a trial of twice as long.
constexpr int64_t kEvidenceNs = 15'000'000;

}  // namespace

bool CoreTime::waits_much() const {
  return static_cast<double>(wait_ns) > kMostWaited * static_cast<double>(wanted_ns());
}

CoreTime ReadCoreTime(pid_t thread) {
  char text[96];
  std::snprintf(text, sizeof(text), "/proc/self/task/%d/schedstat", static_cast<int>(thread));
  const int file = open(text, O_RDONLY | O_CLOEXEC);
  if (file < 0) return {};
  const ssize_t length = read(file, text, sizeof(text) - 1);
  close(file);
  if (length <= 0) return {};
  text[length] = 0;
  long long run = 0, wait = 0;
  if (std::sscanf(text, "%lld %lld", &run, &wait) != 2) return {};
  return {run, wait};
}

CoreShare::Milliseconds CoreShare::Look(Milliseconds now, CoreTime time) {
  const CoreTime since = time - begin_;
  if (since.wanted_ns() < kWantedNs) return {};
  begin_ = time;
  if (!since.waits_much()) {
    aside_ = std::max(aside_ / 2, kShortest);  // coming back did help
    if (++calm_ >= kCalm) aside_ = useless_ = kShortest;
    return {};
  }
  calm_ = 0;
  return now < not_before_ ? Milliseconds(0) : aside_;
}

bool CoreShare::IsOfUse(Milliseconds now, CoreTime others) {
  if (others.wanted_ns() < kEvidenceNs) return false;
  if (!others.waits_much()) {
    aside_ = std::min(2 * aside_, kLongest);
    useless_ = kShortest;
    return true;
  }
  not_before_ = now + useless_;
  useless_ = std::min(2 * useless_, kLongest);
  aside_ = kShortest;
  return false;
}

}  // namespace modu::kernels::cpu
