#include "benchmarks/serving/cpu_usage.h"

#include <dirent.h>
#include <unistd.h>

#include <cctype>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace modu::benchmark {
namespace {

double TicksToSeconds(double ticks) { return ticks / static_cast<double>(::sysconf(_SC_CLK_TCK)); }

/// Of /proc/PID/stat; all 0 where there is no such process.
struct ProcessStat {
  pid_t parent = 0;
  double seconds = 0;  // utime + stime
};

ProcessStat ReadStat(const std::string& pid) {
  std::ifstream in("/proc/" + pid + "/stat");
  std::string text((std::istreambuf_iterator<char>(in)), {});
  const size_t close = text.rfind(')');  // the name in field 2 may hold spaces
  if (close == std::string::npos) return {};
  std::istringstream fields(text.substr(close + 2));
  ProcessStat stat;
  std::string skipped;
  fields >> skipped >> stat.parent;
  for (int i = 5; i < 14; ++i) fields >> skipped;
  double user = 0, system = 0;
  fields >> user >> system;
  stat.seconds = TicksToSeconds(user + system);
  return stat;
}

std::vector<pid_t> AllProcesses() {
  std::vector<pid_t> pids;
  DIR* proc = ::opendir("/proc");
  if (proc == nullptr) return pids;
  while (const dirent* entry = ::readdir(proc)) {
    if (std::isdigit(static_cast<unsigned char>(entry->d_name[0])))
      pids.push_back(static_cast<pid_t>(std::stol(entry->d_name)));
  }
  ::closedir(proc);
  return pids;
}

double MachineSeconds() {
  std::ifstream in("/proc/stat");
  std::string cpu;
  double user = 0, nice = 0, system = 0, idle = 0, iowait = 0, irq = 0, softirq = 0;
  in >> cpu >> user >> nice >> system >> idle >> iowait >> irq >> softirq;
  return TicksToSeconds(user + nice + system + irq + softirq);
}

double RssMib(const std::string& pid) {
  std::ifstream in("/proc/" + pid + "/statm");
  double total = 0, resident = 0;
  in >> total >> resident;
  return resident * static_cast<double>(::sysconf(_SC_PAGESIZE)) / (1 << 20);
}

/// Inode of the socket that listens on the port, or "".
std::string ListenerInode(int port) {
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    std::ifstream in(table);
    std::string line;
    std::getline(in, line);
    while (std::getline(in, line)) {
      std::istringstream fields(line);
      std::string slot, local, remote, state, field, inode;
      fields >> slot >> local >> remote >> state;
      for (int i = 4; i < 9; ++i) fields >> field;
      fields >> inode;
      const size_t colon = local.rfind(':');
      if (colon == std::string::npos || state != "0A") continue;
      if (std::stoi(local.substr(colon + 1), nullptr, 16) == port) return inode;
    }
  }
  return "";
}

bool HoldsSocket(const std::string& pid, const std::string& inode) {
  const std::string folder = "/proc/" + pid + "/fd";
  DIR* directory = ::opendir(folder.c_str());
  if (directory == nullptr) return false;
  bool found = false;
  const std::string wanted = "socket:[" + inode + "]";
  while (const dirent* entry = ::readdir(directory)) {
    char target[64];
    const ssize_t size = ::readlink((folder + "/" + entry->d_name).c_str(), target, sizeof(target));
    if (size > 0 && wanted == std::string(target, static_cast<size_t>(size))) found = true;
  }
  ::closedir(directory);
  return found;
}

}  // namespace

CpuSeconds ReadCpuSeconds(pid_t server_pid) {
  CpuSeconds seconds;
  seconds.client = ReadStat("self").seconds;
  if (server_pid > 0) {
    std::map<pid_t, ProcessStat> stats;
    for (const pid_t pid : AllProcesses()) stats[pid] = ReadStat(std::to_string(pid));
    for (const auto& [pid, stat] : stats) {
      pid_t root = pid;  // goes up to the server, or past it
      while (root > 0 && root != server_pid) root = stats.contains(root) ? stats[root].parent : 0;
      if (root != server_pid) continue;
      seconds.server += stat.seconds;
      seconds.server_rss_mib += RssMib(std::to_string(pid));
    }
  }
  seconds.machine = MachineSeconds();
  return seconds;
}

pid_t FindListener(int port) {
  const std::string inode = ListenerInode(port);
  if (inode.empty()) return 0;
  std::set<pid_t> holders;  // children may have inherited the socket
  for (const pid_t pid : AllProcesses())
    if (HoldsSocket(std::to_string(pid), inode)) holders.insert(pid);
  for (const pid_t pid : holders)
    if (!holders.contains(ReadStat(std::to_string(pid)).parent)) return pid;
  return 0;
}

}  // namespace modu::benchmark
