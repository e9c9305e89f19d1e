// Where a server is, and what it takes to be let in.
#pragma once
#include <string>

namespace modu::client {

struct Endpoint {
  std::string host = "127.0.0.1";  // a name or an address, IPv6 without brackets
  std::string port = "8000";
  std::string api_key;  // empty: no Authorization header
  bool tls = false;     // the certificate is checked, and that it is `host`'s
  std::string ca_file;  // PEM; empty: the machine's own authorities
};

/// As a URL has them (RFC 3986, section 3.2.2): an IPv6 address in brackets.
inline std::string HostAndPort(const std::string& host, const std::string& port) {
  return (host.find(':') != std::string::npos ? "[" + host + "]" : host) + ":" + port;
}

/// What a Host header says (RFC 9110, section 7.2): the port where it is not the scheme's own.
inline std::string HostHeader(const Endpoint& endpoint) {
  const std::string whole = HostAndPort(endpoint.host, endpoint.port);
  if (endpoint.port != (endpoint.tls ? "443" : "80")) return whole;
  return whole.substr(0, whole.rfind(':'));
}

}  // namespace modu::client
