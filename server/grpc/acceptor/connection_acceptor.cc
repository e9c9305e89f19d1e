#include "server/grpc/acceptor/connection_acceptor.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <memory>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"

namespace modu::grpc_door {
namespace {

constexpr int kBacklog = 4096, kPauseMs = 100;

void SetOption(int socket, int level, int option, int value) {
  (void)setsockopt(socket, level, option, &value, sizeof value);
}

int PortOf(int socket) {
  sockaddr_storage address{};
  socklen_t size = sizeof address;
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0) return 0;
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&address)->sin6_port
                                             : reinterpret_cast<sockaddr_in*>(&address)->sin_port);
}

}  // namespace

absl::Status ConnectionAcceptor::Listen(const std::string& host, int port) {
  const std::string numeric = host == "localhost" ? "127.0.0.1" : host == "*" ? "0.0.0.0" : host;
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(numeric.c_str(), std::to_string(port).c_str(), &hints, &found) != 0) {
    return absl::InvalidArgumentError(absl::StrCat("\"", host, "\" is not an IP address"));
  }
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> address(found, freeaddrinfo);
  if (!Open(*address)) {
    const std::string why = std::system_category().message(errno);
    Stop();
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", host, " port ", port, ": ", why));
  }
  port_ = PortOf(listener_);
  return absl::OkStatus();
}

/// False, with errno, where one of the calls fails.
bool ConnectionAcceptor::Open(const addrinfo& address) {
  stop_event_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (stop_event_ < 0) return false;
  listener_ = socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (listener_ < 0) return false;
  SetOption(listener_, SOL_SOCKET, SO_REUSEADDR, 1);
  SetOption(listener_, IPPROTO_TCP, TCP_NODELAY, 1);  // connections inherit it
  if (address.ai_family == AF_INET6) SetOption(listener_, IPPROTO_IPV6, IPV6_V6ONLY, 0);
  return bind(listener_, address.ai_addr, address.ai_addrlen) == 0 &&
         listen(listener_, kBacklog) == 0;
}

void ConnectionAcceptor::Start(OnConnection on_connection) {
  on_connection_ = std::move(on_connection);
  thread_ = std::thread([this] { Run(); });
}

void ConnectionAcceptor::Stop() {
  if (thread_.joinable()) {
    const uint64_t one = 1;
    (void)!write(stop_event_, &one, sizeof one);
    thread_.join();
  }
  for (int* descriptor : {&listener_, &stop_event_}) {
    if (*descriptor >= 0) close(*descriptor);
    *descriptor = -1;
  }
}

bool ConnectionAcceptor::WaitForStop(int milliseconds) {
  pollfd stop{stop_event_, POLLIN, 0};
  return poll(&stop, 1, milliseconds) > 0;
}

void ConnectionAcceptor::Run() {
  for (;;) {
    pollfd wanted[] = {{stop_event_, POLLIN, 0}, {listener_, POLLIN, 0}};
    if (poll(wanted, 2, -1) < 0) {
      if (errno != EINTR && WaitForStop(kPauseMs)) return;
      continue;
    }
    if (wanted[0].revents != 0) return;
    if (wanted[1].revents == 0) continue;
    const int connection = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (connection >= first_reserved_descriptor_) {
      ++refused_total_;  // before its client hears of it
      close(connection);
    } else if (connection >= 0) {
      on_connection_(listener_, connection);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      if (WaitForStop(kPauseMs)) return;
    }  // else the client was gone before we came to it
  }
}

}  // namespace modu::grpc_door
