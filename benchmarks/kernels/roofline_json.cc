#include "benchmarks/kernels/roofline_json.h"

#include <cstdio>
#include <fstream>

#include "nlohmann/json.hpp"

namespace modu::benchmarks {

bool WriteJson(const Roofline& roofline, const std::string& file) {
  nlohmann::json points = nlohmann::json::array();
  for (const RooflinePoint& point : roofline.points) {
    points.push_back({{"kernel", point.kernel},
                      {"label", point.label},
                      {"seconds", point.seconds},
                      {"bytes", point.bytes},
                      {"operations", point.operations}});
  }
  const nlohmann::json document = {{"title", roofline.title},
                                   {"read_bytes_per_s", roofline.read_bytes_per_s},
                                   {"instruction", roofline.instruction},
                                   {"operations_per_s", roofline.operations_per_s},
                                   {"points", points}};
  std::ofstream out(file);
  out << document.dump(1) << "\n";
  if (!out.flush()) std::fprintf(stderr, "%s: cannot be written\n", file.c_str());
  return out.good();
}

}  // namespace modu::benchmarks
