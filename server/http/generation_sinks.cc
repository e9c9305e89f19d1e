#include "server/http/generation_sinks.h"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

#include "server/api/joined_deltas.h"
#include "server/http/routes.h"

namespace modu::http {
namespace {

class StreamSink final : public generation::ResponseSink,
                         public std::enable_shared_from_this<StreamSink> {
 public:
  StreamSink(std::shared_ptr<Exchange> exchange, const api::GenerationRequest& request,
             const api::Limits& limits, api::AnswerHead head, bool chat)
      : exchange_(std::move(exchange)), writer_(std::move(head), request, chat) {
    // A step of n choices is n events: the bound on events is one choice's.
    const int64_t num_choices =
        std::max<int64_t>(1, static_cast<int64_t>(request.prompts.size()) * request.n);
    bounds_.max_bytes = limits.stream_buffer_bytes;
    bounds_.max_events = limits.stream_buffer_events * num_choices;
  }

  void OnAccepted(const std::vector<std::vector<int32_t>>& prompt_ids) override {
    const std::lock_guard lock(mutex_);
    writer_.Accepted(prompt_ids);
    OpenLocked();
  }
  void OnEcho(api::PromptEcho echo) override {
    const std::lock_guard lock(mutex_);
    OpenLocked();
    ReleaseLocked();
    events_.clear();
    writer_.Echo(echo, &events_);
    exchange_->Push(events_);
  }
  void OnDelta(api::ChoiceDelta delta, const api::Usage& so_far) override {
    const std::lock_guard lock(mutex_);
    OpenLocked();
    if (exchange_->Hold(api::JoinedDeltas::BytesOf(delta)))
      return held_.Add(std::move(delta), so_far);
    ReleaseLocked();
    events_.clear();
    writer_.Delta(delta, so_far, &events_);
    exchange_->Push(events_);
  }
  bool Behind() const override { return exchange_->behind(); }
  void OnFinished(const api::Usage& usage) override {
    const std::lock_guard lock(mutex_);
    OpenLocked();
    ReleaseLocked();
    events_.clear();
    writer_.Finish(usage, &events_);
    exchange_->EndStream(events_);
  }
  void OnError(const api::ApiError& error) override {
    const std::lock_guard lock(mutex_);
    if (!opened_) return exchange_->Respond(ErrorAnswer(error));
    ReleaseLocked();
    events_.clear();
    api::ChunkWriter::Error(error, &events_);
    exchange_->EndStream(events_);
  }

 private:
  void OpenLocked() {
    if (std::exchange(opened_, true)) return;
    exchange_->OpenStream(bounds_, [weak = weak_from_this()] {
      const std::shared_ptr<StreamSink> self = weak.lock();
      if (self == nullptr) return;
      const std::lock_guard lock(self->mutex_);
      self->ReleaseLocked();
    });
  }

  void ReleaseLocked() {
    if (held_.empty()) return;
    events_.clear();
    const std::vector<api::ChoiceDelta> deltas = held_.Take();
    for (const api::ChoiceDelta& delta : deltas) writer_.Delta(delta, held_.so_far(), &events_);
    exchange_->Release(events_, static_cast<int>(deltas.size()));
  }

  const std::shared_ptr<Exchange> exchange_;
  StreamBounds bounds_;
  // Text threads say, the session's I/O thread takes what is held; taken before the exchange's own.
  std::mutex mutex_;
  api::ChunkWriter writer_;
  api::JoinedDeltas held_;
  bool opened_ = false;
  std::string events_;
};

class AnswerSink final : public generation::ResponseSink {
 public:
  AnswerSink(std::shared_ptr<Exchange> exchange, const api::GenerationRequest& request,
             api::AnswerHead head, bool chat)
      : exchange_(std::move(exchange)), builder_(std::move(head), request, chat) {}

  void OnAccepted(const std::vector<std::vector<int32_t>>& prompt_ids) override {
    builder_.Accepted(prompt_ids);
  }
  void OnEcho(api::PromptEcho echo) override { builder_.Echo(std::move(echo)); }
  void OnDelta(api::ChoiceDelta delta, const api::Usage&) override {
    builder_.Delta(std::move(delta));
  }
  void OnFinished(const api::Usage& usage) override {
    HttpResponse response;
    response.body = builder_.Finish(usage);
    exchange_->Respond(std::move(response));
  }
  void OnError(const api::ApiError& error) override { exchange_->Respond(ErrorAnswer(error)); }

 private:
  const std::shared_ptr<Exchange> exchange_;
  api::AnswerBuilder builder_;
};

}  // namespace

std::shared_ptr<generation::ResponseSink> MakeStreamSink(std::shared_ptr<Exchange> exchange,
                                                         const api::GenerationRequest& request,
                                                         const api::Limits& limits,
                                                         api::AnswerHead head, bool chat) {
  return std::make_shared<StreamSink>(std::move(exchange), request, limits, std::move(head), chat);
}

std::shared_ptr<generation::ResponseSink> MakeAnswerSink(std::shared_ptr<Exchange> exchange,
                                                         const api::GenerationRequest& request,
                                                         api::AnswerHead head, bool chat) {
  return std::make_shared<AnswerSink>(std::move(exchange), request, std::move(head), chat);
}

}  // namespace modu::http
