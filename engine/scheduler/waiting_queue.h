// Who waits for a place. Within a tenant: priority, then arrival. Between tenants of equal
// priority: whoever has been served fewest tokens (the virtual token counter of Sheng et al.,
// "Fairness in Serving Large Language Models", OSDI 2024). Engine thread only; does not own
// sequences.
#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "engine/request/request.h"
#include "engine/scheduler/sequence.h"

namespace modu::engine {

struct SequenceOrder {
  bool operator()(const Sequence* a, const Sequence* b) const { return RunsBefore(a, b); }
};

/// What a tenant with requests in the engine has been served, and its waiting requests.
struct TenantAccount {
  TenantId tenant = 0;
  uint64_t served_tokens = 0;
  int32_t num_sequences = 0;  // waiting and running
  std::set<Sequence*, SequenceOrder> waiting;
};

class WaitingQueue {
 public:
  /// Opens an account for the sequence's tenant; one that comes back is lifted to the least served
  /// of those present, so that absence earns no credit.
  void OpenAccount(Sequence* sequence);
  void CloseAccount(Sequence* sequence);

  void Push(Sequence* sequence);
  void Remove(Sequence* sequence);
  int32_t size() const { return size_; }

  /// Walks the waiting sequences in the order they should be admitted. The one last returned may be
  /// removed meanwhile.
  class Walk {
   public:
    explicit Walk(WaitingQueue& queue);
    Sequence* Next();

   private:
    using Iterator = std::set<Sequence*, SequenceOrder>::iterator;
    struct Lane {
      TenantAccount* account;
      Iterator next;
    };
    std::vector<Lane> lanes_;
  };

 private:
  std::map<TenantId, TenantAccount> accounts_;
  int32_t size_ = 0;
};

}  // namespace modu::engine
