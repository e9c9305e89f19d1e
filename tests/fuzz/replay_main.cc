// Runs a fuzz target without libFuzzer: its seeds, the files of a corpus folder, and seeded
// mutations of them, for two seconds at most. `--write-seeds DIR` writes the seeds for libFuzzer
// instead.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>

#include "tests/fuzz/fuzz.h"

namespace {
namespace fs = std::filesystem;

void Run(const std::string& input) {
  // A copy on the heap of the exact size, so that a sanitizer sees a read past the end.
  const std::vector<uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

/// One to four small damages: a flipped bit, an interesting byte or integer, a cut, a doubled or a
/// removed piece.
std::string Mutate(const std::string& seed, std::mt19937* random) {
  std::string out = seed;
  const auto below = [&](size_t n) {
    return static_cast<size_t>((*random)() % std::max<size_t>(n, 1));
  };
  // Headers come first in every format here; most damage goes there.
  const auto place = [&] {
    return below(below(4) == 0 ? out.size() : std::min<size_t>(out.size(), 2048));
  };
  for (size_t n = 1 + below(4); n > 0 && !out.empty(); --n) {
    const size_t at = place();
    switch (below(6)) {
      case 0:
        out[at] = static_cast<char>(out[at] ^ (1 << below(8)));
        break;
      case 1:
        out[at] = "\0\x01\x7f\x80\xff\"{["[below(8)];
        break;
      case 2: {
        constexpr uint64_t kInteresting[] = {0,
                                             1,
                                             0x7fffffff,
                                             0x80000000,
                                             0xffffffff,
                                             uint64_t{1} << 60,
                                             uint64_t{1} << 63,
                                             ~uint64_t{0}};
        const uint64_t value = kInteresting[below(8)];
        for (size_t i = 0; i < 8 && at + i < out.size(); ++i)
          out[at + i] = static_cast<char>(value >> (8 * i));
        break;
      }
      case 3:
        out.resize(at);
        break;
      case 4:
        out.insert(at, out.substr(at, below(64)));
        break;
      default:
        out.erase(at, below(64));
        break;
    }
  }
  return out;
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> inputs = FuzzSeeds();
  if (argc == 3 && std::string(argv[1]) == "--write-seeds") {
    fs::create_directories(argv[2]);
    for (size_t i = 0; i < inputs.size(); ++i) {
      std::ofstream(fs::path(argv[2]) / ("seed" + std::to_string(i)), std::ios::binary)
          << inputs[i];
    }
    return 0;
  }
  std::error_code error;
  if (argc > 1) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::directory_iterator(argv[1], error)) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    for (const fs::path& path : files) {
      std::ifstream file(path, std::ios::binary);
      inputs.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    }
  }
  for (const std::string& input : inputs) Run(input);
  Run("");
  std::mt19937 random(1);
  int mutations = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
  for (; mutations < 20000 && std::chrono::steady_clock::now() < end; ++mutations) {
    Run(Mutate(inputs[random() % inputs.size()], &random));
  }
  std::printf("%zu inputs and %d mutations\n", inputs.size(), mutations);
  return inputs.empty() ? 1 : 0;
}
