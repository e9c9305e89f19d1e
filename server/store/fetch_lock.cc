#include "server/store/fetch_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace modu::store {
namespace {

bool Take(int fd, int how) {
  while (flock(fd, how) != 0) {
    if (errno != EINTR) return false;
  }
  return true;
}

/// A waiter may get hold of a file that the holder before it has removed: that locks nobody out.
bool IsStillAt(int fd, const std::string& path) {
  struct stat ours{}, there{};
  return fstat(fd, &ours) == 0 && stat(path.c_str(), &there) == 0 && ours.st_dev == there.st_dev &&
         ours.st_ino == there.st_ino;
}

}  // namespace

FetchLock::FetchLock(std::string path, const std::function<void()>& on_wait)
    : path_(std::move(path)) {
  bool waited = false;
  while (true) {
    const int fd = open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) return;
    if (!Take(fd, LOCK_EX | LOCK_NB)) {
      if (!std::exchange(waited, true)) on_wait();
      Take(fd, LOCK_EX);
    }
    if (IsStillAt(fd, path_)) {
      fd_ = fd;
      return;
    }
    close(fd);
  }
}

FetchLock::~FetchLock() {
  if (fd_ < 0) return;
  unlink(path_.c_str());  // while it is held: what lies at the path is ours
  close(fd_);
}

}  // namespace modu::store
