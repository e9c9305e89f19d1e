#include "server/http/session.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <optional>
#include <type_traits>

#include "boost/asio/post.hpp"
#include "boost/asio/ssl/stream.hpp"
#include "boost/asio/steady_timer.hpp"
#include "boost/asio/write.hpp"
#include "boost/beast/core/flat_buffer.hpp"
#include "boost/beast/http/parser.hpp"
#include "boost/beast/http/string_body.hpp"
#include "kernels/check.h"
#include "server/api/response_json.h"
#include "server/http/answer_head.h"
#include "server/http/head_check.h"

namespace modu::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
using Clock = std::chrono::steady_clock;
using ErrorCode = boost::system::error_code;
using Tcp = asio::ip::tcp;
using TlsStream = asio::ssl::stream<Tcp::socket>;

constexpr size_t kReadBytes = 4 << 10;
constexpr size_t kBodyReadBytes = 64 << 10;
constexpr size_t kPipelineBytes = 64 << 10;  // what a client may send ahead while its request runs
constexpr int kUnsentBytes =
    128 << 10;  // of a stream in the kernel: the rest waits, and is counted, with us
constexpr int64_t kLingerBytes = 16 << 20;
constexpr int kLingerMs = 2'000;
constexpr int64_t kMinBodyRate = 1 << 10;    // bytes a second, after the first idle period
constexpr uint32_t kTrailerBytes = 4 << 10;  // of a chunked body
constexpr int64_t kMaxChunks = 65'536;       // of one body

std::string_view ViewOf(const beast::flat_buffer& buffer) {
  const auto data = buffer.data();
  return {static_cast<const char*>(data.data()), data.size()};
}

std::string_view ViewOf(beast::string_view text) { return {text.data(), text.size()}; }

void TuneSocket(Tcp::socket& socket, const api::Limits& limits) {
  ErrorCode ignored;
  socket.set_option(Tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  const int fd = socket.native_handle();
  const int unsent = kUnsentBytes;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
  const unsigned vanished_ms = static_cast<unsigned>(limits.write_stall_ms);
  ::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &vanished_ms, sizeof vanished_ms);
}

