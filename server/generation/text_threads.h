// Threads for text work. Prompt threads render and tokenize, which may take long; one event thread,
// woken once an engine step, turns tokens into text, so that a large prompt never holds up the
// streams of others. Both sleep when there is nothing to do. What is posted after Stop is dropped.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace modu::generation {

/// FIFO jobs on `num_threads` threads. Jobs must not throw; one that does is a bug of a library's
/// that ends only itself.
class TextThreads {
 public:
  TextThreads(int num_threads, const char* name);
  ~TextThreads();

  void Post(std::function<void()> job);
  /// Runs what is queued, then joins. Idempotent; not from a job.
  void Stop();

 private:
  void Loop();

  std::mutex mu_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace modu::generation
