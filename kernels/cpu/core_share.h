// Whether threads get the cores that they work on. Where another process computes on one of the
// machine's cores, the system puts two workers that wait for each other on what is left, and a job
// is passed to and fro between them a thousand times a second: one of them alone does more.
#pragma once
#include <sys/types.h>

#include <chrono>
#include <cstdint>

namespace modu::kernels::cpu {

/// Of one thread, or several, since they began: on a core, and ready to run without one.
struct CoreTime {
  int64_t run_ns = 0, wait_ns = 0;
  CoreTime operator+(const CoreTime& o) const { return {run_ns + o.run_ns, wait_ns + o.wait_ns}; }
  CoreTime operator-(const CoreTime& o) const { return {run_ns - o.run_ns, wait_ns - o.wait_ns}; }
  int64_t wanted_ns() const { return run_ns + wait_ns; }
  /// More than is lost to a server's own threads and its client.
  bool waits_much() const;
};

/// A thread's of this process (Linux: /proc/self/task/<thread>/schedstat, Documentation/scheduler/
/// sched-stats.rst); zeros where the system does not say. Takes some microseconds.
CoreTime ReadCoreTime(pid_t thread);

/// When a worker should stand aside: where it waits for its core, and the others have theirs
/// without it. For longer each time that coming back did not help, and less often where standing
/// aside did not.
class CoreShare {
 public:
  using Milliseconds = std::chrono::milliseconds;
  static constexpr Milliseconds kTrial{30};

  /// now: since any begin; time: the worker's so far. How long to stand aside, 0 in most cases; at
  /// least kTrial, the first part, in which the worker does nothing.
  Milliseconds Look(Milliseconds now, CoreTime time);
  /// After the trial; others: the times of those who went on meanwhile. False: no use, come back
  /// (nor is it known to be where they hardly wanted to run).
  bool IsOfUse(Milliseconds now, CoreTime others);
  /// The worker takes part again; time: its own so far, if known. What it waited before says
  /// nothing of now.
  void ComeBack(CoreTime time) {
    if (time.wanted_ns() > 0) begin_ = time;
  }

 private:
  static constexpr Milliseconds kShortest{50}, kLongest{1600};

  CoreTime begin_;                                        // of what is looked at
  int calm_ = 0;                                          // looks in a row that found nothing
  Milliseconds aside_ = kShortest, useless_ = kShortest;  // how long the next time
  Milliseconds not_before_{0};
};

/// How a worker that stands aside helps nevertheless: in turns that end before the system takes its
/// core away, which would stop it for milliseconds in the midst of a unit that all wait for.
/// (Looked at between pieces of work: a prompt's may take longer than a turn.) Who has slept for a
/// while gets a core at once, as long as it has used less than its part of it: with pauses of 0.2
/// ms instead of 0.5, or turns of half the length, 16 streams were slower than with a worker that
/// does nothing (benchmarks/results/2026-11-30-amx-one-row.md).
class ShortTurns {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::microseconds kTurn{300}, kPause{500};

  /// None but short turns until `end`.
  void Begin(Clock::time_point now, Clock::time_point end) {
    end_ = end;
    NextTurn(now);
  }
  /// The worker has slept: a turn begins.
  void NextTurn(Clock::time_point now) { turn_end_ = now + kTurn; }
  void End() { end_ = {}; }

  bool begun() const { return end_ != Clock::time_point{}; }
  bool turn_is_over(Clock::time_point now) const { return begun() && now >= turn_end_; }
  bool all_are_over(Clock::time_point now) const { return begun() && now >= end_; }

 private:
  Clock::time_point end_{}, turn_end_{};
};

}  // namespace modu::kernels::cpu
