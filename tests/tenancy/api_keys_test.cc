#include "server/tenancy/api_keys.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/catch.h"

namespace modu::tenancy {
namespace {

// sha256 of "sk-test-1", from coreutils' sha256sum.
constexpr char kDigest[] = "db567a0dd8d24a1a894b3f1ceac157727179c1d15c226c5554dd1972d0fed479";

class KeyFile {
 public:
  explicit KeyFile(const std::string& text, mode_t mode = 0600) {
    char name[] = "/tmp/modu-keys-XXXXXX";
    const int fd = mkstemp(name);
    REQUIRE(fd >= 0);
    REQUIRE(write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    REQUIRE(fchmod(fd, mode) == 0);
    close(fd);
    path_ = name;
  }
  ~KeyFile() { unlink(path_.c_str()); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST_CASE("no keys: everything is open") {
  ApiKeys keys;
  CHECK_FALSE(keys.required());
  CHECK(keys.Allows(""));
}

TEST_CASE("a key in the file opens, anything else does not") {
  KeyFile file("# comment\n\n  sk-test-1  \r\nsk-other\n");
  auto keys = ApiKeys::FromFile(file.path());
  REQUIRE(keys.ok());
  CHECK(keys->required());
  CHECK(keys->size() == 2);
  CHECK(keys->Allows("Bearer sk-test-1"));
  CHECK(keys->Allows("bearer sk-test-1"));
  CHECK(keys->Allows("Bearer   sk-other "));
  for (const char* wrong :
       {"", "Bearer", "Bearer ", "sk-test-1", "Basic sk-test-1", "Bearer sk-test-2",
        "Bearer sk-test-", "Bearer sk-test-11", "Bearer SK-TEST-1", "Bearer # comment"}) {
    INFO(wrong);
    CHECK_FALSE(keys->Allows(wrong));
  }
}

TEST_CASE("a hashed key is compared by its hash, and the hash itself opens nothing") {
  KeyFile file(absl::StrCat("sha256:", kDigest, "\n"));
  auto keys = ApiKeys::FromFile(file.path());
  REQUIRE(keys.ok());
  CHECK(keys->Allows("Bearer sk-test-1"));
  CHECK_FALSE(keys->Allows(absl::StrCat("Bearer ", kDigest)));
  CHECK_FALSE(keys->Allows(absl::StrCat("Bearer sha256:", kDigest)));
  KeyFile capitals(absl::StrCat("SHA256:", kDigest, "\n"));
  auto same = ApiKeys::FromFile(capitals.path());
  REQUIRE(same.ok());
  CHECK(same->Allows("Bearer sk-test-1"));
}

TEST_CASE("errors name the line and never its text") {
  for (const char* text : {"good\nsha256:abc\n", "good\ntwo words\n", "good\n\x01secret\n",
                           "good\nschl\xc3\xbcssel\n"}) {
    KeyFile file(text);
    auto keys = ApiKeys::FromFile(file.path());
    REQUIRE_FALSE(keys.ok());
    const std::string message(keys.status().message());
    CHECK(message.find("line 2") != std::string::npos);
    for (const char* secret : {"abc", "two", "secret", "schl"})
      CHECK(message.find(secret) == std::string::npos);
    CHECK(message.find("api-key-file: " + file.path() + ": ") == 0);
  }
}

TEST_CASE("a file without keys is an error, not an open server") {
  KeyFile file("# nothing\n\n");
  for (const std::string& path :
       {file.path(), std::string("/nonexistent/keys"), std::string("/tmp")}) {
    const std::string message(ApiKeys::FromFile(path).status().message());
    CHECK(message.find("api-key-file: " + path + ": ") == 0);
  }
}

TEST_CASE("world-readable files are noticed") {
  KeyFile open("k\n", 0644), closed("k\n", 0640);
  CHECK(ApiKeys::FromFile(open.path())->world_readable());
  CHECK_FALSE(ApiKeys::FromFile(closed.path())->world_readable());
}

}  // namespace
}  // namespace modu::tenancy
