// Whose processor time and memory count as the server's.
#include "benchmarks/serving/cpu_usage.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <vector>

#include "tests/catch.h"

namespace modu::benchmark {
namespace {

constexpr size_t kBytes = size_t{64} << 20;
constexpr double kSeconds = 0.1;

double OwnSeconds() {
  timespec t;
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// A child that stays until it is killed.
class Child {
 public:
  template <typename Body>
  explicit Child(const Body& body) : pid_(::fork()) {
    if (pid_ == 0) {
      body();
      for (;;) ::pause();
    }
  }
  ~Child() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  pid_t pid() const { return pid_; }

 private:
  pid_t pid_;
};

TEST_CASE("a server's children count as the server") {
  int ready[2];
  REQUIRE(::pipe(ready) == 0);
  const Child server([&] {
    const pid_t above = ::getpid();
    if (::fork() != 0) return;
    std::vector<char> memory(kBytes, 1);
    while (OwnSeconds() < kSeconds) memory[0] = static_cast<char>(memory[0] + 1);
    const pid_t self = ::getpid();
    if (::write(ready[1], &self, sizeof(self)) != sizeof(self)) ::_exit(1);
    while (::getppid() == above) ::usleep(1000);  // ends with the server
    ::_exit(0);
  });
  pid_t below = 0;
  REQUIRE(::read(ready[0], &below, sizeof(below)) == sizeof(below));
  const CpuSeconds all = ReadCpuSeconds(server.pid()), its = ReadCpuSeconds(below);
  CHECK(its.server > kSeconds / 2);  // /proc counts in ticks of a hundredth
  CHECK(its.server_rss_mib > kBytes >> 20);
  CHECK(all.server >= its.server);
  CHECK(all.server_rss_mib > its.server_rss_mib);
  CHECK(ReadCpuSeconds(0).server == 0);
  ::close(ready[0]);
  ::close(ready[1]);
}

TEST_CASE("the listener is the process that opened the socket, not a child that inherited it") {
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  auto* any = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof(address);
  REQUIRE(::bind(listener, any, size) == 0);
  REQUIRE(::listen(listener, 1) == 0);
  REQUIRE(::getsockname(listener, any, &size) == 0);
  const Child child([] {});
  CHECK(FindListener(::ntohs(address.sin_port)) == ::getpid());
  ::close(listener);
}

}  // namespace
}  // namespace modu::benchmark
