// A client that sends exactly the bytes it is given: plain or TLS, blocking, with a time limit on
// every read. For tests over loopback.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

typedef struct ssl_st SSL;

namespace modu::testing {

class RawClient {
 public:
  struct Options {
    int receive_buffer_bytes = 0;  // 0: the system's
    bool tls = false;
  };
  explicit RawClient(int port) : RawClient(port, Options()) {}
  RawClient(int port, Options options);
  ~RawClient();
  RawClient(const RawClient&) = delete;

  bool connected() const { return fd_ >= 0; }
  /// False: the server has closed.
  bool Send(std::string_view bytes);
  /// Reads on until `mark` has come, the server closed, or the time is up; returns everything since
  /// the last call.
  std::string ReadUntil(std::string_view mark, int timeout_ms = 5'000);
  /// One whole answer with Content-Length or chunks; bytes beyond stay for the next call.
  std::string ReadAnswer(int timeout_ms = 5'000);
  /// Until the server closes.
  std::string ReadAll(int timeout_ms = 5'000);
  bool closed_by_server() const { return closed_; }
  void ShutdownSend();
  /// With a reset if asked for.
  void Close(bool reset = false);

 private:
  bool ReadSome(int timeout_ms);

  int fd_ = -1;
  SSL* ssl_ = nullptr;
  bool closed_ = false;
  std::string received_;
};

/// 0 if there is none.
int StatusOf(std::string_view answer);
std::string HeaderOf(std::string_view answer, std::string_view name);
std::string BodyOf(std::string_view answer);  // chunks joined
std::string PostJson(std::string_view path, std::string_view body,
                     std::string_view more_headers = "");

}  // namespace modu::testing
