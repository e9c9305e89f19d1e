#include "server/tenancy/key_file.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>
#include <thread>

#include "tests/catch.h"

namespace modu::tenancy {
namespace {

class TemporaryFile {
 public:
  TemporaryFile() {
    char name[] = "/tmp/modu-keys-XXXXXX";
    const int fd = mkstemp(name);
    REQUIRE(fd >= 0);
    close(fd);
    path_ = name;
  }
  ~TemporaryFile() { unlink(path_.c_str()); }
  void Write(const std::string& text) const { std::ofstream(path_) << text; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST_CASE("without a file everything is open, and loading changes nothing") {
  KeyFile keys("");
  CHECK(keys.Load().ok());
  CHECK_FALSE(keys.configured());
  CHECK(keys.Allows(""));
}

TEST_CASE("loading again takes the new keys; a file that is no good leaves the old ones") {
  const TemporaryFile file;
  file.Write("one\n");
  KeyFile keys(file.path());
  CHECK_FALSE(keys.Allows("Bearer one"));  // nothing is open before the first load
  CHECK_FALSE(keys.Allows(""));
  REQUIRE(keys.Load().ok());
  CHECK(keys.Allows("Bearer one"));
  file.Write("two\nthree\n");
  CHECK(keys.Allows("Bearer one"));
  REQUIRE(keys.Load().ok());
  CHECK_FALSE(keys.Allows("Bearer one"));
  CHECK(keys.Allows("Bearer three"));
  CHECK(keys.size() == 2);
  for (const char* bad : {"# none\n", "a key with spaces\n", "sha256:12\n"}) {
    file.Write(bad);
    CHECK_FALSE(keys.Load().ok());
    CHECK(keys.Allows("Bearer two"));
    CHECK_FALSE(keys.Allows(""));
  }
}

TEST_CASE("reloading beside calls: each sees one set of keys, whole") {
  const TemporaryFile file;
  file.Write("always\nfirst\n");
  KeyFile keys(file.path());
  REQUIRE(keys.Load().ok());
  std::thread reloader([&] {
    for (int i = 0; i < 200; ++i) (void)keys.Load();
  });
  int refused = 0;
  for (int i = 0; i < 2'000; ++i) refused += !keys.Allows("Bearer always");
  reloader.join();
  CHECK(refused == 0);
}

}  // namespace
}  // namespace modu::tenancy
