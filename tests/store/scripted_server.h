// An HTTP/1.1 server on loopback that answers each request with the bytes a test gives it, then
// closes. With a certificate of its own it speaks TLS.
#pragma once
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <atomic>
#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>
#include <cstdio>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace modu::tests {

/// A self-signed certificate for localhost and 127.0.0.1; its PEM file is what a client must trust.
struct SelfSigned {
  explicit SelfSigned(const std::string& folder)
      : pem(folder + "/cert.pem"), key_pem(folder + "/key.pem") {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* cert = X509_new();
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME* name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>("localhost"), -1, -1, 0);
    X509_set_issuer_name(cert, name);
    X509_EXTENSION* names =
        X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "DNS:localhost");
    X509_add_ext(cert, names, -1);
    X509_EXTENSION_free(names);
    X509_sign(cert, key, EVP_sha256());
    FILE* out = std::fopen(pem.c_str(), "w");
    PEM_write_X509(out, cert);
    std::fclose(out);
    out = std::fopen(key_pem.c_str(), "w");
    PEM_write_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(out);
    X509_free(cert);
    EVP_PKEY_free(key);
  }
  std::string pem, key_pem;
};

class ScriptedServer {
 public:
  using Handler = std::function<std::string(const std::string& request)>;

  explicit ScriptedServer(Handler handler, const SelfSigned* tls = nullptr)
      : handler_(std::move(handler)), acceptor_(io_, {boost::asio::ip::address_v4::loopback(), 0}) {
    if (tls != nullptr) {
      context_ = std::make_unique<boost::asio::ssl::context>(boost::asio::ssl::context::tls_server);
      context_->use_certificate_file(tls->pem, boost::asio::ssl::context::pem);
      context_->use_private_key_file(tls->key_pem, boost::asio::ssl::context::pem);
    }
    thread_ = std::thread([this] { Serve(); });
  }
  ~ScriptedServer() {
    stop_ = true;
    boost::system::error_code ignored;
    boost::asio::ip::tcp::socket wake(io_);  // closing an acceptor does not wake a blocking accept
    wake.connect({boost::asio::ip::address_v4::loopback(), acceptor_.local_endpoint().port()},
                 ignored);
    thread_.join();
  }
  std::string Url(const std::string& path) const {
    return (context_ ? "https://localhost:" : "http://127.0.0.1:") +
           std::to_string(acceptor_.local_endpoint().port()) + path;
  }
  std::vector<std::string> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void Serve() {
    while (true) {
      boost::system::error_code error;
      boost::asio::ip::tcp::socket socket(io_);
      acceptor_.accept(socket, error);
      if (stop_ || error) return;
      if (context_) {
        boost::asio::ssl::stream<boost::asio::ip::tcp::socket&> stream(socket, *context_);
        stream.handshake(boost::asio::ssl::stream_base::server, error);
        if (error) continue;
        Answer(stream);
        stream.shutdown(error);
      } else {
        Answer(socket);
      }
      socket.shutdown(boost::asio::ip::tcp::socket::shutdown_both, error);
    }
  }
  template <typename Stream>
  void Answer(Stream& stream) {
    std::string request;
    boost::system::error_code error;
    boost::asio::read_until(stream, boost::asio::dynamic_buffer(request), "\r\n\r\n", error);
    if (error) return;
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
    }
    boost::asio::write(stream, boost::asio::buffer(handler_(request)), error);
  }

  Handler handler_;
  boost::asio::io_context io_;
  boost::asio::ip::tcp::acceptor acceptor_;
  std::unique_ptr<boost::asio::ssl::context> context_;
  std::atomic<bool> stop_ = false;
  mutable std::mutex mutex_;
  std::vector<std::string> requests_;
  std::thread thread_;
};

}  // namespace modu::tests
