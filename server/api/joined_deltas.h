// Deltas that wait because their reader is behind, put together to one a choice: what it gets then
// is the same stream in fewer events. A value; one thread at a time.
#pragma once
#include <cstdint>
#include <vector>

#include "server/api/generation_events.h"

namespace modu::api {

class JoinedDeltas {
 public:
  /// About the bytes that `delta` takes while it waits; never 0.
  static int64_t BytesOf(const ChoiceDelta& delta);

  /// `so_far`: the call's, as of this delta.
  void Add(ChoiceDelta delta, const Usage& so_far);
  bool empty() const { return deltas_.empty(); }
  const Usage& so_far() const { return so_far_; }
  /// One for each choice that has spoken, in the order of their first words; none is left.
  std::vector<ChoiceDelta> Take();

 private:
  std::vector<ChoiceDelta> deltas_;
  std::vector<int32_t> places_;  // in deltas_, by choice; -1: it has none
  Usage so_far_;
};

}  // namespace modu::api
