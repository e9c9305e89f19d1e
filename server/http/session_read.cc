#include <algorithm>

#include "kernels/check.h"
#include "server/http/routes.h"
#include "server/http/session_state.h"

namespace modu::http {
namespace {

constexpr int64_t kLingerBytes = 16 << 20;
constexpr int64_t kMinBodyRate = 1 << 10;    // bytes a second, after the first idle period
constexpr uint32_t kTrailerBytes = 4 << 10;  // of a chunked body

std::string_view ViewOf(const beast::flat_buffer& buffer) {
  const auto data = buffer.data();
  return {static_cast<const char*>(data.data()), data.size()};
}

}  // namespace

api::ApiError Session::TooLarge() const {
  return HttpError(413, "body over " + std::to_string(limits().max_body_bytes) + " bytes",
                   "body_too_large");
}

/// Into a space of its own: the buffer may be consumed while a read is in flight.
void Session::Read(size_t bytes) {
  if (reading_) return;
  const std::shared_ptr<Session> paused = std::move(paused_);
  bytes = std::min(bytes, buffer_.max_size() - buffer_.size());
  MODU_CHECK(bytes > 0);
  reading_ = true;
  if (read_space_.size() < bytes) read_space_.resize(bytes);
  stream_.ReadSome(
      asio::buffer(read_space_.data(), bytes), [self = Self()](ErrorCode ec, size_t n) {
        self->reading_ = false;
        if (self->phase_ == Phase::kClosed) return;
        if (n > 0 && self->phase_ != Phase::kLinger) {
          const size_t kept = asio::buffer_copy(
              self->buffer_.prepare(std::min(n, self->buffer_.max_size() - self->buffer_.size())),
              asio::buffer(self->read_space_.data(), n));
          self->buffer_.commit(kept);
        }
        self->OnRead(ec, n);
      });
}

void Session::OnRead(ErrorCode ec, size_t n) {
  const bool ended = ClientStream::IsEnd(ec);
  switch (phase_) {
    case Phase::kHandshake:
    case Phase::kClosed:
      return;
    case Phase::kIdle:
    case Phase::kHead:
      if (ended && buffer_.size() > 0)
        return FailFraming(HttpError(400, "the request ended within its head"));
      if (ec) return Close();
      return OnHeadBytes();
    case Phase::kBody:
      if (ended) return FailFraming(HttpError(400, "the request ended within its body"));
      if (ec) return Close();
      body_received_ += static_cast<int64_t>(n);
      return FeedBody();
    case Phase::kHandling:
      if (ended &&
          final_write_) {  // a client that only closed its sending side still gets its answer
        context_.keep_alive = false;
        return;
      }
      if (ec) return OnClientGone();
      return WatchClient();
    case Phase::kLinger:
      lingered_ += static_cast<int64_t>(n);
      if (ec || lingered_ > kLingerBytes) return Close();
      return Read(kBodyReadBytes);
  }
}

void Session::OnHeadBytes() {
  if (phase_ == Phase::kIdle) {
    phase_ = Phase::kHead;
    started_ = Clock::now();
    SetDeadline(limits().header_deadline_ms);
    skipped_line_ = false;
  }
  if (!skipped_line_ &&
      ViewOf(buffer_).starts_with("\r\n")) {  // RFC 9112 2.2: one empty line is forgiven
    buffer_.consume(2);
    scanner_.Reset();
    skipped_line_ = true;
  }
  switch (scanner_.Scan(ViewOf(buffer_), limits())) {
    case HeadScanner::State::kMore:
      return Read(kReadBytes);
    case HeadScanner::State::kBad:
      return FailFraming(scanner_.error());
    case HeadScanner::State::kComplete:
      return OnHead();
  }
}

void Session::OnHead() {
  ++site_->counters.requests_total;
  const std::string_view head = ViewOf(buffer_).substr(0, scanner_.head_bytes());
  Framing framing;
  if (auto error = CheckHead(head, limits(), &framing)) return FailFraming(*error);
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(head.size()) + kTrailerBytes);
  parser_->body_limit(boost::none);
  ErrorCode ec;
  const size_t used = parser_->put(asio::buffer(head.data(), head.size()), ec);
  if (ec || !parser_->is_header_done())
    return FailFraming(HttpError(400, "malformed request head"));
  buffer_.consume(used);
  OnParsedHead(framing);
}

