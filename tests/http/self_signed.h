// A certificate for localhost made on the spot, in a folder of its own that goes away with the
// object.
#pragma once
#include <string>

namespace modu::testing {

class SelfSigned {
 public:
  SelfSigned();
  ~SelfSigned();
  std::string cert_file() const { return folder_ + "/cert.pem"; }
  std::string key_file() const { return folder_ + "/key.pem"; }
  std::string cert_pem() const;
  std::string key_pem() const;

 private:
  std::string folder_;
};

}  // namespace modu::testing
