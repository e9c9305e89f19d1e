// One streaming call: the text threads' ResponseSink on one side, gRPC's write reactor on the
// other. One write is in flight; what comes meanwhile waits in a queue of bounded bytes and events,
// where deltas of one choice are joined. A reader that falls behind the bound, or takes nothing for
// the stall time, is cut off. Neither side ever waits.
#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "grpcpp/support/server_callback.h"
#include "modu/v1/modu.pb.h"
#include "server/generation/generation_service.h"

namespace modu::grpc_door {

using EventReactor = grpc::ServerWriteReactor<modu::v1::GenerationEvent>;

struct StreamHead {
  std::string id, model;
  int64_t created_unix_s = 0;
};

class GenerationStream final : public generation::ResponseSink {
 public:
  GenerationStream(grpc::CallbackServerContext* context, EventReactor* reactor, StreamHead head,
                   const api::Limits& limits, int64_t num_choices);

  /// After Start: a call cancelled meanwhile is cancelled now.
  void SetCall(std::shared_ptr<generation::GenerationCall> call);

  void OnAccepted(const std::vector<std::vector<int32_t>>& prompt_ids) override;
  void OnEcho(api::PromptEcho echo) override;
  void OnDelta(api::ChoiceDelta delta, const api::Usage& so_far) override;
  void OnFinished(const api::Usage& usage) override;
  void OnError(const api::ApiError& error) override;

  // The reactor's side.
  void OnWritten(bool ok);
  void OnCancelled();
  /// No reactor from here on.
  void OnDone();

  /// Ends the stream with an error from our side and cancels the call. Any thread.
  void Dismiss(const api::ApiError& error);
  /// Cuts off a reader that has taken nothing for too long. Any thread.
  void CheckStall(std::chrono::steady_clock::time_point now);

  bool cut_off() const;
  grpc::StatusCode code() const;  // of the status it ended with
  /// Time in which a write was under way, so far.
  double write_seconds() const;

 private:
  using Lock = std::unique_lock<std::mutex>;
  void Enqueue(modu::v1::GenerationEvent event);
  bool JoinLocked(const modu::v1::GenerationEvent& event);
  void End(grpc::Status status);
  /// Starts the next write or the finish; unlocks before calling into gRPC.
  void AdvanceLocked(Lock& lock);
  void CutOff(Lock& lock);

  const StreamHead head_;
  const int64_t max_bytes_, max_events_;
  const std::chrono::milliseconds stall_;

  mutable std::mutex mutex_;
  grpc::CallbackServerContext* context_;
  EventReactor* reactor_;
  std::shared_ptr<generation::GenerationCall> call_;
  std::deque<modu::v1::GenerationEvent> queue_;
  modu::v1::GenerationEvent current_;  // of the write in flight
  std::vector<modu::v1::ChoiceFinish> finishes_;
  grpc::Status status_;
  std::chrono::steady_clock::time_point write_started_;
  std::chrono::steady_clock::duration write_time_{};
  int64_t queued_bytes_ = 0, current_bytes_ = 0;
  bool writing_ = false, ended_ = false, finishing_ = false, cancelled_ = false, cut_off_ = false,
       cancelling_ = false;
};

}  // namespace modu::grpc_door
