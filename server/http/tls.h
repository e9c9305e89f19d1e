// The server's side of TLS: 1.2 at least, no renegotiation, buffers given back while idle. Used by
// both doors' checks at start; a wrong file is an error before anything listens.
#pragma once
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "boost/asio/ssl/context.hpp"

namespace modu::http {

/// PEM files: a certificate chain, leaf first, and its key. Errors name the setting and the
/// path.
absl::StatusOr<std::unique_ptr<boost::asio::ssl::context>> MakeTlsContext(
    const std::string& cert_file, const std::string& key_file);

}  // namespace modu::http
