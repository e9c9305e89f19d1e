// Held while a model is fetched, so that processes (and threads) fetch it one after the other. The
// file goes away with its holder, whether or not anything came. Blocking; any thread.
#pragma once
#include <functional>
#include <string>

namespace modu::store {

class FetchLock {
 public:
  /// Waits for whoever holds it; `on_wait` is called once if there is somebody.
  FetchLock(std::string path, const std::function<void()>& on_wait);
  ~FetchLock();
  FetchLock(const FetchLock&) = delete;
  FetchLock& operator=(const FetchLock&) = delete;

  /// False: the file cannot be made.
  bool held() const { return fd_ >= 0; }

 private:
  const std::string path_;
  int fd_ = -1;
};

}  // namespace modu::store