void Session::OnParsedHead(const Framing& framing) {
  using beast::http::field;
  const auto& message = parser_->get();
  context_.http11 = message.version() >= 11;
  context_.request_id = ChooseRequestId(ViewOf(message["X-Request-Id"]));
  context_.keep_alive =
      parser_->keep_alive() && ++num_requests_ < limits().max_requests_per_connection;
  context_.allow_origin = AllowedOrigin(Field(field::origin));
  request_.method = std::string(ViewOf(message.method_string()));
  request_.request_id = context_.request_id;
  context_.head_only = request_.method == "HEAD";
  has_body_ = framing.chunked || framing.content_length.value_or(0) > 0;

  if (request_.method == "TRACE" || request_.method == "CONNECT") {
    return Refuse(HttpError(405, "method not allowed"), {{"Allow", "GET, HEAD, POST, OPTIONS"}});
  }
  if (!SplitTarget(ViewOf(message.target()), &request_.path, &request_.query)) {
    return Refuse(HttpError(400, "malformed request target"));
  }
  Router::Match match = site_->router.Find(request_.method, request_.path);
  route_ = match.route;
  if (route_) request_.route = route_->pattern;
  if (request_.method == "OPTIONS") return AnswerOptions(match);
  if (site_->allow_key && !match.open && !site_->allow_key(Field(field::authorization))) {
    return Refuse(
        HttpError(401, "a valid API key is needed: Authorization: Bearer KEY", "invalid_api_key"));
  }
  if (!route_) {
    if (match.allow.empty()) return Refuse(HttpError(404, "no such route"));
    return Refuse(HttpError(405, "method not allowed for this route"), {{"Allow", match.allow}});
  }
  request_.path_rest = std::move(match.path_rest);
  if (route_->admits_work && site_->draining) {
    api::ApiError error = HttpError(503, "the server is shutting down", "shutting_down");
    error.retry_after_s = 1;
    context_.keep_alive = false;
    return Refuse(error);
  }
  if (auto error = CheckContent(framing)) return Refuse(*error);
  parser_->body_limit(static_cast<uint64_t>(limits().max_body_bytes));
  parser_->eager(true);
  num_chunks_ = 0;
  if (framing.chunked) CountChunks();
  body_received_ = 0;
  phase_ = Phase::kBody;
  body_started_ = Clock::now();
  if (has_body_ && buffer_.size() == 0 && !Field(field::expect).empty() && context_.http11)
    return SendContinue();
  FeedBody();
}

std::optional<api::ApiError> Session::CheckContent(const Framing& framing) const {
  using beast::http::field;
  const std::string_view expect = Field(field::expect);
  if (!expect.empty() &&
      !beast::iequals(beast::string_view(expect.data(), expect.size()), "100-continue")) {
    return HttpError(417, "the only expectation supported is 100-continue");
  }
  const std::string_view encoding = Field(field::content_encoding);
  if (!encoding.empty() &&
      !beast::iequals(beast::string_view(encoding.data(), encoding.size()), "identity")) {
    return HttpError(415, "Content-Encoding is not supported: send the body as it is");
  }
  if (request_.method == "POST" && !IsJsonContentType(Field(field::content_type))) {
    return HttpError(415, "Content-Type must be application/json in UTF-8");
  }
  if (framing.content_length.value_or(0) > static_cast<uint64_t>(limits().max_body_bytes)) {
    return TooLarge();
  }
  return std::nullopt;
}

void Session::CountChunks() {
  on_chunk_ = [this](uint64_t, beast::string_view extensions, ErrorCode& ec) {
    const bool bare = extensions.find('\r') != beast::string_view::npos ||
                      extensions.find('\n') != beast::string_view::npos;
    if (++num_chunks_ > limits().max_chunks || bare) ec = beast::http::error::bad_chunk_extension;
  };
  parser_->on_chunk_header(on_chunk_);
}

void Session::SendContinue() {
  SetDeadline(limits().body_idle_ms);
  head_ = "HTTP/1.1 100 Continue\r\n\r\n";
  writing_ = true;
  stream_.Write({asio::buffer(head_)}, [self = Self()](ErrorCode ec) {
    self->writing_ = false;
    if (self->phase_ == Phase::kClosed) return;
    if (ec) return self->Close();
    self->FeedBody();
  });
}

void Session::FeedBody() {
  ErrorCode ec;
  while (!parser_->is_done() && buffer_.size() > 0) {
    const size_t used = parser_->put(buffer_.data(), ec);
    buffer_.consume(used);
    if (ec) break;
  }
  if (ec == beast::http::error::body_limit) return FailFraming(TooLarge());
  if (num_chunks_ > limits().max_chunks) {
    return FailFraming(
        HttpError(400, "more than " + std::to_string(limits().max_chunks) + " chunks in one body"));
  }
  if (ec && ec != beast::http::error::need_more)
    return FailFraming(HttpError(400, "malformed chunked body"));
  if (parser_->is_done()) return Dispatch();
  if (buffer_.size() == buffer_.max_size())
    return FailFraming(HttpError(400, "chunk header too long"));
  const int64_t elapsed_ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - body_started_).count();
  if (elapsed_ms > limits().body_idle_ms && body_received_ * 1000 < kMinBodyRate * elapsed_ms) {
    return FailFraming(HttpError(408, "the body comes slower than 1 KiB/s"));
  }
  SetDeadline(limits().body_idle_ms);
  Read(kBodyReadBytes);
}

/// Where the next request would begin is not known: answer and close.
void Session::FailFraming(const api::ApiError& error) {
  ++site_->counters.bad_framing_total;
  if (route_ && route_->on_refused) route_->on_refused(error);
  if (context_.request_id.empty()) context_.request_id = ChooseRequestId("");
  request_.request_id = context_.request_id;
  context_.keep_alive = false;
  has_body_ = true;
  AnswerUnread(ErrorAnswer(error));
}

}  // namespace modu::http
