#include "server/telemetry/log.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <sstream>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tests/catch.h"

namespace modu::telemetry {
namespace {

std::vector<std::string> Lines(const char* format, const char* level, void (*log)()) {
  std::array<int, 2> ends{};
  REQUIRE(pipe(ends.data()) == 0);
  LogOptions options;
  options.format = format;
  options.level = level;
  options.fd = ends[1];
  REQUIRE(StartLogging(options).ok());
  log();
  StopLogging();
  close(ends[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t got; (got = read(ends[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<size_t>(got));
  close(ends[0]);
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

void LogThree() {
  Log(LogLevel::kDebug, "quiet");
  Log(LogLevel::kInfo, "listening", {{"port", int64_t{8000}}, {"tls", false}, {"seconds", 0.5}});
  Log(LogLevel::kWarning, "odd name",
      {{"user", std::string_view("a\nforged \x1b[31m\"x\" \xff\xc2\x9b한")}});
}

TEST_CASE("text lines") {
  const auto lines = Lines("text", "info", LogThree);
  REQUIRE(lines.size() == 2);
  CHECK(lines[0].substr(24) == " info listening port=8000 tls=false seconds=0.5");
  CHECK(lines[1].substr(24) ==
        " warning odd name user=\"a\\u000aforged \\u001b[31m\\\"x\\\" \\u00ff\\u009b한\"");
}

TEST_CASE("JSON lines") {
  const auto lines = Lines("json", "debug", LogThree);
  REQUIRE(lines.size() == 3);
  const auto info = nlohmann::json::parse(lines[1]);
  CHECK(info["event"] == "listening");
  CHECK(info["port"] == 8000);
  CHECK(info["tls"] == false);
  CHECK(nlohmann::json::parse(lines[2])["user"].get<std::string>().substr(0, 9) == "a\nforged ");
}

TEST_CASE("unknown settings are errors") {
  LogOptions options;
  options.format = "xml";
  CHECK_FALSE(StartLogging(options).ok());
  options = LogOptions();
  options.level = "loud";
  CHECK_FALSE(StartLogging(options).ok());
}

TEST_CASE("a closed pipe or a full disk costs lines, which are counted") {
  signal(SIGPIPE, SIG_IGN);
  std::array<int, 2> ends{};
  REQUIRE(pipe(ends.data()) == 0);
  close(ends[0]);
  const uint64_t before = LogLinesDropped();
  LogOptions options;
  options.fd = ends[1];
  REQUIRE(StartLogging(options).ok());
  for (int i = 0; i < 5; ++i) Log(LogLevel::kInfo, "lost");
  StopLogging();
  close(ends[1]);
  CHECK(LogLinesDropped() - before == 5);
  const int full = open("/dev/full", O_WRONLY);
  if (full >= 0) {
    options.fd = full;
    REQUIRE(StartLogging(options).ok());
    Log(LogLevel::kInfo, "lost");
    StopLogging();
    close(full);
    CHECK(LogLinesDropped() - before == 6);
  }
}

TEST_CASE("long values are cut") { CHECK(EscapeForLog(std::string(1000, 'x')).size() == 259); }

}  // namespace
}  // namespace modu::telemetry
