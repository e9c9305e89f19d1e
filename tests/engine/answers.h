// A sink that keeps what each request was answered.
#pragma once
#include <map>
#include <vector>

#include "engine/engine.h"

namespace modu::engine {

class Answers : public EventSink {
 public:
  void Deliver(StepEvents events) override {
    for (const TokenEvent& event : events.tokens) tokens[event.request].push_back(event.token_id);
    for (const TerminalEvent& event : events.terminals) reasons[event.request] = event.reason;
  }
  std::map<RequestId, std::vector<int32_t>> tokens;
  std::map<RequestId, FinishReason> reasons;
};

}  // namespace modu::engine
