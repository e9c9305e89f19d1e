#include "server/http/tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509err.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <system_error>

#include "absl/strings/str_cat.h"

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

absl::Status Wrong(const char* setting, const std::string& path, const std::string& what) {
  return absl::InvalidArgumentError(absl::StrCat(setting, ": ", path, ": ", what));
}

absl::Status CheckReadable(const char* setting, const std::string& path) {
  if (::access(path.c_str(), R_OK) == 0) return absl::OkStatus();
  return Wrong(setting, path,
               "cannot be read: " + std::error_code(errno, std::generic_category()).message());
}

/// OpenSSL compares a key with the certificate as it takes it.
bool IsMismatch(const boost::system::error_code& error) {
  const int reason = ERR_GET_REASON(static_cast<unsigned long>(error.value()));
  return error && (reason == X509_R_KEY_VALUES_MISMATCH || reason == X509_R_KEY_TYPE_MISMATCH);
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
  if (absl::Status read = CheckReadable("tls-cert", cert_file); !read.ok()) return read;
  context->use_certificate_chain_file(cert_file, ec);
  if (ec) return Wrong("tls-cert", cert_file, "holds no PEM certificate chain");
  if (absl::Status read = CheckReadable("tls-key", key_file); !read.ok()) return read;
  // Else OpenSSL asks for a passphrase on the terminal, where a server may have nobody.
  context->set_password_callback(
      [](size_t, asio::ssl::context::password_purpose) { return std::string(); }, ec);
  context->use_private_key_file(key_file, asio::ssl::context::pem, ec);
  SSL_CTX* const raw = context->native_handle();
  if (IsMismatch(ec) || (!ec && SSL_CTX_check_private_key(raw) != 1))
    return Wrong("tls-key", key_file, "is not the key of " + cert_file);
  if (ec) return Wrong("tls-key", key_file, "holds no PEM private key without a passphrase");
  SSL_CTX_set_min_proto_version(raw, TLS1_2_VERSION);
  SSL_CTX_set_options(
      raw, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  SSL_CTX_set_mode(raw, SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_alpn_select_cb(raw, ChooseProtocol, nullptr);
  return context;
}

}  // namespace modu::http
