#include "engine/sampling/nucleus.h"

#include <algorithm>
#include <cstdint>
#include <utility>

namespace modu::engine {
namespace {

/// The last candidate, in `Before` order, that the nucleus needs. Permutes `list`.
Candidate NucleusEnd(double mass, std::vector<Candidate>& list) {
  size_t lo = 0, hi = list.size();
  double before = 0;  // mass of what is surely in
  uint64_t random = 0x9E3779B97F4A7C15ull;
  while (hi - lo > 16) {
    random = random * 6364136223846793005ull + 1442695040888963407ull;
    std::swap(list[lo + (random >> 33) % (hi - lo)], list[hi - 1]);
    const Candidate pivot = list[hi - 1];
    double larger = 0;
    size_t mid = lo;
    for (size_t i = lo; i + 1 < hi; ++i) {
      if (Before(list[i], pivot)) {
        larger += list[i].value;
        std::swap(list[i], list[mid++]);
      }
    }
    std::swap(list[mid], list[hi - 1]);
    if (mid > lo && before + larger >= mass) {
      hi = mid;
    } else if (before + larger + pivot.value >= mass) {
      return pivot;
    } else {
      before += larger + pivot.value;
      lo = mid + 1;
    }
  }
  std::sort(list.begin() + lo, list.begin() + hi, Before);
  for (size_t i = lo; i < hi; ++i) {
    before += list[i].value;
    if (before >= mass) return list[i];
  }
  return hi > 0 ? list[hi - 1] : Candidate{0, 0};
}

}  // namespace

void KeepNucleus(double mass, std::vector<Candidate>* candidates, std::vector<Candidate>* work) {
  if (candidates->empty()) return;
  work->assign(candidates->begin(), candidates->end());
  const Candidate last = NucleusEnd(mass, *work);
  std::erase_if(*candidates, [&](const Candidate& candidate) { return Before(last, candidate); });
}

}  // namespace modu::engine
