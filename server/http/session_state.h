// The state machine of one connection, for the three files that implement it: session.cc its life
// (deadlines, idling, closing), session_read.cc requests coming in, session_answer.cc answers going
// out. Everything runs on the connection's own I/O thread. session.h says what it is from outside.
#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "boost/asio/steady_timer.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/http/parser.hpp"
#include "boost/beast/http/string_body.hpp"
#include "server/http/answer_head.h"
#include "server/http/client_stream.h"
#include "server/http/head_check.h"
#include "server/http/site.h"

namespace modu::http {

namespace asio = boost::asio;
namespace beast = boost::beast;

inline constexpr size_t kReadBytes = 4 << 10;
inline constexpr size_t kBodyReadBytes = 64 << 10;

inline std::string_view ViewOf(beast::string_view text) { return {text.data(), text.size()}; }

class Session final : public SessionBase, public std::enable_shared_from_this<Session> {
 public:
  Session(ClientStream stream, Site* site, std::function<void()> release);
  ~Session() override;

  void Start() override;
  void CloseIfIdle() override;
  void Dismiss() override;
  void Abort() override;

 private:
  enum class Phase : uint8_t { kHandshake, kIdle, kHead, kBody, kHandling, kLinger, kClosed };
  using Clock = std::chrono::steady_clock;
  using ErrorCode = boost::system::error_code;
  using Tcp = asio::ip::tcp;
  using Parser = beast::http::request_parser<beast::http::string_body>;

  // session.cc
  std::shared_ptr<Session> Self() { return shared_from_this(); }
  const api::Limits& limits() const { return site_->limits; }
  Tcp::socket& socket() { return stream_.socket(); }
  void AwaitRequest();
  void WatchClient();
  void OnClientGone();
  void EndExchange(int status);
  void Log(int status, const HttpRequest& request);
  void Linger();
  void Close();
  // One lazy deadline: moving it forward costs nothing, the timer finds out when it fires.
  void SetDeadline(int ms);
  void ClearDeadline() { deadline_ = Clock::time_point::max(); }
  void ArmTimer();
  void OnTimer();
  void OnDeadline();

  // session_read.cc
  void Read(size_t bytes);
  void OnRead(ErrorCode ec, size_t n);
  void OnHeadBytes();
  void OnHead();
  void OnParsedHead(const Framing& framing);
  std::optional<api::ApiError> CheckContent(const Framing& framing) const;
  std::string_view Field(beast::http::field name) const { return ViewOf(parser_->get()[name]); }
  api::ApiError TooLarge() const;
  void CountChunks();
  void SendContinue();
  void FeedBody();
  void FailFraming(const api::ApiError& error);

  // session_answer.cc
  void Dispatch();
  void Pump();
  void CutOff();
  void WriteStream(bool ended);
  void Answer(HttpResponse response);
  void WriteAnswer();
  void EndAnswer();
  void AnswerOptions(const Router::Match& match);
  std::string AllowedHeaders() const;
  std::string AllowedOrigin(std::string_view origin) const;
  void Refuse(const api::ApiError& error,
              std::vector<std::pair<std::string, std::string>> headers = {});
  void AnswerUnread(HttpResponse response);

  ClientStream stream_;
  Site* const site_;
  const std::function<void()> release_;
  asio::steady_timer timer_;
  Clock::time_point deadline_ = Clock::time_point::max(), timer_at_;
  beast::flat_buffer buffer_;
  std::vector<char> read_space_;
  HeadScanner scanner_;
  std::optional<Parser> parser_;
  std::function<void(uint64_t, beast::string_view, ErrorCode&)> on_chunk_;
  HttpRequest request_;
  AnswerContext context_;
  const Route* route_ = nullptr;
  std::shared_ptr<Exchange> exchange_;
  // Ourselves, while a handler works and enough has been sent ahead that we read no more: no
  // operation is in flight then that would keep us.
  std::shared_ptr<Session> paused_;
  std::string head_, out_;  // of the write in flight
  Clock::time_point started_, body_started_, write_started_;
  Clock::duration write_time_{};  // of this answer, while a write was under way
  int64_t body_received_ = 0, num_chunks_ = 0, lingered_ = 0, bytes_out_ = 0;
  int num_requests_ = 0, status_ = 0;
  Phase phase_ = Phase::kIdle;
  bool reading_ = false, writing_ = false, timer_armed_ = false, has_body_ = false,
       streaming_ = false, skipped_line_ = false, final_write_ = false;
};

}  // namespace modu::http
