#include "server/text/text_stream.h"

#include <algorithm>
#include <utility>

#include "server/text/unicode.h"

namespace modu::text {
namespace {

std::vector<uint32_t> FailureTable(const std::string& pattern) {
  std::vector<uint32_t> failure(pattern.size(), 0);
  uint32_t border = 0;
  for (size_t i = 1; i < pattern.size(); ++i) {
    while (border > 0 && pattern[i] != pattern[border]) border = failure[border - 1];
    if (pattern[i] == pattern[border]) ++border;
    failure[i] = border;
  }
  return failure;
}

}  // namespace

TextStream::TextStream(std::vector<std::string> stop_strings, bool include_stop)
    : include_stop_(include_stop) {
  for (std::string& stop : stop_strings) {
    if (stop.empty()) continue;
    std::vector<uint32_t> failure = FailureTable(stop);
    matchers_.push_back({std::move(stop), std::move(failure), 0});
  }
}

TextStream::Result TextStream::Push(std::string_view bytes) {
  Result result;
  if (stopped_) {
    result.stopped = true;
    result.stop = stop_;
    return result;
  }
  if (held_.empty() && matchers_.empty() && ValidPrefix(bytes) == bytes.size()) {
    result.text = bytes;  // most tokens: nothing is held before or after
    return result;
  }
  const size_t old_size = held_.size();
  held_.append(bytes);
  for (size_t i = old_size; i < held_.size() && !matchers_.empty(); ++i) {
    const Matcher* hit = nullptr;
    for (Matcher& m : matchers_) {
      while (m.matched > 0 && held_[i] != m.stop[m.matched]) m.matched = m.failure[m.matched - 1];
      if (held_[i] == m.stop[m.matched]) ++m.matched;
      if (m.matched == m.stop.size() && (hit == nullptr || hit->stop.size() < m.stop.size()))
        hit = &m;
    }
    if (hit == nullptr) continue;
    stopped_ = true;
    stop_ = hit->stop;
    const size_t end = include_stop_ ? i + 1 : i + 1 - stop_.size();
    held_.resize(end);
    result.text = EmitReady(end);
    result.stopped = true;
    result.stop = stop_;
    held_.clear();
    return result;
  }
  size_t back = 0;
  if (!include_stop_) {
    for (const Matcher& m : matchers_) back = std::max<size_t>(back, m.matched);
  }
  result.text = EmitReady(held_.size() - back);
  return result;
}

TextStream::Result TextStream::Finish() {
  Result result;
  if (stopped_) {
    result.stopped = true;
    result.stop = stop_;
    return result;
  }
  result.text = EmitReady(held_.size());
  held_.clear();
  for (Matcher& m : matchers_) m.matched = 0;
  return result;
}

std::string TextStream::EmitReady(size_t ready) {
  std::string out;
  std::string_view rest = std::string_view(held_).substr(0, ready);
  while (!rest.empty()) {
    const size_t valid = ValidPrefix(rest);
    out.append(rest.substr(0, valid));
    rest.remove_prefix(valid);
    if (rest.empty()) break;
    const size_t bad = MaximalSubpart(rest);
    if (bad == 0) break;  // may still become a character
    out += "\xEF\xBF\xBD";
    rest.remove_prefix(bad);
  }
  held_.erase(0, ready - rest.size());
  return out;
}

}  // namespace modu::text
