#include "server/http/tls.h"

#include <openssl/ssl.h>

#include <string_view>

namespace modu::http {
namespace {

namespace asio = boost::asio;

/// RFC 7301: of what the client offers, http/1.1; a client that offers only others goes on without.
int ChooseProtocol(SSL*, const unsigned char** out, unsigned char* out_size,
                   const unsigned char* offered, unsigned int offered_size, void*) {
  static constexpr unsigned char kOurs[] = "\x08http/1.1";
  unsigned char* chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_size, kOurs, sizeof kOurs - 1, offered, offered_size) !=
      OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_NOACK;
  }
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

}  // namespace

absl::StatusOr<std::unique_ptr<asio::ssl::context>> MakeTlsContext(const std::string& cert_file,
                                                                   const std::string& key_file) {
  std::unique_ptr<asio::ssl::context> context;
  try {
    context = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
  } catch (const boost::system::system_error& error) {
    return absl::InternalError("TLS is not available");
  }
  boost::system::error_code ec;
  context->use_certificate_chain_file(cert_file, ec);
  if (ec) return absl::InvalidArgumentError("tls-cert: not a readable PEM certificate chain");
  context->use_private_key_file(key_file, asio::ssl::context::pem, ec);
  if (ec)
    return absl::InvalidArgumentError(
        "tls-key: not a readable PEM private key, or not the certificate's");
  SSL_CTX* const raw = context->native_handle();
  if (SSL_CTX_check_private_key(raw) != 1) {
    return absl::InvalidArgumentError("tls-key: not the certificate's key");
  }
  SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  SSL_CTX_set_options(
      raw, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_alpn_select_cb(raw, ChooseProtocol, nullptr);
  return context;
}

}  // namespace modu::http
