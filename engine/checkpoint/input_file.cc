#include "engine/checkpoint/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"

namespace modu::engine {
namespace {

std::string BaseName(const std::string& path) {
  std::filesystem::path p(path);
  if (p.filename().empty()) p = p.parent_path();
  return p.filename().string();
}

absl::Status OpenError(const std::string& name, int error) {
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(absl::StrCat(name, ": no such file"));
    case EACCES:
    case EPERM:
      return absl::PermissionDeniedError(absl::StrCat(name, ": may not be read"));
    case ENXIO:
      return absl::InvalidArgumentError(absl::StrCat(name, ": not a regular file"));
    case ELOOP:
      return absl::InvalidArgumentError(absl::StrCat(name, ": too many links"));
    default:
      return absl::UnavailableError(absl::StrCat(name, ": cannot be opened (errno ", error, ")"));
  }
}

}  // namespace

absl::StatusOr<InputFile> InputFile::Open(const std::string& path) {
  if (path.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError("model path: holds a NUL byte");
  }
  // O_NONBLOCK: a FIFO without a writer must not hang the start.
  const int fd = ::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
  if (fd < 0) return OpenError(BaseName(path), errno);
  return Adopt(fd, BaseName(path));
}

absl::StatusOr<InputFile> InputFile::Adopt(int fd, std::string name) {
  InputFile file(fd, std::move(name), 0);
  struct stat info = {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode) || info.st_size < 0) {
    return absl::InvalidArgumentError(absl::StrCat(file.name(), ": not a regular file"));
  }
  file.size_ = static_cast<uint64_t>(info.st_size);
  return file;
}

InputFile::InputFile(InputFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), name_(std::move(other.name_)), size_(other.size_) {}

InputFile& InputFile::operator=(InputFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(name_, other.name_);
  std::swap(size_, other.size_);
  return *this;
}

InputFile::~InputFile() {
  if (fd_ >= 0) ::close(fd_);
}

absl::Status InputFile::ReadAt(uint64_t offset, void* out, size_t bytes) const {
  if (offset > size_ || bytes > size_ - offset) {
    return absl::DataLossError(absl::StrCat(name_, ": ends at ", size_, ", but ", bytes,
                                            " bytes are wanted at offset ", offset));
  }
  auto* to = static_cast<char*>(out);
  while (bytes > 0) {
    const ssize_t got = ::pread(fd_, to, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return absl::DataLossError(absl::StrCat(name_, ": cannot be read at offset ", offset,
                                              got == 0 ? " (the file became shorter)" : ""));
    }
    to += got;
    offset += static_cast<uint64_t>(got);
    bytes -= static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadTextFile(const std::string& path, uint64_t limit) {
  auto file = InputFile::Open(path);
  if (!file.ok()) return file.status();
  if (file->size() > limit) {
    return absl::InvalidArgumentError(
        absl::StrCat(file->name(), ": has ", file->size(), " bytes, the limit is ", limit));
  }
  std::string text(static_cast<size_t>(file->size()), '\0');
  if (absl::Status status = file->ReadAt(0, text.data(), text.size()); !status.ok()) return status;
  return text;
}

}  // namespace modu::engine
