// A tree of files as the kernel's cgroup interfaces write them, in a folder of its own that goes
// with the object.
#pragma once
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace modu::tests {

class FakeRoot {
 public:
  FakeRoot()
      : root_(std::filesystem::temp_directory_path() /
              ("modu-cgroup-" + std::to_string(getpid()))) {
    std::filesystem::remove_all(root_);
  }
  ~FakeRoot() { std::filesystem::remove_all(root_); }
  FakeRoot(const FakeRoot&) = delete;
  FakeRoot& operator=(const FakeRoot&) = delete;

  void Write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  std::string path() const { return root_.string(); }

 private:
  std::filesystem::path root_;
};

}  // namespace modu::tests
