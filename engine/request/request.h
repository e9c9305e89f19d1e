// What crosses the engine's border: a Request in, copied events out. Token ids only; text belongs
// to the server.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/request/sampling_params.h"

namespace modu::engine {

using RequestId = uint64_t;  // made by the server, unique for the life of an engine
using TenantId = uint32_t;   // 0: the only tenant there is until keys carry identities

struct Request {
  RequestId id = 0;
  TenantId tenant = 0;
  uint64_t cache_salt = 0;          // mixed into the prefix-cache key beside the tenant
  int32_t priority = 0;             // lower first
  int64_t arrival_ns = 0;           // Clock time at the door
  int64_t queue_deadline_ns = 0;    // still queued then: expired; 0: none
  int64_t deadline_ns = 0;          // whole request; 0: none
  std::vector<int32_t> prompt_ids;  // never empty
  SamplingParams sampling;
};

enum class FinishReason : uint8_t { kStop, kLength, kCancelled, kFailed, kExpired };

struct TokenLogprob {
  int32_t token_id = 0;
  float logprob = 0;
};

/// One sampled token of one request.
struct TokenEvent {
  RequestId request = 0;
  int32_t token_id = 0;
  float logprob = 0;  // of token_id, raw model distribution; 0 unless asked for
  std::vector<TokenLogprob> top_logprobs;  // best first; as many as asked for
};

/// Log probabilities of prompt tokens [first, first + logprobs.size()), delivered before the first
/// TokenEvent.
struct PromptLogprobsEvent {
  RequestId request = 0;
  int32_t first = 0;
  std::vector<float>
      logprobs;  // entry i: token first+i given all before it; token 0 has none (NaN)
  std::vector<std::vector<TokenLogprob>> top_logprobs;
};

/// Times are Clock nanoseconds; 0 where the request never got there.
struct RequestTimes {
  int64_t arrival_ns = 0, first_scheduled_ns = 0, first_token_ns = 0, last_token_ns = 0,
          finished_ns = 0;
};

/// The last thing said about a request; exactly one each.
struct TerminalEvent {
  RequestId request = 0;
  FinishReason reason = FinishReason::kStop;
  int32_t stop_token_id = -1;  // which id stopped it, or -1
  // Not OK for kFailed and kExpired; kDataLoss: the model gave logits that are not finite.
  absl::Status status;
  int32_t num_prompt_tokens = 0, num_cached_tokens = 0, num_output_tokens = 0, num_preemptions = 0;
  RequestTimes times;
};

/// What one step computed and where its time went; of prefill-only steps too, which have nothing
/// else to say.
struct StepRecord {
  int32_t num_tokens = 0;  // rows of the forward pass: what the prefix cache held is not in it
  int64_t schedule_ns = 0, forward_ns = 0, sample_ns = 0;
};

/// Everything the engine has to say after a step: one queue item a step.
struct StepEvents {
  std::vector<StepRecord> steps;  // since the last item, in order
  std::vector<PromptLogprobsEvent> prompt_logprobs;
  std::vector<TokenEvent> tokens;
  std::vector<TerminalEvent> terminals;
  std::string broken_invariant;  // what the idle self-check found: a bug; nearly always empty
};

/// Where events go. Called on the engine thread; must neither block nor call back into the engine.
class EventSink {
 public:
  virtual ~EventSink() = default;
  virtual void Deliver(StepEvents events) = 0;
};

}  // namespace modu::engine
