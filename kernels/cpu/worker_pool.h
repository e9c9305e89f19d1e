// The CPU backend's threads. The caller of Run is worker 0; the others spin for a moment between
// jobs and then sleep, so that an idle server uses no CPU. A job is n units in one home range a
// worker; whoever runs out takes from the others' ranges, so a stolen core costs a claim of a few
// units, not a step. Run returns when every unit is done; a worker that wakes late finds nothing to
// claim and is never waited for; one that has to share its core with another thread works in short
// turns for a while (core_share.h), and the others do its units. Each unit is run whole by one
// worker: what it computes must not depend on which. One thread calls Run at a time, never from
// inside a job. Denormals are zero inside jobs.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <type_traits>
#include <vector>

#include "kernels/cpu/core_share.h"

namespace modu::kernels::cpu {

class WorkerPool {
 public:
  /// core_time: what is known of a thread and its core; tests have their own.
  explicit WorkerPool(int num_threads, CoreTime (*core_time)(pid_t thread) = ReadCoreTime);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  int size() const { return num_threads_; }

  /// Calls body(first, last, worker) over disjoint pieces of [0, units) of at most `grain` units,
  /// until all are done. worker is in [0, size()) and runs one piece at a time.
  template <typename Body>
  void Run(int units, int grain, Body&& body) {
    using Plain = std::remove_reference_t<Body>;
    Launch(
        units, grain,
        [](void* context, int first, int last, int worker) {
          (*static_cast<Plain*>(context))(first, last, worker);
        },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

  /// What workers with nothing to do fetch to their caches from the next job on, each its share:
  /// equal ones, in order, of each `sharers` consecutive workers. Only fetched: it may be gone.
  /// Between jobs only.
  void FetchWhenIdle(const std::byte* data, size_t bytes, int sharers) {
    next_ahead_ = {data, bytes};
    next_sharers_ = sharers;
  }

  /// Whether a worker leaves the last few units of another's range to their owner for a moment, as
  /// it would have to bring what they are about from far away. Between jobs only.
  void SetPatient(bool patient) { patient_.store(patient, std::memory_order_relaxed); }

  /// One past the last of `units` in a worker's home range.
  int HomeEnd(int units, int worker) const;

  /// At least `bytes` of 64-byte aligned scratch for each worker, not kept between jobs. Between
  /// jobs only; allocates when it grows.
  void ReserveScratch(size_t bytes);
  std::byte* scratch(int worker) const { return scratch_[static_cast<size_t>(worker)].get(); }
  size_t scratch_bytes() const { return scratch_bytes_; }

 private:
  using Function = void (*)(void* context, int first, int last, int worker);
  struct FreeAligned {
    void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{64}); }
  };
  // Job number in the upper half, units of the home range that nobody has claimed in the lower: a
  // late worker cannot claim from a job that it has not read.
  struct alignas(64) Claims {
    std::atomic<uint64_t> left{0};
  };

  /// How far a worker has come with its share of what is ahead.
  struct Fetched {
    const std::byte* of = nullptr;
    const std::byte* next = nullptr;
    const std::byte* end = nullptr;
  };
  /// Tells the workers what FetchWhenIdle was given.
  void TellAhead();
  /// Fetches a little; false where nothing is left.
  bool Fetch(int worker, Fetched* fetched) const;

  void Launch(int units, int grain, Function function, void* context);
  void WorkerMain(int number);
  /// A worker but the caller, and what it knows of its core.
  struct Worker {
    int number;
    Fetched fetched;
    CoreShare share;
    ShortTurns turns;
  };
  /// Does nothing for a moment where the worker's core is another's, then begins short turns if the
  /// others got on better without it.
  void StandAside(Worker* worker);
  /// After a job, or a part of one: sleeps where a turn is over.
  void Rest(Worker* worker);
  /// The worker has slept: the next turn begins, or takes part again where all are over.
  void Return(Worker* worker);
  /// False: the turn is over, though the job may not be.
  bool Work(uint32_t epoch, int worker, const ShortTurns& turns);
  /// Waits until the others of job `epoch` are done, or for too long; `finished` of its `units` are
  /// the caller's.
  void WaitForOwners(uint32_t epoch, int units, int finished) const;

  // What all read and hardly anyone writes.
  const int num_threads_;
  CoreTime (*const core_time_)(pid_t thread);
  std::unique_ptr<Claims[]> claims_;
  std::vector<std::unique_ptr<std::byte[], FreeAligned>> scratch_;
  size_t scratch_bytes_ = 0;
  std::atomic<bool> patient_{false};
  alignas(64) std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  std::mutex aside_mutex_;
  std::condition_variable stops_;
  std::atomic<bool> trying_{false};                   // a worker is in its trial
  std::unique_ptr<std::atomic<pid_t>[]> thread_ids_;  // of the workers; 0: aside, or not begun
  alignas(64) std::atomic<int> done_{0};
  std::atomic<bool> caller_waits_{false};
  // The job, in the line by which workers hear of it. Atomics, but for its number, only because a
  // late worker may read them while the next job is written.
  alignas(64) std::atomic<uint32_t> epoch_{0};
  std::atomic<int> units_{0};
  std::atomic<int> grain_{1};
  std::atomic<Function> function_{nullptr};
  std::atomic<void*> context_{nullptr};
  // What is ahead. A worker that sees one of them without the other fetches what nobody needs.
  std::atomic<const std::byte*> ahead_{nullptr};
  std::atomic<size_t> ahead_bytes_{0};
  std::atomic<int> sharers_{1};
  // Worker 0's alone.
  alignas(64) Fetched fetched_;
  std::span<const std::byte> next_ahead_;  // told with the next job
  int next_sharers_ = 1;
  std::vector<std::thread> threads_;
};

}  // namespace modu::kernels::cpu
