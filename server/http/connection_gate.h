// How many connections there may be, in all and from one address, counted before anything is read;
// and none takes a descriptor that is kept for other ends. Thread-safe.
#pragma once
#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_map>

namespace modu::http {

class ConnectionGate {
 public:
  ConnectionGate(int32_t max_total, int32_t max_per_address, int first_reserved_descriptor)
      : max_total_(max_total),
        max_per_address_(max_per_address),
        first_reserved_descriptor_(first_reserved_descriptor) {}

  /// `descriptor` is the connection's. False: one of the bounds is reached. True: Leave must
  /// follow.
  bool Enter(const std::string& address, int descriptor);
  void Leave(const std::string& address);

 private:
  const int32_t max_total_, max_per_address_;
  const int first_reserved_descriptor_;
  std::mutex mutex_;
  int32_t total_ = 0;
  std::unordered_map<std::string, int32_t> by_address_;
};

}  // namespace modu::http
