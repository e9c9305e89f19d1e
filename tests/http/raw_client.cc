#include "tests/http/raw_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>

namespace modu::testing {
namespace {

using Clock = std::chrono::steady_clock;

int Left(Clock::time_point end) {
  return static_cast<int>(std::max<int64_t>(
      0, std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count()));
}

size_t HeadEnd(std::string_view answer) {
  const size_t end = answer.find("\r\n\r\n");
  return end == std::string_view::npos ? end : end + 4;
}

}  // namespace

RawClient::RawClient(int port, Options options) {
  fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (options.receive_buffer_bytes > 0) {
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &options.receive_buffer_bytes,
                 sizeof options.receive_buffer_bytes);
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    ::close(fd_);
    fd_ = -1;
    closed_ = true;
    return;
  }
  if (!options.tls) return;
  SSL_CTX* const context = SSL_CTX_new(TLS_client_method());
  ssl_ = SSL_new(context);
  SSL_CTX_free(context);
  SSL_set_fd(ssl_, fd_);
  if (SSL_connect(ssl_) != 1) Close();
}

RawClient::~RawClient() { Close(); }

void RawClient::Close(bool reset) {
  if (fd_ < 0) return;
  if (ssl_ != nullptr) SSL_free(ssl_);
  ssl_ = nullptr;
  if (reset) {
    const linger hard{1, 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
  }
  ::close(fd_);
  fd_ = -1;
  closed_ = true;
}

void RawClient::ShutdownSend() { ::shutdown(fd_, SHUT_WR); }

bool RawClient::Send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ssl_ != nullptr
                             ? SSL_write(ssl_, bytes.data(), static_cast<int>(bytes.size()))
                             : ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<size_t>(sent));
  }
  return true;
}

bool RawClient::ReadSome(int timeout_ms) {
  if (fd_ < 0 || closed_) return false;
  if (ssl_ == nullptr || SSL_pending(ssl_) == 0) {
    pollfd waiting{fd_, POLLIN, 0};
    if (::poll(&waiting, 1, timeout_ms) <= 0) return false;
  }
  char bytes[16384];
  const ssize_t n =
      ssl_ != nullptr ? SSL_read(ssl_, bytes, sizeof bytes) : ::recv(fd_, bytes, sizeof bytes, 0);
  if (n <= 0) {
    closed_ = true;
    return false;
  }
  received_.append(bytes, static_cast<size_t>(n));
  return true;
}

std::string RawClient::ReadUntil(std::string_view mark, int timeout_ms) {
  const auto end = Clock::now() + std::chrono::milliseconds(timeout_ms);
  while (received_.find(mark) == std::string::npos && ReadSome(Left(end))) {
  }
  std::string all;
  all.swap(received_);
  return all;
}

std::string RawClient::ReadAll(int timeout_ms) {
  const auto end = Clock::now() + std::chrono::milliseconds(timeout_ms);
  while (ReadSome(Left(end))) {
  }
  std::string all;
  all.swap(received_);
  return all;
}

std::string RawClient::ReadAnswer(int timeout_ms) {
  const auto end = Clock::now() + std::chrono::milliseconds(timeout_ms);
  for (;;) {
    const size_t head = HeadEnd(received_);
    if (head != std::string::npos) {
      const std::string_view view(received_);
      size_t total = std::string::npos;
      if (HeaderOf(view, "Transfer-Encoding") == "chunked") {
        const size_t last = received_.find("0\r\n\r\n", head);
        if (last != std::string::npos) total = last + 5;
      } else {
        const std::string length = HeaderOf(view, "Content-Length");
        const size_t body = length.empty() ? 0 : std::strtoul(length.c_str(), nullptr, 10);
        if (received_.size() >= head + body) total = head + body;
      }
      if (total != std::string::npos) {
        std::string answer = received_.substr(0, total);
        received_.erase(0, total);
        return answer;
      }
    }
    if (!ReadSome(Left(end))) break;
  }
  std::string all;
  all.swap(received_);
  return all;
}

int StatusOf(std::string_view answer) {
  if (!answer.starts_with("HTTP/1.") || answer.size() < 12) return 0;
  return std::atoi(std::string(answer.substr(9, 3)).c_str());
}

std::string HeaderOf(std::string_view answer, std::string_view name) {
  const size_t head = HeadEnd(answer);
  size_t start = answer.find("\r\n");
  while (start != std::string_view::npos && start + 2 < std::min(head, answer.size())) {
    start += 2;
    const size_t end = answer.find("\r\n", start);
    const std::string_view line = answer.substr(start, end - start);
    if (line.size() > name.size() && line[name.size()] == ':' &&
        std::equal(name.begin(), name.end(), line.begin(),
                   [](char a, char b) { return (a | 32) == (b | 32); })) {
      return std::string(line.substr(std::min(name.size() + 2, line.size())));
    }
    start = end;
  }
  return "";
}

std::string BodyOf(std::string_view answer) {
  const size_t head = HeadEnd(answer);
  if (head == std::string_view::npos) return "";
  std::string_view rest = answer.substr(head);
  if (HeaderOf(answer, "Transfer-Encoding") != "chunked") return std::string(rest);
  std::string body;
  for (;;) {
    const size_t line = rest.find("\r\n");
    if (line == std::string_view::npos) return body;
    const size_t size = std::strtoul(std::string(rest.substr(0, line)).c_str(), nullptr, 16);
    rest.remove_prefix(line + 2);
    if (size == 0) return body;
    body.append(rest.substr(0, size));
    if (rest.size() < size + 2) return body;
    rest.remove_prefix(size + 2);
  }
}

std::string PostJson(std::string_view path, std::string_view body, std::string_view more_headers) {
  return "POST " + std::string(path) +
         " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n" +
         std::string(more_headers) + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
         std::string(body);
}

}  // namespace modu::testing
