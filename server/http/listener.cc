#include "server/http/listener.h"

#include <sys/socket.h>

#include "absl/strings/str_cat.h"
#include "boost/asio/ip/address.hpp"
#include "boost/asio/ip/v6_only.hpp"
#include "boost/asio/post.hpp"
#include "server/http/session.h"

namespace modu::http {
namespace {

namespace asio = boost::asio;
using Tcp = asio::ip::tcp;
using ErrorCode = boost::system::error_code;

constexpr int kPauseMs = 100;
constexpr std::string_view kBusy =
    "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 1\r\n"
    "Content-Type: application/json\r\nContent-Length: 111\r\n\r\n"
    R"({"error":{"message":"too many connections","type":"unavailable_error","param":null,"code":"connection_limit"}})"
    "\n";

absl::Status Open(const std::string& host, int port, Tcp::acceptor* acceptor) {
  ErrorCode ec;
  const asio::ip::address address = asio::ip::make_address(host == "localhost" ? "127.0.0.1"
                                                           : host == "*"       ? "0.0.0.0"
                                                                               : host,
                                                           ec);
  if (ec) return absl::InvalidArgumentError(absl::StrCat("\"", host, "\" is not an IP address"));
  const Tcp::endpoint endpoint(address, static_cast<uint16_t>(port));
  acceptor->open(endpoint.protocol(), ec);
  if (!ec) acceptor->set_option(asio::socket_base::reuse_address(true), ec);
  if (!ec && address.is_v6()) {
    ErrorCode ignored;
    acceptor->set_option(asio::ip::v6_only(false), ignored);
  }
  if (!ec) acceptor->bind(endpoint, ec);
  if (ec)
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", host, " port ", port, ": ", ec.message()));
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckCanListen(const std::string& host, int port) {
  asio::io_context context;
  Tcp::acceptor acceptor(context);
  return Open(host, port, &acceptor);
}

Listener::Listener(std::vector<asio::io_context*> contexts, asio::ssl::context* tls, Site* site,
                   ConnectionGate* gate)
    : contexts_(std::move(contexts)),
      tls_(tls),
      site_(site),
      gate_(gate),
      acceptor_(*contexts_[0]),
      pause_(*contexts_[0]) {}

absl::Status Listener::Bind(const std::string& host, int port) {
  if (absl::Status opened = Open(host, port, &acceptor_); !opened.ok()) return opened;
  ErrorCode ec;
  acceptor_.listen(4096, ec);
  if (ec)
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", host, " port ", port, ": ", ec.message()));
  return absl::OkStatus();
}

int Listener::port() const {
  ErrorCode ec;
  const Tcp::endpoint endpoint = acceptor_.local_endpoint(ec);
  return ec ? 0 : endpoint.port();
}

void Listener::Close() {
  ErrorCode ignored;
  acceptor_.close(ignored);
  pause_.cancel();
}

void Listener::Accept() {
  asio::io_context* const context = contexts_[next_++ % contexts_.size()];
  acceptor_.async_accept(*context, [this, context](ErrorCode ec, Tcp::socket socket) {
    if (ec == asio::error::operation_aborted || !acceptor_.is_open()) return;
    if (!ec) {
      OnAccepted(std::move(socket), context);
      return Accept();
    }
    const bool exhausted = ec == asio::error::no_descriptors || ec == asio::error::no_memory ||
                           ec == asio::error::no_buffer_space ||
                           ec == boost::system::errc::too_many_files_open_in_system;
    if (!exhausted) return Accept();  // the client was gone before we came to it
    pause_.expires_after(std::chrono::milliseconds(kPauseMs));
    pause_.async_wait([this](ErrorCode cancelled) {
      if (!cancelled && acceptor_.is_open()) Accept();
    });
  });
}

void Listener::OnAccepted(Tcp::socket socket, asio::io_context* context) {
  ErrorCode ec;
  const Tcp::endpoint remote = socket.remote_endpoint(ec);
  if (ec) return;
  std::string address = remote.address().to_string();
  if (!gate_->Enter(address, socket.native_handle())) {
    ++site_->counters.refused_total;
    if (tls_ == nullptr) {
      (void)::send(socket.native_handle(), kBusy.data(), kBusy.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      socket.shutdown(Tcp::socket::shutdown_send, ec);
    }
    return;
  }
  socket.non_blocking(true, ec);
  auto session =
      MakeSession(std::move(socket), tls_, site_,
                  [gate = gate_, address = std::move(address)] { gate->Leave(address); });
  asio::post(*context, [session = std::move(session)] { session->Start(); });
}

}  // namespace modu::http
