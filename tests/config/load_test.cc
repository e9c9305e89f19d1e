#include "server/config/load.h"

#include <unistd.h>

#include <fstream>

#include "server/config/settings.h"
#include "tests/catch.h"

namespace modu::config {
namespace {

std::string WriteFile(const std::string& text) {
  char path[] = "/tmp/modu-config-XXXXXX";
  const int fd = ::mkstemp(path);
  REQUIRE(fd >= 0);
  ::close(fd);
  std::ofstream(path) << text;
  return path;
}

std::string ErrorOf(const std::vector<std::string>& arguments) {
  const auto config = LoadConfig(arguments);
  return config.ok() ? "" : std::string(config.status().message());
}

TEST_CASE("defaults, file and flags, each named as the source") {
  const std::string file = WriteFile("port: 9000\nthreads: 3\nserved-model-name: [a, b]\n");
  const auto config = LoadConfig({"m.gguf", "--config", file, "--threads=4", "--no-prefix-cache"});
  ::unlink(file.c_str());
  REQUIRE(config.ok());
  CHECK(config->model == "m.gguf");
  CHECK(config->port == 9000);
  CHECK(config->threads == 4);
  CHECK_FALSE(config->prefix_cache);
  CHECK(config->served_model_names == std::vector<std::string>{"a", "b"});
  for (const auto& setting : config->settings) {
    if (setting.name == "port") CHECK(setting.source == "file");
    if (setting.name == "threads") CHECK(setting.source == "flag");
    if (setting.name == "grpc-port") CHECK(setting.source == "default");
  }
}

TEST_CASE("a switch takes true or false apart, and no other word") {
  CHECK_FALSE(LoadConfig({"--prefix-cache", "false"})->prefix_cache);
  CHECK(LoadConfig({"--public-metrics", "true", "m.gguf"})->public_metrics);
  const auto config = LoadConfig({"--public-metrics", "m.gguf"});
  CHECK(config->public_metrics);
  CHECK(config->model == "m.gguf");
}

TEST_CASE("every number refuses what lies outside its bounds, by name") {
  for (const SettingRow& row : Settings()) {
    if (row.minimum == row.maximum) continue;
    INFO(row.name);
    const std::string flag = std::string("--") + row.name;
    CHECK(ErrorOf({flag, std::to_string(row.minimum - 1)}).find(row.name) != std::string::npos);
    CHECK(ErrorOf({flag, std::to_string(row.maximum + 1)}).find(std::to_string(row.maximum)) !=
          std::string::npos);
    CHECK(ErrorOf({flag, "1e3"}).find("whole number") != std::string::npos);
    CHECK(ErrorOf({flag, "99999999999999999999"}).find(row.name) != std::string::npos);
    // Neighbouring settings may forbid an extreme together, never by this row's bounds.
    CHECK(ErrorOf({flag, std::to_string(row.maximum)}).find("is not in") == std::string::npos);
  }
}

TEST_CASE("what is wrong is an error that names it") {
  CHECK(ErrorOf({"--prot", "80"}).find("--prot") != std::string::npos);
  CHECK(ErrorOf({"--port"}).find("wants a value") != std::string::npos);
  CHECK(ErrorOf({"a", "b"}).find("one model") != std::string::npos);
  CHECK(ErrorOf({"--numerics", "fp4"}).find("auto, exact, bf16, int8") != std::string::npos);
  CHECK(ErrorOf({"--isa", "sse"}) ==
        "--isa: \"sse\" is not one of ref, avx2, avx512, avx512bf16, amx");
  CHECK(ErrorOf({"--tls-cert", "x"}).find("tls-key") != std::string::npos);
  CHECK(ErrorOf({"--watchdog-soft", "9", "--watchdog-hard", "8"}).find("watchdog-hard") !=
        std::string::npos);
}

TEST_CASE("what is said twice is refused") {
  CHECK(ErrorOf({"--port", "80", "--ctx", "1", "--port=81"}) == "--port stands twice");
  CHECK(ErrorOf({"--prefix-cache", "--no-prefix-cache"}) == "--prefix-cache stands twice");
  CHECK(ErrorOf({"--model", "a", "--model", "a"}) == "--model stands twice");
  CHECK(ErrorOf({"--config", "a", "--config", "b"}) == "--config stands twice");
  for (const auto& two : {std::vector<std::string>{"--model", "a", "b"}, {"b", "--model=a"}}) {
    const std::string error = ErrorOf(two);
    CHECK(error.find("\"a\"") != std::string::npos);
    CHECK(error.find("\"b\"") != std::string::npos);
  }
  CHECK(LoadConfig({"--model", "a", "a"})->model == "a");
  CHECK(ErrorOf({"--served-model-name", "a,b,a"}) == "served-model-name: \"a\" stands twice");
}

TEST_CASE("a slowdown below the step itself means nothing") {
  for (const char* value : {"1", "99"}) {
    const std::string error = ErrorOf({"--max-decode-slowdown", value});
    CHECK(error.find("max-decode-slowdown: ") == 0);
    CHECK(error.find("100") != std::string::npos);
  }
  CHECK(ErrorOf({"--max-decode-slowdown", "-2"}).find("max-decode-slowdown") == 2);  // as a flag
  for (const char* value : {"-1", "0", "100", "250"})
    CHECK(ErrorOf({"--max-decode-slowdown", value}).empty());
}

TEST_CASE("an origin is * or a scheme, a host and perhaps a port") {
  for (const char* good : {"*", "https://example.org", "http://127.0.0.1:8080", "http://[::1]:3000",
                           "http://localhost", "chrome-extension://abcdef", "http://[::1]"}) {
    INFO(good);
    CHECK(ErrorOf({"--cors-origins", good}).empty());
  }
  for (const char* bad :
       {"example.org", "https://", "https://example.org/", "https://example.org/app", "://a",
        "https://a:", "https://a:0", "https://a:70000", "https://a:b", "https://a b", "null",
        "https://*.example.org", "https://u@a", "http://::1", "http://[]", "HTTPS://Example.org",
        "https://a, https://b", "https://a?x", "1a://b"}) {
    INFO(bad);
    const std::string error = ErrorOf({"--cors-origins", bad});
    CHECK(error.find("cors-origins: ") == 0);
    CHECK(error.find("scheme://host[:port]") != std::string::npos);
  }
}

TEST_CASE("a file's mistakes name file, key and line, and no folder") {
  const auto error_of_file = [](const std::string& text) {
    const std::string file = WriteFile(text);
    const std::string error = ErrorOf({"--config", file});
    ::unlink(file.c_str());
    CHECK(error.find("/tmp/") == std::string::npos);
    return error;
  };
  CHECK(error_of_file("prot: 80\n").find("unknown key \"prot\"") != std::string::npos);
  CHECK(error_of_file("port: 80\nport: 81\n").find("twice") != std::string::npos);
  CHECK(error_of_file("port: 80\n---\nport: 81\n").find("one document") != std::string::npos);
  CHECK(error_of_file("model: [a, b]\n").find("model: one model") != std::string::npos);
  CHECK(error_of_file("port: [\n").find("line") != std::string::npos);
  CHECK(error_of_file("- a\n").find("map") != std::string::npos);
  CHECK(error_of_file("port: {a: 1}\n").find("port") != std::string::npos);
  CHECK(ErrorOf({"--config", "/nonexistent/x.yaml"}).find("x.yaml") != std::string::npos);
}

TEST_CASE("what is shown can be read back") {
  const auto config =
      LoadConfig({"--queue-deadline", "7", "--cors-origins", "https://a,https://b"});
  REQUIRE(config.ok());
  CHECK(config->limits.queue_deadline_ms == 7000);
  for (const SettingRow& row : Settings()) {
    Config copy;
    INFO(row.name);
    CHECK(Assign(row, Show(row, *config), copy).ok());
    CHECK(Show(row, copy) == Show(row, *config));
    CHECK(HelpText().find(std::string("--") + row.name) != std::string::npos);
  }
}

}  // namespace
}  // namespace modu::config
