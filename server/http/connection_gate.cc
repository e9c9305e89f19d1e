#include "server/http/connection_gate.h"

namespace modu::http {

bool ConnectionGate::Enter(const std::string& address, int descriptor) {
  if (descriptor >= first_reserved_descriptor_) return false;
  std::lock_guard lock(mutex_);
  if (total_ >= max_total_) return false;
  int32_t& count = by_address_[address];
  if (count >= max_per_address_) return false;
  ++count;
  ++total_;
  return true;
}

void ConnectionGate::Leave(const std::string& address) {
  std::lock_guard lock(mutex_);
  const auto found = by_address_.find(address);
  if (found == by_address_.end()) return;
  --total_;
  if (--found->second == 0) by_address_.erase(found);
}

}  // namespace modu::http
