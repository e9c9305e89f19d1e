#include "server/telemetry/log.h"

#include <spdlog/async.h>
#include <spdlog/async_logger.h>
#include <spdlog/details/thread_pool.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <memory>
#include <mutex>

namespace modu::telemetry {
namespace {

std::atomic<uint64_t> write_failures{0};

// Lines as they come, straight to the descriptor: a failed write is counted and forgotten.
class FdSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit FdSink(int fd) : fd_(fd) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    std::string line(message.payload.data(), message.payload.size());
    line += '\n';
    for (size_t done = 0; done < line.size();) {
      const ssize_t written = write(fd_, line.data() + done, line.size() - done);
      if (written > 0) {
        done += static_cast<size_t>(written);
      } else if (written == 0 || errno != EINTR) {
        write_failures.fetch_add(1, std::memory_order_relaxed);
        return;
      }
    }
  }
  void flush_() override {}

 private:
  const int fd_;
};

struct State {
  std::shared_ptr<spdlog::details::thread_pool> pool;
  std::shared_ptr<spdlog::async_logger> logger;
  bool json = false;
  LogLevel level = LogLevel::kInfo;
};
std::mutex state_mu;
std::shared_ptr<const State> state;  // under state_mu

std::shared_ptr<const State> Current() {
  std::lock_guard lock(state_mu);
  return state;
}

constexpr const char* kLevels[] = {"debug", "info", "warning", "error"};

std::string Timestamp() {
  const auto now = std::chrono::system_clock::now();
  const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() % 1000;
  std::tm utc{};
  gmtime_r(&seconds, &utc);
  char text[64];
  const size_t length = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(text + length, sizeof text - length, ".%03dZ", static_cast<int>(ms));
  return text;
}

std::string Number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

void AppendValue(const LogValue& value, bool json, std::string* out) {
  if (const auto* text = std::get_if<std::string_view>(&value)) {
    const std::string escaped = EscapeForLog(*text);
    const bool quote =
        json || escaped.empty() || escaped.find_first_of(" =\\") != std::string::npos;
    if (quote) *out += '"';
    *out += escaped;
    if (quote) *out += '"';
  } else if (const auto* number = std::get_if<int64_t>(&value)) {
    *out += std::to_string(*number);
  } else if (const auto* real = std::get_if<double>(&value)) {
    *out += *real == *real && *real - *real == 0 ? Number(*real) : "null";  // JSON has no NaN
  } else {
    *out += std::get<bool>(value) ? "true" : "false";
  }
}

// Length of the valid UTF-8 sequence at the front of `text`, or 0.
size_t ValidSequence(std::string_view text) {
  const auto at = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = at(0);
  const size_t length = lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if ((lead >= 0x80 && lead < 0xC2) || lead > 0xF4 || length > text.size()) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((at(i) & 0xC0) != 0x80) return 0;
  }
  if ((lead == 0xE0 && at(1) < 0xA0) || (lead == 0xED && at(1) > 0x9F) ||
      (lead == 0xF0 && at(1) < 0x90) || (lead == 0xF4 && at(1) > 0x8F)) {
    return 0;
  }
  return length;
}

}  // namespace

absl::Status StartLogging(const LogOptions& options) {
  constexpr size_t kQueuedLines = 8192;
  auto fresh = std::make_shared<State>();
  if (options.format != "text" && options.format != "json") {
    return absl::InvalidArgumentError("log format must be text or json");
  }
  fresh->json = options.format == "json";
  bool known = false;
  for (int i = 0; i < 4; ++i) {
    if (options.level != kLevels[i]) continue;
    fresh->level = static_cast<LogLevel>(i);
    known = true;
  }
  if (!known) return absl::InvalidArgumentError("log level must be debug, info, warning or error");
  try {
    fresh->pool = std::make_shared<spdlog::details::thread_pool>(kQueuedLines, 1);
    fresh->logger = std::make_shared<spdlog::async_logger>(
        "modu", std::make_shared<FdSink>(options.fd), fresh->pool,
        spdlog::async_overflow_policy::overrun_oldest);
    fresh->logger->set_level(spdlog::level::trace);
  } catch (const std::exception&) {
    return absl::InternalError("the log thread could not be started");
  }
  std::lock_guard lock(state_mu);
  state = std::move(fresh);
  return absl::OkStatus();
}

void StopLogging() {
  std::shared_ptr<const State> last;
  std::lock_guard lock(state_mu);
  last.swap(state);
  // The pool's destructor writes what is queued and joins.
}

void Log(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  const std::shared_ptr<const State> current = Current();
  if (current == nullptr || level < current->level) return;
  const char* name = kLevels[static_cast<int>(level)];
  std::string line;
  if (current->json) {
    line = "{\"time\":\"" + Timestamp() + "\",\"level\":\"" + name + "\",\"event\":\"" +
           EscapeForLog(event) + "\"";
    for (const LogField& field : fields) {
      line += ",\"";
      line += EscapeForLog(field.name);
      line += "\":";
      AppendValue(field.value, true, &line);
    }
    line += '}';
  } else {
    line = Timestamp() + " " + name + " " + EscapeForLog(event);
    for (const LogField& field : fields) {
      line += ' ';
      line += EscapeForLog(field.name);
      line += '=';
      AppendValue(field.value, false, &line);
    }
  }
  current->logger->log(spdlog::level::info, spdlog::string_view_t(line.data(), line.size()));
}

uint64_t LogLinesDropped() {
  const std::shared_ptr<const State> current = Current();
  return write_failures.load() + (current != nullptr ? current->pool->overrun_counter() : 0);
}

std::string EscapeForLog(std::string_view text, size_t max_bytes) {
  const bool cut = text.size() > max_bytes;
  text = text.substr(0, max_bytes);
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const auto c = static_cast<unsigned char>(text[0]);
    const size_t length = ValidSequence(text);
    // C1 controls (U+0080 to U+009F) move terminals as escape does.
    const bool c1 = length == 2 && c == 0xC2 && static_cast<unsigned char>(text[1]) < 0xA0;
    if (length == 0 || c < 0x20 || c == 0x7f || c1) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x",
                    c1 ? static_cast<unsigned char>(text[1]) : c);
      out += escaped;
      text.remove_prefix(c1 ? 2 : 1);
    } else {
      if (c == '"' || c == '\\') out += '\\';
      out.append(text.substr(0, length));
      text.remove_prefix(length);
    }
  }
  if (cut) out += "...";
  return out;
}

}  // namespace modu::telemetry
