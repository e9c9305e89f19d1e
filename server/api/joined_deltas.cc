#include "server/api/joined_deltas.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace modu::api {
namespace {

template <typename T>
void MoveBehind(std::vector<T>&& from, std::vector<T>* to) {
  to->insert(to->end(), std::make_move_iterator(from.begin()), std::make_move_iterator(from.end()));
}

}  // namespace

int64_t JoinedDeltas::BytesOf(const ChoiceDelta& delta) {
  constexpr size_t kTokenBytes = sizeof(int32_t);
  size_t bytes = 1 + delta.text.size() + kTokenBytes * delta.token_ids.size();
  for (const TokenLogprobs& one : delta.logprobs) {
    bytes += sizeof(TokenLogprobs) + sizeof(LogprobEntry) * one.top.size();
  }
  return static_cast<int64_t>(bytes);
}

void JoinedDeltas::Add(ChoiceDelta delta, const Usage& so_far) {
  so_far_ = so_far;
  const auto choice = static_cast<size_t>(delta.index);
  if (choice >= places_.size()) places_.resize(choice + 1, -1);
  int32_t& place = places_[choice];
  if (place < 0) {
    place = static_cast<int32_t>(deltas_.size());
    deltas_.push_back(std::move(delta));
    return;
  }
  ChoiceDelta& joined = deltas_[static_cast<size_t>(place)];
  joined.text += delta.text;
  MoveBehind(std::move(delta.token_ids), &joined.token_ids);
  MoveBehind(std::move(delta.logprobs), &joined.logprobs);
  // A choice finishes once, with its last delta.
  joined.finish = delta.finish;
  joined.stop_string = std::move(delta.stop_string);
  joined.stop_token_id = delta.stop_token_id;
}

std::vector<ChoiceDelta> JoinedDeltas::Take() {
  std::ranges::fill(places_, -1);
  return std::exchange(deltas_, {});
}

}  // namespace modu::api
