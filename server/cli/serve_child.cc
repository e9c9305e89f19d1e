#include "server/cli/serve_child.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "clients/cpp/modu/get_status.h"

namespace modu::cli {
namespace {

constexpr auto kPoll = std::chrono::milliseconds(100);
constexpr auto kAnswerTime = std::chrono::seconds(1);
constexpr int kStopPolls = 100;
constexpr int kLogTailBytes = 2000;

std::string Tail(int fd) {
  const off_t size = lseek(fd, 0, SEEK_END);
  std::string text(
      static_cast<size_t>(size < kLogTailBytes ? (size < 0 ? 0 : size) : kLogTailBytes), '\0');
  const ssize_t read = pread(fd, text.data(), text.size(), size - static_cast<off_t>(text.size()));
  text.resize(read > 0 ? static_cast<size_t>(read) : 0);
  return text;
}

}  // namespace

absl::Status ServeChild::Start(const std::string& program,
                               const std::vector<std::string>& arguments,
                               const client::Endpoint& endpoint,
                               const std::atomic<bool>& interrupted) {
  std::vector<std::string> words = {program, "serve"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  char log_name[] = "/tmp/modu-serve-XXXXXX";
  const int log = mkostemp(log_name, O_CLOEXEC);
  if (log < 0) return absl::UnavailableError("no log file could be made for the server");
  unlink(log_name);
  const pid_t parent = getpid();
  pid_ = fork();
  if (pid_ == 0) {  // only async-signal-safe calls until exec
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent) _exit(1);
    const int null = open("/dev/null", O_RDONLY);
    dup2(null, 0);
    dup2(log, 1);
    dup2(log, 2);
    signal(SIGINT, SIG_DFL);
    execv(argv[0], argv.data());
    _exit(127);
  }
  if (pid_ < 0) {
    close(log);
    return absl::UnavailableError("the server could not be started");
  }
  absl::Status result;
  while (true) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      result = absl::UnavailableError(
          absl::StrCat("the server ended before it was ready:\n", Tail(log)));
      break;
    }
    if (interrupted) {
      result = absl::CancelledError("interrupted");
      break;
    }
    if (client::GetStatus(endpoint, "/readyz", kAnswerTime).status == 200) break;
    std::this_thread::sleep_for(kPoll);
  }
  close(log);
  return result;
}

ServeChild::~ServeChild() {
  if (pid_ <= 0) return;
  kill(pid_, SIGTERM);
  for (int i = 0; i < kStopPolls; ++i) {
    const pid_t ended = waitpid(pid_, nullptr, WNOHANG);
    if (ended == pid_ || (ended < 0 && errno != EINTR)) return;
    std::this_thread::sleep_for(kPoll);
  }
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
}

}  // namespace modu::cli
