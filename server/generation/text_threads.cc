#include "server/generation/text_threads.h"

#include <pthread.h>

#include <utility>

#include "server/telemetry/log.h"

namespace modu::generation {

TextThreads::TextThreads(int num_threads, const char* name) {
  for (int i = 0; i < num_threads; ++i) {
    threads_.emplace_back([this] { Loop(); });
    pthread_setname_np(threads_.back().native_handle(), name);
  }
}

TextThreads::~TextThreads() { Stop(); }

void TextThreads::Post(std::function<void()> job) {
  {
    std::lock_guard lock(mu_);
    if (stopping_) return;
    jobs_.push_back(std::move(job));
  }
  wake_.notify_one();
}

void TextThreads::Stop() {
  {
    std::lock_guard lock(mu_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void TextThreads::Loop() {
  std::unique_lock lock(mu_);
  while (true) {
    wake_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
    if (jobs_.empty()) return;
    std::function<void()> job = std::move(jobs_.front());
    jobs_.pop_front();
    lock.unlock();
    try {
      job();
    } catch (...) {  // calls catch their own; nothing may end the process
      telemetry::Log(telemetry::LogLevel::kError, "text_job_failed");
    }
    job = nullptr;
    lock.lock();
  }
}

}  // namespace modu::generation
