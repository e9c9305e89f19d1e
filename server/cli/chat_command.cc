#include "server/cli/chat_command.h"

#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "clients/cpp/modu/get_status.h"
#include "server/cli/chat_session.h"
#include "server/cli/serve_child.h"
#include "server/store/url.h"

namespace modu::cli {
namespace {

constexpr char kUsage[] =
    "usage: modu chat [MODEL] [--url http[s]://HOST:PORT] [--ca-cert FILE] [--model NAME] "
    "[--system TEXT] "
    "[--temperature T]\n"
    "                 [--top-p P] [--max-tokens N] [--seed N] [--api-key KEY]\n"
    "MODEL is what to serve where no server answers on the default port; --model names one of a "
    "running server's.\n"
    "--ca-cert names the authority behind an https server's certificate, where the machine does "
    "not "
    "know it.\n"
    "The key may stand in MODU_API_KEY. In the chat: /reset forgets, /quit (or Ctrl-D) leaves, "
    "Ctrl-C stops an answer,\n"
    "a backslash at the end of a line goes on in the next.\n";

std::atomic<bool> interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free);

extern "C" void OnInterrupt(int) { interrupted = true; }

/// Ctrl-C sets a flag and ends a poll; the old handler returns at the end.
class InterruptHandler {
 public:
  InterruptHandler() {
    struct sigaction action{};
    action.sa_handler = OnInterrupt;
    // A write that a slow terminal holds up goes on: broken off it would silence std::cout.
    action.sa_flags = SA_RESTART;
    sigaction(SIGINT, &action, &before_);
  }
  ~InterruptHandler() { sigaction(SIGINT, &before_, nullptr); }

 private:
  struct sigaction before_{};
};

/// Lines from standard input, with room for a signal in between.
class LineReader {
 public:
  enum class Result { kLine, kEnd, kInterrupted };
  Result Read(std::string* line) {
    while (true) {
      const size_t end = buffer_.find('\n');
      if (end != buffer_.npos) {
        *line = buffer_.substr(0, end);
        buffer_.erase(0, end + 1);
        return Result::kLine;
      }
      // A signal may come just before the wait, so that is no longer than a person notices.
      if (interrupted.exchange(false)) {
        buffer_.clear();
        return Result::kInterrupted;
      }
      pollfd input{STDIN_FILENO, POLLIN, 0};
      if (poll(&input, 1, 250) <= 0) continue;
      char piece[4096];
      const ssize_t bytes = read(STDIN_FILENO, piece, sizeof(piece));
      if (bytes < 0 && errno == EINTR) continue;
      if (bytes <= 0) {
        *line = std::exchange(buffer_, "");
        return line->empty() ? Result::kEnd : Result::kLine;
      }
      buffer_.append(piece, static_cast<size_t>(bytes));
    }
  }

 private:
  std::string buffer_;
};

struct CommandLine {
  ChatSettings settings;
  std::string serve_model;
  bool has_url = false;
};

/// The server that a URL names; what the URL says behind it is not looked at.
bool ParseEndpoint(const std::string& text, client::Endpoint* endpoint) {
  const absl::StatusOr<store::Url> url = store::ParseUrl(text);
  if (!url.ok()) return false;
  endpoint->tls = url->tls;
  endpoint->host = url->host;
  endpoint->port = url->port;
  return true;
}

bool IsFlag(const std::string& name) {
  constexpr const char* kFlags[] = {"--url",    "--ca-cert",    "--model",
                                    "--system", "--api-key",    "--temperature",
                                    "--top-p",  "--max-tokens", "--seed"};
  return std::find(std::begin(kFlags), std::end(kFlags), name) != std::end(kFlags);
}

/// "": good; else what is wrong.
std::string ParseCommandLine(int argc, char** argv, CommandLine* line) {
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i];
    std::optional<std::string> value;
    if (name.rfind("--", 0) != 0) {
      if (name.empty() || name[0] == '-' || !line->serve_model.empty())
        return absl::StrCat("unexpected '", name, "'");
      line->serve_model = name;
      continue;
    }
    if (const size_t equals = name.find('='); equals != name.npos) {
      value = name.substr(equals + 1);
      name.resize(equals);
    }
    if (!IsFlag(name)) return absl::StrCat("unknown flag ", name);
    if (!value && i + 1 < argc) value = argv[++i];
    if (!value) return absl::StrCat(name, " needs a value");
    ChatSettings& settings = line->settings;
    double real = 0;
    int64_t whole = 0;
    const auto in = [&](double low, double high) {
      return absl::SimpleAtod(*value, &real) && real >= low && real <= high;
    };
    if (name == "--url") {
      if (!ParseEndpoint(*value, &settings.endpoint))
        return "--url must be http://HOST:PORT or https://HOST:PORT";
      line->has_url = true;
    } else if (name == "--ca-cert") {
      settings.endpoint.ca_file = *value;
    } else if (name == "--model") {
      settings.model = *value;
    } else if (name == "--system") {
      settings.system = *value;
    } else if (name == "--api-key") {
      settings.endpoint.api_key = *value;
    } else if (name == "--temperature") {
      if (!in(0, 2)) return "--temperature must be from 0 to 2";
      settings.temperature = real;
    } else if (name == "--top-p") {
      if (!in(0, 1)) return "--top-p must be from 0 to 1";
      settings.top_p = real;
    } else if (name == "--max-tokens") {
      if (!absl::SimpleAtoi(*value, &whole) || whole < 1)
        return "--max-tokens must be a positive integer";
      settings.max_tokens = whole;
    } else {  // --seed
      if (!absl::SimpleAtoi(*value, &whole)) return "--seed must be an integer";
      settings.seed = whole;
    }
  }
  return "";
}

