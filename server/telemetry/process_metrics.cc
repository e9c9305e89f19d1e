#include "server/telemetry/process_metrics.h"

#include <dirent.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>

namespace modu::telemetry {
namespace {

void Add(const char* name, const char* help, prometheus::MetricType type, double value,
         std::vector<prometheus::MetricFamily>* out) {
  prometheus::ClientMetric metric;
  if (type == prometheus::MetricType::Counter) {
    metric.counter.value = value;
  } else {
    metric.gauge.value = value;
  }
  out->push_back(prometheus::MetricFamily{name, help, type, {metric}});
}

int CountOpenFiles() {
  DIR* dir = opendir("/proc/self/fd");
  if (dir == nullptr) return -1;
  int count = 0;
  // NOLINTNEXTLINE(concurrency-mt-unsafe): safe for a stream that one thread reads
  while (const dirent* entry = readdir(dir)) count += entry->d_name[0] != '.';
  closedir(dir);
  return count - 1;  // the directory itself
}

}  // namespace

std::vector<prometheus::MetricFamily> ProcessMetrics() {
  using prometheus::MetricType;
  std::vector<prometheus::MetricFamily> out;
  const double ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  std::ifstream file("/proc/self/stat");
  std::string stat;
  std::getline(file, stat);
  // The second field is the command in parentheses and may hold anything: count from the last one.
  // proc(5).
  const size_t close = stat.rfind(')');
  if (close != std::string::npos) {
    std::istringstream fields(stat.substr(close + 1));
    std::vector<std::string> values;
    for (std::string one; fields >> one;) values.push_back(one);
    const auto field = [&](size_t number) {  // proc(5)'s numbering; state is 3
      return number - 3 < values.size() ? std::strtod(values[number - 3].c_str(), nullptr) : 0.0;
    };
    Add("process_cpu_seconds_total", "User and system CPU time spent.", MetricType::Counter,
        (field(14) + field(15)) / ticks, &out);
    Add("process_threads", "Threads of the process.", MetricType::Gauge, field(20), &out);
    Add("process_virtual_memory_bytes", "Virtual memory.", MetricType::Gauge, field(23), &out);
    Add("process_resident_memory_bytes", "Resident memory.", MetricType::Gauge,
        field(24) * static_cast<double>(sysconf(_SC_PAGESIZE)), &out);
    std::ifstream boot("/proc/stat");
    for (std::string line; std::getline(boot, line);) {
      if (line.rfind("btime ", 0) != 0) continue;
      Add("process_start_time_seconds", "Start of the process since the epoch.", MetricType::Gauge,
          std::strtod(line.c_str() + 6, nullptr) + field(22) / ticks, &out);
      break;
    }
  }
#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 33)
  const struct mallinfo2 heap = mallinfo2();
  Add("modu_process_live_bytes",
      "Bytes that the allocator has handed out and not got back; what threads cache counts.",
      MetricType::Gauge, static_cast<double>(heap.uordblks + heap.hblkhd), &out);
#endif
  const int open_files = CountOpenFiles();
  if (open_files >= 0)
    Add("process_open_fds", "Open file descriptors.", MetricType::Gauge, open_files, &out);
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    Add("process_max_fds", "Most file descriptors that may be open.", MetricType::Gauge,
        static_cast<double>(limit.rlim_cur), &out);
  }
  return out;
}

}  // namespace modu::telemetry