HttpResponse ErrorResponse(const api::ApiError& error) {
  HttpResponse response;
  response.status = error.http_status;
  response.body = api::ErrorJson(error);
  if (error.http_status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  if (error.retry_after_s > 0)
    response.headers.emplace_back("Retry-After", std::to_string(error.retry_after_s));
  return response;
}

template <typename Stream>
class Session final : public SessionBase, public std::enable_shared_from_this<Session<Stream>> {
  static constexpr bool kTls = std::is_same_v<Stream, TlsStream>;

 public:
  Session(Stream stream, Site* site, std::function<void()> release)
      : stream_(std::move(stream)),
        site_(site),
        release_(std::move(release)),
        timer_(stream_.get_executor()),
        buffer_(kBodyReadBytes + site->limits.max_request_line_bytes +
                site->limits.max_header_bytes) {
    ++site_->counters.connections;
    ++site_->counters.accepted_total;
  }

  ~Session() override {
    if (exchange_) EndExchange(499);
    site_->Unregister(this);
    --site_->counters.connections;
    release_();
  }

  void Start() override {
    site_->Register(this->shared_from_this());
    TuneSocket(socket(), limits());
    if constexpr (kTls) {
      phase_ = Phase::kHandshake;
      SetDeadline(limits().header_deadline_ms);
      stream_.async_handshake(asio::ssl::stream_base::server, [self = Self()](ErrorCode ec) {
        if (self->phase_ == Phase::kClosed) return;
        if (ec) return self->Close();
        self->AwaitRequest();
      });
    } else {
      AwaitRequest();
    }
  }

  void CloseIfIdle() override {
    asio::post(stream_.get_executor(), [self = Self()] {
      if (self->phase_ == Phase::kIdle && self->num_requests_ > 0) self->Close();
    });
  }
  void Dismiss() override {
    asio::post(stream_.get_executor(), [self = Self()] {
      if (!self->exchange_) return;
      api::ApiError error = HttpError(503, "the server is shutting down", "shutting_down");
      error.retry_after_s = 1;
      self->exchange_->Dismiss(ErrorResponse(error));
    });
  }
  void Abort() override {
    asio::post(stream_.get_executor(), [self = Self()] { self->Close(); });
  }

 private:
  enum class Phase : uint8_t { kHandshake, kIdle, kHead, kBody, kHandling, kLinger, kClosed };
  using Parser = beast::http::request_parser<beast::http::string_body>;

  std::shared_ptr<Session> Self() { return this->shared_from_this(); }
  const api::Limits& limits() const { return site_->limits; }
  Tcp::socket& socket() {
    if constexpr (kTls) {
      return stream_.next_layer();
    } else {
      return stream_;
    }
  }

  // --- reading
  // -----------------------------------------------------------------------------------------------------

  void AwaitRequest() {
    phase_ = Phase::kIdle;
    scanner_.Reset();
    parser_.reset();
    if (buffer_.size() > 0) return OnHeadBytes();
    if (site_->draining && num_requests_ > 0) return Close();
    buffer_.clear();
    buffer_.shrink_to_fit();
    SetDeadline(limits().keepalive_idle_ms);
    if (reading_) return;
    std::vector<char>().swap(read_space_);
    if constexpr (kTls) {
      Read(kReadBytes);
    } else {
      reading_ = true;
      stream_.async_wait(Tcp::socket::wait_read, [self = Self()](ErrorCode ec) {
        self->reading_ = false;
        if (self->phase_ == Phase::kClosed) return;
        if (ec) return self->Close();
        self->Read(kReadBytes);
      });
    }
  }

  /// Into a space of its own: the buffer may be consumed while a read is in flight.
  void Read(size_t bytes) {
    if (reading_) return;
    bytes = std::min(bytes, buffer_.max_size() - buffer_.size());
    MODU_CHECK(bytes > 0);
    reading_ = true;
    if (read_space_.size() < bytes) read_space_.resize(bytes);
    stream_.async_read_some(
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

  void OnRead(ErrorCode ec, size_t n) {
    const bool ended = ec == asio::error::eof || ec == asio::ssl::error::stream_truncated;
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

  void OnHeadBytes() {
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

  void OnHead() {
    ++site_->counters.requests_total;
    const std::string_view head = ViewOf(buffer_).substr(0, scanner_.head_bytes());
    context_ = AnswerContext();
    request_ = HttpRequest();
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

  std::string_view Field(beast::http::field name) const { return ViewOf(parser_->get()[name]); }

  void OnParsedHead(const Framing& framing) {
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
    if (request_.method == "OPTIONS") return AnswerOptions(match);
    if (site_->allow_key && !match.open && !site_->allow_key(Field(field::authorization))) {
      return Refuse(HttpError(401, "a valid API key is needed: Authorization: Bearer KEY",
                              "invalid_api_key"));
    }
    if (!match.route) {
      if (match.allow.empty()) return Refuse(HttpError(404, "no such route"));
      return Refuse(HttpError(405, "method not allowed for this route"), {{"Allow", match.allow}});
    }
    route_ = match.route;
    request_.route = route_->pattern;
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
    if (framing.chunked) CountChunks();
    body_received_ = 0;
    phase_ = Phase::kBody;
    body_started_ = Clock::now();
    if (has_body_ && buffer_.size() == 0 && !Field(field::expect).empty() && context_.http11)
      return SendContinue();
    FeedBody();
  }

  std::optional<api::ApiError> CheckContent(const Framing& framing) const {
    using beast::http::field;
    const std::string_view expect = Field(field::expect);
    if (!expect.empty() &&
        !beast::iequals(beast::string_view(expect.data(), expect.size()), "100-continue")) {
      return HttpError(417, "the only expectation supported is 100-continue");
    }
    const std::string_view encoding = Field(field::content_encoding);
    if (!encoding.empty() && encoding != "identity") {
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

  api::ApiError TooLarge() const {
    return HttpError(413, "body over " + std::to_string(limits().max_body_bytes) + " bytes",
                     "body_too_large");
  }

  void CountChunks() {
    num_chunks_ = 0;
    on_chunk_ = [this](uint64_t, beast::string_view extensions, ErrorCode& ec) {
      const bool bare = extensions.find('\r') != beast::string_view::npos ||
                        extensions.find('\n') != beast::string_view::npos;
      if (++num_chunks_ > kMaxChunks || bare) ec = beast::http::error::bad_chunk_extension;
    };
    parser_->on_chunk_header(on_chunk_);
  }

  void SendContinue() {
    SetDeadline(limits().body_idle_ms);
    head_ = "HTTP/1.1 100 Continue\r\n\r\n";
    writing_ = true;
    asio::async_write(stream_, asio::buffer(head_), [self = Self()](ErrorCode ec, size_t) {
      self->writing_ = false;
      if (self->phase_ == Phase::kClosed) return;
      if (ec) return self->Close();
      self->FeedBody();
    });
  }

  void FeedBody() {
    ErrorCode ec;
    while (!parser_->is_done() && buffer_.size() > 0) {
      const size_t used = parser_->put(buffer_.data(), ec);
      buffer_.consume(used);
      if (ec) break;
    }
    if (ec == beast::http::error::body_limit) return FailFraming(TooLarge());
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

  void WatchClient() {
    if (!reading_ && buffer_.size() < kPipelineBytes && phase_ == Phase::kHandling)
      Read(kReadBytes);
  }

  void OnClientGone() {
    ++site_->counters.abandoned_total;
    Close();
  }

  // --- answering
  // ---------------------------------------------------------------------------------------------------

  void Dispatch() {
    phase_ = Phase::kHandling;
    ClearDeadline();
    request_.body = std::move(parser_->get().body());
    parser_.reset();
    status_ = 0;
    bytes_out_ = 0;
    streaming_ = final_write_ = false;
    ++site_->counters.exchanges;
    std::weak_ptr<Session> weak = this->weak_from_this();
    exchange_ =
        std::make_shared<Exchange>(std::move(request_), [weak, executor = stream_.get_executor()] {
          asio::post(executor, [weak] {
            if (auto self = weak.lock()) self->Pump();
          });
        });
    route_->handler(exchange_);
    Pump();
    WatchClient();
  }

  /// Takes what the handler has said since the last time and writes it as one.
  void Pump() {
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

  void CutOff() {
    ++site_->counters.cut_off_total;
    Close();
  }

  /// head_, then out_ as one chunk, then, if it is the end, the last chunk.
  void WriteStream(bool ended) {
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
    const std::array<asio::const_buffer, 3> parts = {asio::buffer(head_), asio::buffer(out_),
                                                     asio::buffer(tail.data(), tail.size())};
    bytes_out_ += static_cast<int64_t>(total);
    writing_ = true;
    final_write_ = ended;
    SetDeadline(limits().write_stall_ms);
    asio::async_write(stream_, parts, [self = Self(), ended](ErrorCode ec, size_t) {
      self->writing_ = false;
      if (self->phase_ == Phase::kClosed) return;
      if (ec) return self->OnClientGone();
      self->exchange_->Written();
      if (ended) return self->EndAnswer();
      self->Pump();
    });
  }

  void Answer(HttpResponse response) {
    status_ = response.status;
    if (site_->draining) context_.keep_alive = false;
    out_ = FormatAnswer(response, context_);
    bytes_out_ += static_cast<int64_t>(out_.size());
    WriteAnswer();
  }

  void WriteAnswer() {
    writing_ = final_write_ = true;
    SetDeadline(limits().write_stall_ms +
                static_cast<int>(std::min<size_t>(out_.size() / 16, 600'000)));
    asio::async_write(stream_, asio::buffer(out_), [self = Self()](ErrorCode ec, size_t) {
      self->writing_ = false;
      if (self->phase_ == Phase::kClosed) return;
      if (ec) return self->OnClientGone();
      self->EndAnswer();
    });
  }

  void EndAnswer() {
    EndExchange(status_);
    out_.clear();
    if (out_.capacity() > kReadBytes) out_.shrink_to_fit();
    head_.clear();
    if (context_.keep_alive) return AwaitRequest();
    Linger();
  }

  void EndExchange(int status) {
    if (!exchange_) return;
    const std::shared_ptr<Exchange> exchange = std::move(exchange_);
    exchange_ = nullptr;
    exchange->Abandon();  // no-op for a complete one
    --site_->counters.exchanges;
    Log(status, exchange->request());
  }

  void Log(int status, const HttpRequest& request) {
    if (!site_->on_answer) return;
    AccessRecord record;
    record.method = request.method;
    record.request_id = request.request_id;
    record.route = request.route;
    record.status = status;
    record.bytes_out = bytes_out_;
    record.seconds = std::chrono::duration<double>(Clock::now() - started_).count();
    record.streamed = streaming_;
    site_->on_answer(record);
  }

  void AnswerOptions(const Router::Match& match) {
    HttpResponse response;
    response.status = 204;
    const std::string allow = match.allow.empty() ? "GET, HEAD, POST, OPTIONS" : match.allow;
    response.headers.emplace_back("Allow", allow);
    if (!context_.allow_origin.empty()) {
      response.headers.emplace_back("Access-Control-Allow-Methods", allow);
      response.headers.emplace_back("Access-Control-Allow-Headers",
                                    "Authorization, Content-Type, X-Request-Id");
      response.headers.emplace_back("Access-Control-Max-Age", "600");
    }
    AnswerUnread(std::move(response));
  }

  std::string AllowedOrigin(std::string_view origin) const {
    if (origin.empty()) return "";
    for (const std::string& allowed : site_->cors_origins) {
      if (allowed == "*") return "*";
      if (allowed == origin) return allowed;
    }
    return "";
  }

  /// An error before the body was read: the connection can only be kept if there is none.
  void Refuse(const api::ApiError& error,
              std::vector<std::pair<std::string, std::string>> headers = {}) {
    HttpResponse response = ErrorResponse(error);
    for (auto& header : headers) response.headers.push_back(std::move(header));
    AnswerUnread(std::move(response));
  }

  void AnswerUnread(HttpResponse response) {
    if (has_body_) context_.keep_alive = false;
    phase_ = Phase::kHandling;
    streaming_ = false;
    bytes_out_ = 0;
    Answer(std::move(response));
    Log(status_, request_);
  }

  /// Where the next request would begin is not known: answer and close.
  void FailFraming(const api::ApiError& error) {
    ++site_->counters.bad_framing_total;
    if (context_.request_id.empty()) context_.request_id = ChooseRequestId("");
    context_.keep_alive = false;
    has_body_ = true;
    AnswerUnread(ErrorResponse(error));
  }

  // --- ending
  // ------------------------------------------------------------------------------------------------------

  /// Closing with unread bytes would reset the connection and take the answer with it: say that we
  /// are done, and read on for a moment.
  void Linger() {
    phase_ = Phase::kLinger;
    lingered_ = 0;
    buffer_.clear();
    SetDeadline(kLingerMs);
    if constexpr (kTls) {
      if (!reading_) {
        stream_.async_shutdown([self = Self()](ErrorCode) { self->Close(); });
        return;
      }
    }
    ErrorCode ignored;
    socket().shutdown(Tcp::socket::shutdown_send, ignored);
    Read(kReadBytes);
  }

  void Close() {
    if (phase_ == Phase::kClosed) return;
    const bool reset =
        exchange_ !=
        nullptr;  // what is still queued for a client cut off is not to stay in the kernel
    phase_ = Phase::kClosed;
    EndExchange(499);
    ErrorCode ignored;
    if (reset) socket().set_option(asio::socket_base::linger(true, 0), ignored);
    socket().close(ignored);
    timer_.cancel();
  }

  // --- one lazy deadline: moving it forward costs nothing, the timer finds out when it fires
  // ---------------------------

  void SetDeadline(int ms) {
    deadline_ = Clock::now() + std::chrono::milliseconds(ms);
    if (!timer_armed_ || deadline_ < timer_at_) ArmTimer();
  }
  void ClearDeadline() { deadline_ = Clock::time_point::max(); }

  void ArmTimer() {
    timer_armed_ = true;
    timer_at_ = deadline_;
    timer_.expires_at(deadline_);
    timer_.async_wait([weak = this->weak_from_this()](ErrorCode ec) {
      if (ec) return;  // armed anew for an earlier time, or closed
      if (auto self = weak.lock()) self->OnTimer();
    });
  }

  void OnTimer() {
    timer_armed_ = false;
    if (phase_ == Phase::kClosed || deadline_ == Clock::time_point::max()) return;
    if (Clock::now() < deadline_) return ArmTimer();
    OnDeadline();
  }

  void OnDeadline() {
    switch (phase_) {
      case Phase::kHead:
        return FailFraming(HttpError(408, "the head did not come in time"));
      case Phase::kBody:
        if (writing_) return Close();
        return FailFraming(HttpError(408, "the body did not come in time"));
      case Phase::kHandling:
        if (!writing_ && streaming_) {
          out_ = ": ping\n\n";
          head_.clear();
          return WriteStream(false);
        }
        if (writing_) {
          ++site_->counters.stalled_total;
          return Close();
        }
        return;
      default:
        return Close();
    }
  }

  Stream stream_;
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
  std::string head_, out_;  // of the write in flight
  Clock::time_point started_, body_started_;
  int64_t body_received_ = 0, num_chunks_ = 0, lingered_ = 0, bytes_out_ = 0;
  int num_requests_ = 0, status_ = 0;
  Phase phase_ = Phase::kIdle;
  bool reading_ = false, writing_ = false, timer_armed_ = false, has_body_ = false,
       streaming_ = false, skipped_line_ = false, final_write_ = false;
};

}  // namespace

std::shared_ptr<SessionBase> MakeSession(Tcp::socket socket, asio::ssl::context* tls, Site* site,
                                         std::function<void()> release) {
  if (tls != nullptr) {
    return std::make_shared<Session<TlsStream>>(TlsStream(std::move(socket), *tls), site,
                                                std::move(release));
  }
  return std::make_shared<Session<Tcp::socket>>(std::move(socket), site, std::move(release));
}

}  // namespace modu::http
