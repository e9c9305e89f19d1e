// Where a server is, and what it takes to be let in.
#pragma once
#include <string>

namespace modu::client {

struct Endpoint {
  std::string host = "127.0.0.1";
  std::string port = "8000";
  std::string api_key;  // empty: no Authorization header
  bool tls = false;     // the certificate is checked, and that it is `host`'s
  std::string ca_file;  // PEM; empty: the machine's own authorities
};

}  // namespace modu::client
