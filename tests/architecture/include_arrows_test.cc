// Reads every include of our own and fails on an arrow that DESIGN forbids: server -> engine ->
// kernels, never back; CUDA headers and SIMD intrinsics stay inside kernels/.
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/catch.h"

namespace {

namespace fs = std::filesystem;

/// Rooms of the server that a room may include from. A room always sees itself, and all see engine/
/// and kernels/ borders.
const std::map<std::string, std::set<std::string>> kServerArrows = {
    {"config", {"api"}},
    {"telemetry", {}},
    {"tenancy", {}},
    {"text", {}},
    {"api", {"text"}},
    {"store", {}},
    {"generation", {"api", "text", "telemetry", "tenancy"}},
    {"http", {"generation", "api", "text", "telemetry", "tenancy", "config"}},
    {"grpc", {"generation", "api", "text", "telemetry", "tenancy", "config"}},
    {"cli",
     {"config", "telemetry", "tenancy", "text", "api", "store", "generation", "http", "grpc"}},
};
/// Within the engine: who may know whom.
const std::map<std::string, std::set<std::string>> kEngineArrows = {
    {"request", {}},
    {"kv", {}},
    {"checkpoint", {"request"}},
    {"sampling", {"request"}},
    {"model", {"checkpoint", "request"}},
    {"runner", {"model", "checkpoint", "sampling", "request"}},
    {"scheduler", {"kv", "request", "runner"}},
};
const std::vector<std::string> kForbiddenOutsideKernels = {"immintrin.h", "x86intrin.h", "cuda",
                                                           "cublas", "simde/"};
const std::vector<std::string> kForbiddenInEngine = {"server/",         "boost/", "grpc",
                                                     "google/protobuf", "spdlog", "prometheus"};

struct Include {
  std::string file, target;
};

std::vector<Include> IncludesUnder(const fs::path& root, const std::string& folder) {
  std::vector<Include> includes;
  for (const auto& entry : fs::recursive_directory_iterator(root / folder)) {
    const std::string extension = entry.path().extension();
    if (extension != ".h" && extension != ".cc" && extension != ".cu" && extension != ".cuh")
      continue;
    std::ifstream in(entry.path());
    for (std::string line; std::getline(in, line);) {
      const size_t hash = line.find_first_not_of(" \t");
      if (hash == std::string::npos || line.compare(hash, 8, "#include") != 0) continue;
      const size_t open = line.find_first_of("\"<");
      const size_t close = line.find_first_of("\">", open + 1);
      if (open == std::string::npos || close == std::string::npos) continue;
      includes.push_back(
          {fs::relative(entry.path(), root).string(), line.substr(open + 1, close - open - 1)});
    }
  }
  return includes;
}

/// The first two folders of a path: {"server", "text"}.
std::pair<std::string, std::string> RoomOf(const std::string& path) {
  const size_t first = path.find('/');
  if (first == std::string::npos) return {"", ""};
  const size_t second = path.find('/', first + 1);
  return {path.substr(0, first),
          second == std::string::npos ? "" : path.substr(first + 1, second - first - 1)};
}

bool StartsWith(const std::string& text, const std::string& prefix) {
  return text.rfind(prefix, 0) == 0;
}

std::string WrongArrow(const Include& include) {
  const auto [top, room] = RoomOf(include.file);
  const auto [target_top, target_room] = RoomOf(include.target);
  if (top == "kernels" && (target_top == "engine" || target_top == "server"))
    return "kernels look up";
  if (top == "engine") {
    for (const auto& word : kForbiddenInEngine) {
      if (StartsWith(include.target, word)) return "the engine knows token ids only";
    }
    if (StartsWith(include.target, "nlohmann") && room != "checkpoint")
      return "only engine/checkpoint reads JSON";
    if (room == "kv" && StartsWith(include.target, "engine/request/"))
      return "engine/kv never sees a Request";
    // model_runner.h is the seam between scheduling and arithmetic: both sides speak its types.
    const bool seam =
        include.target == "engine/runner/model_runner.h" && room != "kv" && room != "checkpoint";
    if (!seam && target_top == "engine" && !room.empty() && !target_room.empty() &&
        target_room != room) {
      const auto allowed = kEngineArrows.find(room);
      if (allowed != kEngineArrows.end() && !allowed->second.count(target_room))
        return "an arrow between engine rooms";
    }
  }
  // Kernel benchmarks measure the machine's own peaks beside the kernels'.
  if (top != "kernels" && !(top == "benchmarks" && room == "kernels")) {
    for (const auto& word : kForbiddenOutsideKernels) {
      if (StartsWith(include.target, word)) return "intrinsics and CUDA stay inside kernels/";
    }
  }
  if (top == "server" && target_top == "server" && !room.empty() && target_room != room) {
    const auto allowed = kServerArrows.find(room);
    if (allowed == kServerArrows.end()) return "a room that the map above does not know";
    if (!allowed->second.count(target_room)) return "an arrow between server rooms";
  }
  if (StartsWith(include.target, "tests/") && top != "tests" && top != "benchmarks")
    return "the product does not include tests";
  return "";
}

TEST_CASE("data walks one way through the folders") {
  const fs::path root = MODU_SOURCE_DIR;
  size_t num_includes = 0;
  for (const char* folder : {"kernels", "engine", "server", "clients", "benchmarks"}) {
    for (const Include& include : IncludesUnder(root, folder)) {
      ++num_includes;
      const std::string wrong = WrongArrow(include);
      INFO(include.file << " includes " << include.target << ": " << wrong);
      CHECK(wrong.empty());
    }
  }
  CHECK(num_includes > 50);
}

TEST_CASE("a wrong arrow is seen") {
  CHECK_FALSE(WrongArrow({"kernels/ref/x.cc", "engine/engine.h"}).empty());
  CHECK_FALSE(WrongArrow({"engine/kv/x.cc", "engine/request/request.h"}).empty());
  CHECK_FALSE(WrongArrow({"engine/runner/x.cc", "nlohmann/json.hpp"}).empty());
  CHECK_FALSE(WrongArrow({"server/text/x.cc", "server/http/server.h"}).empty());
  CHECK_FALSE(WrongArrow({"server/http/x.cc", "immintrin.h"}).empty());
  CHECK(WrongArrow({"server/http/x.cc", "server/api/error.h"}).empty());
}

}  // namespace