absl::Status FindOrStartServer(const CommandLine& line, ServeChild* child) {
  const client::Endpoint& endpoint = line.settings.endpoint;
  const client::StatusAnswer answer =
      client::GetStatus(endpoint, "/livez", std::chrono::seconds(2));
  if (answer.status != 0) return absl::OkStatus();
  if (line.has_url) {
    return absl::UnavailableError(absl::StrCat("no server answers at ",
                                               client::HostAndPort(endpoint.host, endpoint.port),
                                               ": ", answer.why));
  }
  std::cerr << "No server on port " << endpoint.port
            << ": starting one. Loading may take a moment.\n";
  char program[4096];
  const ssize_t length = readlink("/proc/self/exe", program, sizeof(program) - 1);
  if (length <= 0) return absl::UnavailableError("the program's own file is not known");
  program[length] = '\0';
  std::vector<std::string> arguments;
  if (!line.serve_model.empty()) arguments.push_back(line.serve_model);
  // A server for one person: no other doors, whose ports may be taken.
  arguments.insert(arguments.end(),
                   {"--port", endpoint.port, "--grpc-port", "-1", "--admin-port", "-1"});
  return child->Start(program, arguments, endpoint, interrupted);
}

/// False: the last question got no answer.
bool Converse(ChatSession* session) {
  const bool terminal = isatty(STDIN_FILENO) == 1;
  LineReader lines;
  std::string text;
  bool answered = true;
  while (true) {
    if (terminal) std::cout << (text.empty() ? "> " : ". ") << std::flush;
    std::string line;
    const auto result = lines.Read(&line);
    if (result == LineReader::Result::kInterrupted) {
      text.clear();
      std::cout << "\n(/quit or Ctrl-D leaves)\n";
      continue;
    }
    if (result == LineReader::Result::kEnd) break;
    if (!line.empty() && line.back() == '\\') {
      text += line.substr(0, line.size() - 1) + "\n";
      continue;
    }
    text += line;
    const std::string message = std::exchange(text, "");
    if (message.find_first_not_of(" \t\r\n") == message.npos) continue;
    if (message == "/quit" || message == "/exit") return answered;
    if (message == "/reset") {
      session->Reset();
      std::cout << "(forgotten)\n";
      continue;
    }
    if (message[0] == '/') {
      std::cout << "(/reset forgets the conversation, /quit leaves)\n";
      continue;
    }
    const absl::Status asked = session->Ask(message, std::cout, interrupted);
    answered = asked.ok();
    std::cout << '\n';
    if (!asked.ok()) std::cout << "error: " << TerminalSafe(std::string(asked.message())) << '\n';
    if (asked.ok() && interrupted.exchange(false)) std::cout << "(stopped)\n";
    if (terminal && asked.ok() && !session->last_usage().empty())
      std::cout << '(' << session->last_usage() << ")\n";
    std::cout << std::flush;
  }
  if (terminal) std::cout << '\n';
  return answered;
}

}  // namespace

int RunChat(int argc, char** argv) {
  CommandLine line;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): there is one thread yet, and nothing sets variables
  if (const char* key = std::getenv("MODU_API_KEY")) line.settings.endpoint.api_key = key;
  if (argc == 2 && std::string(argv[1]) == "--help") {
    std::cout << kUsage;
    return 0;
  }
  if (const std::string wrong = ParseCommandLine(argc, argv, &line); !wrong.empty()) {
    std::cerr << "modu chat: " << wrong << '\n' << kUsage;
    return 2;
  }
  const InterruptHandler handler;
  ServeChild child;
  const absl::Status ready = FindOrStartServer(line, &child);
  if (!ready.ok()) {
    std::cerr << "modu chat: " << std::string(ready.message()) << '\n';
    return 1;
  }
  ChatSession session(line.settings);
  const bool answered = Converse(&session);
  // A person has read the error; a script sees the code.
  return answered || isatty(STDIN_FILENO) == 1 ? 0 : 1;
}

}  // namespace modu::cli
