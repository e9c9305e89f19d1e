#include "server/grpc/generation_stream.h"

#include <algorithm>
#include <utility>

#include "grpcpp/server_context.h"
#include "server/grpc/grpc_status.h"

namespace modu::grpc_door {
namespace {

namespace pb = modu::v1;

void FillEntry(const api::LogprobEntry& from, pb::LogprobEntry* to) {
  to->set_token_id(from.token_id);
  to->set_token(from.bytes);
  to->set_logprob(from.logprob);
}

template <typename Repeated>
void FillLogprobs(const std::vector<api::TokenLogprobs>& from, Repeated* to) {
  for (const api::TokenLogprobs& one : from) {
    pb::TokenLogprobs* const out = to->Add();
    FillEntry(one.token, out->mutable_token());
    for (const api::LogprobEntry& entry : one.top) FillEntry(entry, out->add_top());
  }
}

pb::FinishReason ReasonOf(api::Finish finish) {
  switch (finish) {
    case api::Finish::kNone:
      return pb::FINISH_REASON_UNSPECIFIED;
    case api::Finish::kStop:
      return pb::FINISH_REASON_STOP;
    case api::Finish::kLength:
      return pb::FINISH_REASON_LENGTH;
    case api::Finish::kAbort:
      return pb::FINISH_REASON_ABORT;
    case api::Finish::kTimeout:
      return pb::FINISH_REASON_TIMEOUT;
    case api::Finish::kError:
      return pb::FINISH_REASON_ERROR;
  }
  return pb::FINISH_REASON_UNSPECIFIED;
}

/// About what an event costs in memory; cheaper than ByteSizeLong and good enough for a bound.
int64_t WeightOf(const pb::GenerationEvent& event) {
  int64_t bytes = 64;
  if (event.has_delta()) {
    bytes += static_cast<int64_t>(event.delta().text().size()) + 4 * event.delta().token_ids_size();
    for (const auto& one : event.delta().logprobs()) bytes += 64 + 64 * one.top_size();
  } else if (event.has_echo()) {
    bytes += static_cast<int64_t>(event.ByteSizeLong());
  }
  return bytes;
}

}  // namespace

GenerationStream::GenerationStream(grpc::CallbackServerContext* context, EventReactor* reactor,
                                   StreamHead head, const api::Limits& limits, int64_t num_choices)
    : head_(std::move(head)),
      max_bytes_(limits.stream_buffer_bytes),
      max_events_(limits.stream_buffer_events * std::max<int64_t>(1, num_choices)),
      stall_(limits.write_stall_ms),
      context_(context),
      reactor_(reactor) {}

void GenerationStream::SetCall(std::shared_ptr<generation::GenerationCall> call) {
  {
    Lock lock(mutex_);
    if (!cancelled_ && !ended_) {
      call_ = std::move(call);
      return;
    }
    if (!cancelled_) return;
  }
  call->Cancel();
}

void GenerationStream::OnAccepted(const std::vector<std::vector<int32_t>>& prompt_ids) {
  pb::GenerationEvent event;
  pb::Accepted* const accepted = event.mutable_accepted();
  accepted->set_id(head_.id);
  accepted->set_model(head_.model);
  accepted->set_created_unix_s(head_.created_unix_s);
  int32_t tokens = 0;
  for (const auto& ids : prompt_ids) tokens += static_cast<int32_t>(ids.size());
  accepted->set_prompt_tokens(tokens);
  Enqueue(std::move(event));
}

void GenerationStream::OnEcho(api::PromptEcho echo) {
  pb::GenerationEvent event;
  pb::PromptEcho* const out = event.mutable_echo();
  out->set_index(echo.index);
  out->set_text(std::move(echo.text));
  out->mutable_token_ids()->Add(echo.token_ids.begin(), echo.token_ids.end());
  FillLogprobs(echo.logprobs, out->mutable_logprobs());
  Enqueue(std::move(event));
}

void GenerationStream::OnDelta(api::ChoiceDelta delta, const api::Usage&) {
  if (delta.finish != api::Finish::kNone) {
    pb::ChoiceFinish finish;
    finish.set_index(delta.index);
    finish.set_reason(ReasonOf(delta.finish));
    if (!delta.stop_string.empty()) {
      finish.set_stop_string(std::move(delta.stop_string));
    } else if (delta.stop_token_id >= 0) {
      finish.set_stop_token_id(delta.stop_token_id);
    }
    Lock lock(mutex_);
    finishes_.push_back(std::move(finish));
  }
  if (delta.text.empty() && delta.token_ids.empty() && delta.logprobs.empty()) return;
  pb::GenerationEvent event;
  pb::Delta* const out = event.mutable_delta();
  out->set_index(delta.index);
  out->set_text(std::move(delta.text));
  out->mutable_token_ids()->Add(delta.token_ids.begin(), delta.token_ids.end());
  FillLogprobs(delta.logprobs, out->mutable_logprobs());
  Enqueue(std::move(event));
}

void GenerationStream::OnFinished(const api::Usage& usage) {
  pb::GenerationEvent event;
  pb::Finished* const finished = event.mutable_finished();
  pb::Usage* const out = finished->mutable_usage();
  out->set_prompt_tokens(usage.prompt_tokens);
  out->set_completion_tokens(usage.completion_tokens);
  out->set_total_tokens(usage.prompt_tokens + usage.completion_tokens);
  out->set_cached_tokens(usage.cached_tokens);
  {
    Lock lock(mutex_);
    for (pb::ChoiceFinish& finish : finishes_) finished->add_choices()->Swap(&finish);
    finishes_.clear();
  }
  Enqueue(std::move(event));
  End(grpc::Status::OK);
}

void GenerationStream::OnError(const api::ApiError& error) { End(ToGrpcStatus(error)); }

bool GenerationStream::JoinLocked(const pb::GenerationEvent& event) {
  if (queue_.empty() || !event.has_delta() || !queue_.back().has_delta()) return false;
  pb::Delta* const last = queue_.back().mutable_delta();
  if (last->index() != event.delta().index()) return false;
  last->mutable_text()->append(event.delta().text());
  last->mutable_token_ids()->MergeFrom(event.delta().token_ids());
  last->mutable_logprobs()->MergeFrom(event.delta().logprobs());
  return true;
}

void GenerationStream::Enqueue(pb::GenerationEvent event) {
  Lock lock(mutex_);
  if (ended_ || cut_off_ || reactor_ == nullptr) return;
  const int64_t bytes = WeightOf(event);
  if (writing_ && queued_bytes_ + current_bytes_ + bytes > max_bytes_) return CutOff(lock);
  queued_bytes_ += bytes;
  if (!JoinLocked(event)) queue_.push_back(std::move(event));
  if (static_cast<int64_t>(queue_.size()) > max_events_) return CutOff(lock);
  AdvanceLocked(lock);
}

void GenerationStream::End(grpc::Status status) {
  std::shared_ptr<generation::GenerationCall> dropped;
  Lock lock(mutex_);
  if (ended_) return;
  ended_ = true;
  status_ = std::move(status);
  dropped.swap(call_);
  AdvanceLocked(lock);
}

void GenerationStream::AdvanceLocked(Lock& lock) {
  if (writing_ || finishing_ || cancelling_ || reactor_ == nullptr) return;
  EventReactor* const reactor = reactor_;
  if (!queue_.empty() && !cancelled_) {
    writing_ = true;
    write_started_ = std::chrono::steady_clock::now();
    current_ = std::move(queue_.front());
    queue_.pop_front();
    // Joined events left their weights in the sum: settle by what is left.
    current_bytes_ = queue_.empty() ? queued_bytes_ : WeightOf(current_);
    queued_bytes_ -= current_bytes_;
    lock.unlock();
    reactor->StartWrite(&current_);
  } else if (ended_) {
    finishing_ = true;
    const grpc::Status status = status_;
    lock.unlock();
    reactor->Finish(status);
  }
}

void GenerationStream::OnWritten(bool ok) {
  Lock lock(mutex_);
  writing_ = false;
  write_time_ += std::chrono::steady_clock::now() - write_started_;
  current_bytes_ = 0;
  if (!ok) {
    lock.unlock();
    OnCancelled();
    return;
  }
  AdvanceLocked(lock);
}

void GenerationStream::OnCancelled() {
  std::shared_ptr<generation::GenerationCall> call;
  Lock lock(mutex_);
  cancelled_ = true;
  queue_.clear();
  queued_bytes_ = 0;
  if (!ended_) {
    ended_ = true;
    status_ = grpc::Status(grpc::StatusCode::CANCELLED, "the client has gone");
    call.swap(call_);
  }
  AdvanceLocked(lock);
  if (lock.owns_lock()) lock.unlock();
  if (call) call->Cancel();
}

void GenerationStream::OnDone() {
  std::shared_ptr<generation::GenerationCall> call;
  Lock lock(mutex_);
  reactor_ = nullptr;
  context_ = nullptr;
  call.swap(call_);
}

void GenerationStream::Dismiss(const api::ApiError& error) {
  std::shared_ptr<generation::GenerationCall> call;
  {
    Lock lock(mutex_);
    if (ended_) return;
    call = call_;
  }
  End(ToGrpcStatus(error));
  if (call) call->Cancel();
}

void GenerationStream::CutOff(Lock& lock) {
  if (cut_off_ || context_ == nullptr) return;
  cut_off_ = true;
  queue_.clear();
  queued_bytes_ = 0;
  // OnCancel follows, and with it the end of the call. The context lives until OnDone, which needs
  // our Finish, which AdvanceLocked holds back meanwhile; the lock is open because gRPC may run
  // callbacks from within.
  cancelling_ = true;
  grpc::CallbackServerContext* const context = context_;
  lock.unlock();
  context->TryCancel();
  lock.lock();
  cancelling_ = false;
  AdvanceLocked(lock);
}

void GenerationStream::CheckStall(std::chrono::steady_clock::time_point now) {
  Lock lock(mutex_);
  if (writing_ && now - write_started_ > stall_) CutOff(lock);
}

double GenerationStream::write_seconds() const {
  Lock lock(mutex_);
  return std::chrono::duration<double>(write_time_).count();
}

grpc::StatusCode GenerationStream::code() const {
  Lock lock(mutex_);
  return status_.error_code();
}

bool GenerationStream::cut_off() const {
  Lock lock(mutex_);
  return cut_off_;
}

}  // namespace modu::grpc_door
