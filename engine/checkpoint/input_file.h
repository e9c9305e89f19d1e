// A regular file opened for reading, read by offset with every range checked against the size it
// had when opened. A FIFO, device, socket or folder is an error and never blocks; a link to a
// regular file is a regular file (hub caches are made of them). Read, not mapped: a file truncated
// under us is an error, not a SIGBUS. Any thread.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace modu::engine {

class InputFile {
 public:
  static absl::StatusOr<InputFile> Open(const std::string& path);
  /// Takes over a descriptor (tests and fuzzers use memory files).
  static absl::StatusOr<InputFile> Adopt(int fd, std::string name);

  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&& other) noexcept;
  ~InputFile();

  const std::string& name() const { return name_; }  // without its folder
  uint64_t size() const { return size_; }            // bytes
  /// kDataLoss where the file no longer has the range or changed its size since it was opened.
  absl::Status ReadAt(uint64_t offset, void* out, size_t bytes) const;

 private:
  InputFile(int fd, std::string name, uint64_t size)
      : fd_(fd), name_(std::move(name)), size_(size) {}
  int fd_ = -1;
  std::string name_;
  uint64_t size_ = 0;
};

/// The whole of a small text file; larger than `limit` bytes is an error that names both.
absl::StatusOr<std::string> ReadTextFile(const std::string& path, uint64_t limit);

}  // namespace modu::engine
