// What the kernel benchmarks measured, for benchmarks/plots: the machine's limits in that run and a
// point for each kernel at each size.
#pragma once
#include <string>
#include <vector>

namespace modu::benchmarks {

struct RooflinePoint {
  std::string kernel;  // points of one kernel are one line
  std::string label;   // what differs between them
  double seconds, bytes, operations;
};

struct Roofline {
  std::string title;        // program, device
  double read_bytes_per_s;  // from memory, by as many threads as the kernels have
  std::string instruction;
  double operations_per_s;  // its peak, of all those threads
  std::vector<RooflinePoint> points;
};

/// False, with a message on stderr, where the file cannot be written.
bool WriteJson(const Roofline& roofline, const std::string& file);

}  // namespace modu::benchmarks
