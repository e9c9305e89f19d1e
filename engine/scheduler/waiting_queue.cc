#include "engine/scheduler/waiting_queue.h"

#include <algorithm>

#include "kernels/check.h"

namespace modu::engine {

void WaitingQueue::OpenAccount(Sequence* sequence) {
  const auto [it, added] = accounts_.try_emplace(sequence->request.tenant);
  TenantAccount& account = it->second;
  if (added) {
    account.tenant = sequence->request.tenant;
    bool first = true;
    for (const auto& [tenant, other] : accounts_) {
      if (&other == &account) continue;
      account.served_tokens =
          first ? other.served_tokens : std::min(account.served_tokens, other.served_tokens);
      first = false;
    }
  }
  ++account.num_sequences;
  sequence->account = &account;
}

void WaitingQueue::CloseAccount(Sequence* sequence) {
  TenantAccount* account = sequence->account;
  sequence->account = nullptr;
  if (--account->num_sequences == 0) {
    MODU_CHECK(account->waiting.empty());
    accounts_.erase(account->tenant);
  }
}

void WaitingQueue::Push(Sequence* sequence) {
  MODU_CHECK(sequence->account->waiting.insert(sequence).second);
  ++size_;
}

void WaitingQueue::Remove(Sequence* sequence) {
  MODU_CHECK(sequence->account->waiting.erase(sequence) == 1);
  --size_;
}

WaitingQueue::Walk::Walk(WaitingQueue& queue) {
  for (auto& [tenant, account] : queue.accounts_) {
    if (!account.waiting.empty()) lanes_.push_back({&account, account.waiting.begin()});
  }
}

Sequence* WaitingQueue::Walk::Next() {
  Lane* best = nullptr;
  for (Lane& lane : lanes_) {
    if (lane.next == lane.account->waiting.end()) continue;
    if (best == nullptr) {
      best = &lane;
      continue;
    }
    const Sequence* a = *lane.next;
    const Sequence* b = *best->next;
    if (a->request.priority != b->request.priority) {
      if (a->request.priority < b->request.priority) best = &lane;
    } else if (lane.account->served_tokens != best->account->served_tokens) {
      if (lane.account->served_tokens < best->account->served_tokens) best = &lane;
    } else if (RunsBefore(a, b)) {
      best = &lane;
    }
  }
  return best == nullptr ? nullptr : *best->next++;
}

}  // namespace modu::engine
