#include "server/http/session.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include "boost/asio/post.hpp"
#include "server/http/routes.h"
#include "server/http/session_state.h"

namespace modu::http {
namespace {

constexpr size_t kPipelineBytes = 64 << 10;  // what a client may send ahead while its request runs
// Of a stream, in the kernel: the rest waits with us, where it is counted and its tokens share
// events.
constexpr int kUnsentBytes = 16 << 10;
constexpr int kLingerMs = 2'000;

void TuneSocket(asio::ip::tcp::socket& socket, const api::Limits& limits) {
  boost::system::error_code ignored;
  socket.set_option(asio::ip::tcp::no_delay(true), ignored);
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  const int fd = socket.native_handle();
  const int unsent = kUnsentBytes;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &unsent, sizeof unsent);
  const unsigned vanished_ms = static_cast<unsigned>(limits.write_stall_ms);
  ::setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &vanished_ms, sizeof vanished_ms);
}

}  // namespace

Session::Session(ClientStream stream, Site* site, std::function<void()> release)
    : stream_(std::move(stream)),
      site_(site),
      release_(std::move(release)),
      timer_(stream_.executor()),
      buffer_(kBodyReadBytes + site->limits.max_request_line_bytes +
              site->limits.max_header_bytes) {
  ++site_->counters.connections;
  ++site_->counters.accepted_total;
}

Session::~Session() {
  if (exchange_) EndExchange(499);
  site_->Unregister(this);
  --site_->counters.connections;
  release_();
}

void Session::Start() {
  site_->Register(shared_from_this());
  TuneSocket(socket(), limits());
  if (!stream_.is_tls()) return AwaitRequest();
  phase_ = Phase::kHandshake;
  SetDeadline(limits().header_deadline_ms);
  stream_.Handshake([self = Self()](ErrorCode ec) {
    if (self->phase_ == Phase::kClosed) return;
    if (ec) return self->Close();
    self->AwaitRequest();
  });
}

void Session::CloseIfIdle() {
  asio::post(stream_.executor(), [self = Self()] {
    if (self->phase_ == Phase::kIdle && self->num_requests_ > 0) self->Close();
  });
}

void Session::Dismiss() {
  asio::post(stream_.executor(), [self = Self()] {
    if (!self->exchange_) return;
    api::ApiError error = HttpError(503, "the server is shutting down", "shutting_down");
    error.retry_after_s = 1;
    self->exchange_->Dismiss(ErrorAnswer(error));
  });
}

void Session::Abort() {
  asio::post(stream_.executor(), [self = Self()] { self->Close(); });
}

void Session::AwaitRequest() {
  phase_ = Phase::kIdle;
  context_ = AnswerContext();
  request_ = HttpRequest();
  route_ = nullptr;
  scanner_.Reset();
  parser_.reset();
  if (buffer_.size() > 0) return OnHeadBytes();
  if (site_->draining && num_requests_ > 0) return Close();
  buffer_.clear();
  buffer_.shrink_to_fit();
  SetDeadline(limits().keepalive_idle_ms);
  if (reading_) return;
  std::vector<char>().swap(read_space_);
  if (stream_.is_tls()) return Read(kReadBytes);
  reading_ = true;
  socket().async_wait(Tcp::socket::wait_read, [self = Self()](ErrorCode ec) {
    self->reading_ = false;
    if (self->phase_ == Phase::kClosed) return;
    if (ec) return self->Close();
    self->Read(kReadBytes);
  });
}

void Session::EndExchange(int status) {
  if (!exchange_) return;
  const std::shared_ptr<Exchange> exchange = std::move(exchange_);
  exchange_ = nullptr;
  exchange->Abandon();  // no-op for a complete one
  --site_->counters.exchanges;
  Log(status, exchange->request());
}

void Session::Log(int status, const HttpRequest& request) {
  if (!site_->on_answer) return;
  AccessRecord record;
  record.method = request.method;
  record.request_id = request.request_id;
  record.route = request.route;
  record.status = status;
  record.bytes_out = bytes_out_;
  record.seconds = std::chrono::duration<double>(Clock::now() - started_).count();
  record.write_seconds = std::chrono::duration<double>(write_time_).count();
  record.streamed = streaming_;
  site_->on_answer(record);
}

void Session::WatchClient() {
  if (reading_ || phase_ != Phase::kHandling) return;
  if (buffer_.size() < kPipelineBytes) return Read(kReadBytes);
  paused_ = Self();
}

void Session::OnClientGone() {
  ++site_->counters.abandoned_total;
  Close();
}

/// Closing with unread bytes would reset the connection and take the answer with it: say that we
/// are done, and read on for a moment.
void Session::Linger() {
  phase_ = Phase::kLinger;
  lingered_ = 0;
  buffer_.clear();
  SetDeadline(kLingerMs);
  if (stream_.is_tls() && !reading_) {
    stream_.Shutdown([self = Self()](ErrorCode) { self->Close(); });
    return;
  }
  ErrorCode ignored;
  socket().shutdown(Tcp::socket::shutdown_send, ignored);
  Read(kReadBytes);
}

void Session::Close() {
  if (phase_ == Phase::kClosed) return;
  const std::shared_ptr<Session> last = std::move(paused_);
  // What is still queued for a client cut off is not to stay in the kernel.
  const bool reset = exchange_ != nullptr;
  phase_ = Phase::kClosed;
  EndExchange(499);
  ErrorCode ignored;
  if (reset) socket().set_option(asio::socket_base::linger(true, 0), ignored);
  socket().close(ignored);
  timer_.cancel();
}

void Session::SetDeadline(int ms) {
  deadline_ = Clock::now() + std::chrono::milliseconds(ms);
  if (!timer_armed_ || deadline_ < timer_at_) ArmTimer();
}

void Session::ArmTimer() {
  timer_armed_ = true;
  timer_at_ = deadline_;
  timer_.expires_at(deadline_);
  timer_.async_wait([weak = weak_from_this()](ErrorCode ec) {
    if (ec) return;  // armed anew for an earlier time, or closed
    if (auto self = weak.lock()) self->OnTimer();
  });
}

void Session::OnTimer() {
  timer_armed_ = false;
  if (phase_ == Phase::kClosed || deadline_ == Clock::time_point::max()) return;
  if (Clock::now() < deadline_) return ArmTimer();
  OnDeadline();
}

void Session::OnDeadline() {
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

std::shared_ptr<SessionBase> MakeSession(asio::ip::tcp::socket socket, asio::ssl::context* tls,
                                         Site* site, std::function<void()> release) {
  return std::make_shared<Session>(ClientStream(std::move(socket), tls), site, std::move(release));
}

}  // namespace modu::http
