#include <algorithm>
#include <charconv>

#include "boost/asio/post.hpp"
#include "server/http/routes.h"
#include "server/http/session_state.h"

namespace modu::http {
namespace {

void DropFront(size_t bytes, ClientStream::Parts* parts) {
  for (asio::const_buffer& part : *parts) {
    const size_t dropped = std::min(bytes, part.size());
    part += dropped;
    bytes -= dropped;
  }
}

}  // namespace

void Session::Dispatch() {
  phase_ = Phase::kHandling;
  ClearDeadline();
  request_.body = std::move(parser_->get().body());
  parser_.reset();
  status_ = 0;
  bytes_out_ = 0;
  write_time_ = {};
  streaming_ = final_write_ = false;
  ++site_->counters.exchanges;
  std::weak_ptr<Session> weak = weak_from_this();
  exchange_ =
      std::make_shared<Exchange>(std::move(request_), [weak, executor = stream_.executor()] {
        asio::post(executor, [weak] {
          if (auto self = weak.lock()) self->Pump();
        });
      });
  route_->handler(exchange_);
  Pump();
  WatchClient();
}

/// Takes what the handler has said since the last time and writes it as one.
void Session::Pump() {
  if (phase_ != Phase::kHandling || !exchange_) return;
  if (writing_) {
    if (!final_write_ && exchange_->abandoned()) CutOff();
    return;
  }
  HttpResponse response;
  const Exchange::Taken taken = exchange_->Take(&out_, &response);
  if (taken.cut_off) return CutOff();
  if (taken.responded) return Answer(std::move(response));
  head_.clear();
  if (taken.opened) {
    streaming_ = true;
    status_ = 200;
    if (site_->draining) context_.keep_alive = false;
    if (!context_.http11) context_.keep_alive = false;
    head_ = FormatStreamHead(context_);
  }
  if (context_.head_only) out_.clear();
  WriteStream(taken.ended);
}

void Session::CutOff() {
  ++site_->counters.cut_off_total;
  Close();
}

/// head_, then out_ as one chunk, then, if it is the end, the last chunk.
void Session::WriteStream(bool ended) {
  std::string_view tail;
  if (context_.http11) {
    if (!out_.empty()) {
      char hex[16];
      const auto result = std::to_chars(hex, hex + sizeof hex, out_.size(), 16);
      head_.append(hex, result.ptr).append("\r\n");
    }
    tail = !ended ? "\r\n" : out_.empty() ? "0\r\n\r\n" : "\r\n0\r\n\r\n";
    if (out_.empty() && !ended) tail = "";
  }
  const size_t total = head_.size() + out_.size() + tail.size();
  if (total == 0) {
    if (ended) return EndAnswer();
    return SetDeadline(limits().sse_ping_ms);
  }
  ClientStream::Parts parts = {asio::buffer(head_), asio::buffer(out_),
                               asio::buffer(tail.data(), tail.size())};
  bytes_out_ += static_cast<int64_t>(total);
  write_started_ = Clock::now();
  const size_t written = stream_.WriteSome(parts);
  if (written == total && !ended) {  // the end goes on to the next request, never from within this
    write_time_ += Clock::now() - write_started_;
    exchange_->Written();
    return SetDeadline(limits().sse_ping_ms);
  }
  DropFront(written, &parts);
  writing_ = true;
  final_write_ = ended;
  if (!ended) exchange_->WriteWaits();
  SetDeadline(limits().write_stall_ms);
  stream_.Write(parts, [self = Self(), ended](ErrorCode ec) {
    self->writing_ = false;
    self->write_time_ += Clock::now() - self->write_started_;
    if (self->phase_ == Phase::kClosed) return;
    if (ec) return self->OnClientGone();
    self->exchange_->Written();
    if (ended) return self->EndAnswer();
    self->Pump();
  });
}

void Session::Answer(HttpResponse response) {
  status_ = response.status;
  if (site_->draining) context_.keep_alive = false;
  out_ = FormatAnswer(response, context_);
  bytes_out_ += static_cast<int64_t>(out_.size());
  WriteAnswer();
}

void Session::WriteAnswer() {
  writing_ = final_write_ = true;
  write_started_ = Clock::now();
  SetDeadline(limits().write_stall_ms +
              static_cast<int>(std::min<size_t>(out_.size() / 16, 600'000)));
  stream_.Write({asio::buffer(out_)}, [self = Self()](ErrorCode ec) {
    self->writing_ = false;
    self->write_time_ += Clock::now() - self->write_started_;
    if (self->phase_ == Phase::kClosed) return;
    if (ec) return self->OnClientGone();
    self->EndAnswer();
  });
}

void Session::EndAnswer() {
  EndExchange(status_);
  out_.clear();
  if (out_.capacity() > kReadBytes) out_.shrink_to_fit();
  head_.clear();
  if (context_.keep_alive) return AwaitRequest();
  Linger();
}

void Session::AnswerOptions(const Router::Match& match) {
  HttpResponse response;
  response.status = 204;
  const std::string allow = match.allow.empty() ? "GET, HEAD, POST, OPTIONS" : match.allow;
  response.headers.emplace_back("Allow", allow);
  if (!context_.allow_origin.empty()) {
    response.headers.emplace_back("Access-Control-Allow-Methods", allow);
    response.headers.emplace_back("Access-Control-Allow-Headers", AllowedHeaders());
    response.headers.emplace_back("Access-Control-Max-Age", "600");
  }
  AnswerUnread(std::move(response));
}

/// What a page asks for: clients send headers of their own, and none of them means more here than
/// it says. The origin is what is trusted.
std::string Session::AllowedHeaders() const {
  constexpr size_t kMostBytes = 1 << 10;
  const std::string_view asked = ViewOf(parser_->get()["Access-Control-Request-Headers"]);
  const auto plain = [](char c) {
    return ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z') || ('0' <= c && c <= '9') || c == '-' ||
           c == '_' || c == ',' || c == ' ';
  };
  if (asked.empty() || asked.size() > kMostBytes || !std::ranges::all_of(asked, plain))
    return "Authorization, Content-Type, X-Request-Id";
  return std::string(asked);
}

std::string Session::AllowedOrigin(std::string_view origin) const {
  if (origin.empty()) return "";
  for (const std::string& allowed : site_->cors_origins) {
    if (allowed == "*") return "*";
    if (allowed == origin) return allowed;
  }
  return "";
}

/// An error before the body was read: the connection can only be kept if there is none.
void Session::Refuse(const api::ApiError& error,
                     std::vector<std::pair<std::string, std::string>> headers) {
  if (route_ && route_->on_refused) route_->on_refused(error);
  HttpResponse response = ErrorAnswer(error);
  for (auto& header : headers) response.headers.push_back(std::move(header));
  AnswerUnread(std::move(response));
}

void Session::AnswerUnread(HttpResponse response) {
  if (has_body_) context_.keep_alive = false;
  phase_ = Phase::kHandling;
  streaming_ = false;
  bytes_out_ = 0;
  write_time_ = {};
  Answer(std::move(response));
  Log(status_, request_);
}

}  // namespace modu::http
