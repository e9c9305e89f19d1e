// Logs as lines of text or JSON on stderr: what happened and a few named values, never prompts,
// answers or keys. Values that a client chose are escaped, so no line can be forged. Writing is
// done by a thread of its own behind a bounded queue: a full disk or a closed pipe costs log lines,
// which are counted, and nothing else. Thread-safe.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "absl/status/status.h"

namespace modu::telemetry {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

struct LogOptions {
  std::string format = "text";  // or "json"
  std::string level = "info";   // debug, info, warning, error
  int fd = 2;
};

/// Once at start, before threads log; kInvalidArgument: an unknown format or level. Until then
/// nothing is written.
absl::Status StartLogging(const LogOptions& options);
/// Writes what is queued, then stops.
void StopLogging();

using LogValue = std::variant<std::string_view, int64_t, double, bool>;
struct LogField {
  std::string_view name;
  LogValue value;
};

/// Log(LogLevel::kInfo, "listening", {{"port", int64_t{8000}}});
void Log(LogLevel level, std::string_view event, std::initializer_list<LogField> fields = {});

/// Lines that were lost: the queue was full or the write failed.
uint64_t LogLinesDropped();

/// Control characters, escape sequences, quotes and invalid UTF-8 made harmless; at most
/// `max_bytes` of input.
std::string EscapeForLog(std::string_view text, size_t max_bytes = 256);

}  // namespace modu::telemetry
