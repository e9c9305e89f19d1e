// A seeded, one-thread simulation of the engine's whole life: the real scheduler, KV, prefix cache
// and life cycle against the fake model, a fake clock and injected faults. After every turn it
// checks the invariants of the reliability notes that live in the engine: I-1 blocks balance, I-2
// one terminal each, I-3 everything ends, I-4 nobody starves, I-5 and I-8 tokens are a prefix of
// the fault-free answer (preempted or not), I-6 no more run than may, I-7 no tenant holds or hits
// another's blocks, I-9 counters agree with the events, I-10 nothing is left after a drain, I-11
// same seed, same log. Stream buffers (I-6's other half), quotas (I-12) and descriptors belong to
// the server's tests.
#pragma once
#include <cstdint>
#include <string>

namespace modu::engine {

struct SimulationResult {
  std::string failure;    // empty: every invariant held
  uint64_t log_hash = 0;  // of every event in order
  int64_t received = 0, rejected = 0, done = 0, cancelled = 0, failed = 0, expired = 0;
  int64_t turns = 0, tokens = 0, preemptions = 0, prefix_hit_tokens = 0, draft_tokens = 0,
          accepted_draft_tokens = 0, steps_cut_short = 0;
};

/// One engine, configured by the seed, fed num_requests requests, then drained (or stopped).
SimulationResult Simulate(uint64_t seed, int num_requests);

}  // namespace modu::engine
