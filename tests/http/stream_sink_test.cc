// The REST end of a stream, without sockets: tokens on one side, a reader on the other that takes
// what it is given at once, or late, or never.
#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "server/http/exchange.h"
#include "server/http/generation_sinks.h"
#include "tests/api/merged_stream.h"
#include "tests/catch.h"

namespace modu::testing {
namespace {

using nlohmann::json;

/// The I/O thread's side of an exchange: what the session does, and what has reached the reader.
class Reader {
 public:
  Reader()
      : exchange(std::make_shared<http::Exchange>(http::HttpRequest(), [this] { ++wakes_; })) {}

  /// Takes what was said, as the session does when it is woken or a write has ended. `at_once`: the
  /// reader has room for it.
  void Take(bool at_once) {
    if (waits_ || wakes_.exchange(0) == 0) return;
    http::HttpResponse response;
    const http::Exchange::Taken taken = exchange->Take(&in_flight_, &response);
    cut_off = taken.cut_off;
    ended |= taken.ended;
    if (taken.responded) status = response.status;
    if (at_once || in_flight_.empty() || ended) return Arrive();
    exchange->WriteWaits();
    waits_ = true;
  }
  /// The reader has room again.
  void Written(bool next_at_once) {
    if (!std::exchange(waits_, false)) return;
    Arrive();
    ++wakes_;  // the session looks for more by itself
    Take(next_at_once);
  }
  bool waits() const { return waits_; }

  const std::shared_ptr<http::Exchange> exchange;
  std::string received;
  int status = 0;
  bool ended = false, cut_off = false;

 private:
  void Arrive() {
    received += std::exchange(in_flight_, {});
    exchange->Written();
  }

  std::atomic<int> wakes_{0};
  std::string in_flight_;
  bool waits_ = false;
};

struct Options {
  bool chat = true, logprobs = false, continuous_usage = false;
  int n = 1;
};

api::GenerationRequest RequestOf(const Options& options) {
  api::GenerationRequest request;
  request.prompts.emplace_back(api::TextPrompt{"p", true});
  request.n = options.n;
  request.stream = true;
  request.sampling.top_logprobs = options.logprobs ? 1 : -1;
  request.return_token_ids = true;
  request.include_usage = true;
  request.continuous_usage = options.continuous_usage;
  return request;
}

std::shared_ptr<generation::ResponseSink> SinkOn(const Reader& reader, const Options& options,
                                                 const api::Limits& limits = {}) {
  return http::MakeStreamSink(reader.exchange, RequestOf(options), limits, {"cmpl-1", 1, "m"},
                              options.chat);
}

api::ChoiceDelta DeltaOf(std::mt19937& random, int index, bool logprobs) {
  const char* texts[] = {"한", "x", "\"q\"\n", "😀", "", "\xEF\xBF\xBD"};
  api::ChoiceDelta delta;
  delta.index = index;
  for (unsigned t = 1 + random() % 2; t > 0; --t) {
    const std::string text = texts[random() % 6];
    delta.text += text;
    delta.token_ids.push_back(static_cast<int32_t>(random() % 100));
    if (!logprobs) continue;
    // Bytes that are a part of a character, as a token's may be.
    const api::LogprobEntry entry{delta.token_ids.back(), random() % 4 ? text : "\xed\x95", -0.5f};
    delta.logprobs.push_back({entry, {entry, {8, "y", -2.0f}}});
  }
  return delta;
}

/// All that a call tells its sink after the acceptance: several choices, each to its finish, in a
/// random order.
std::vector<std::pair<api::ChoiceDelta, api::Usage>> RandomCall(std::mt19937& random,
                                                                const Options& options) {
  std::vector<std::pair<api::ChoiceDelta, api::Usage>> call;
  std::vector<int> open, left;
  for (int i = 0; i < options.n; ++i) open.push_back(i);
  for (int i = 0; i < options.n; ++i) left.push_back(static_cast<int>(random() % 40));
  api::Usage usage;
  usage.prompt_tokens = 2;
  while (!open.empty()) {
    const size_t which = random() % open.size();
    const int index = open[which];
    api::ChoiceDelta delta;
    if (left[index]-- > 0) {
      delta = DeltaOf(random, index, options.logprobs);
    } else {
      if (random() % 2) delta = DeltaOf(random, index, options.logprobs);
      delta.index = index;
      delta.finish = random() % 2 ? api::Finish::kStop : api::Finish::kLength;
      if (delta.finish == api::Finish::kStop && random() % 2) delta.stop_string = "END";
      if (delta.finish == api::Finish::kStop && random() % 2) delta.stop_token_id = 7;
      open.erase(open.begin() + static_cast<int64_t>(which));
    }
    usage.completion_tokens += static_cast<int32_t>(delta.token_ids.size());
    call.emplace_back(std::move(delta), usage);
  }
  return call;
}

}  // namespace

TEST_CASE("a reader that keeps up gets an event for each delta") {
  const Options options;
  Reader reader;
  const auto sink = SinkOn(reader, options);
  sink->OnAccepted({{1, 2}});
  reader.Take(true);
  const bool io_is_late = GENERATE(false, true);
  for (int i = 0; i < 100; ++i) {
    sink->OnDelta({0, "x", {i}}, {2, i + 1, 0});
    // Several may go in one write while our own thread is late; they are events of their own.
    if (!io_is_late || i % 10 == 9) reader.Take(true);
  }
  sink->OnDelta({0, "", {}, {}, api::Finish::kLength}, {2, 100, 0});
  sink->OnFinished({2, 100, 0});
  reader.Take(true);
  const MergedStream stream(reader.received);
  CHECK(reader.ended);
  CHECK(stream.done);
  CHECK(stream.events.size() == 103);  // the role, 100 tokens, the finish, the usage
  CHECK(stream.choices.at(0)["text"] == std::string(100, 'x'));
}

TEST_CASE("while a write waits, what comes is one event for each choice") {
  const Options options{.chat = false, .n = 2};
  Reader reader;
  const auto sink = SinkOn(reader, options);
  sink->OnAccepted({{1, 2}});
  sink->OnDelta({0, "a", {1}}, {2, 1, 0});
  reader.Take(false);
  REQUIRE(reader.waits());
  for (int i = 0; i < 1'000; ++i) {
    sink->OnDelta({1, "b", {2}}, {});
    sink->OnDelta({0, "a", {1}}, {});
  }
  reader.Take(true);  // a wake changes nothing while the write is under way
  REQUIRE(reader.waits());
  reader.Written(true);
  sink->OnDelta({0, "c", {3}}, {});
  reader.Take(true);
  const MergedStream stream(reader.received);
  REQUIRE(stream.events.size() == 4);
  CHECK(stream.events[1]["choices"][0]["index"] == 1);
  CHECK(stream.events[1]["choices"][0]["text"] == std::string(1'000, 'b'));
  CHECK(stream.events[2]["choices"][0]["token_ids"].size() == 1'000);
  CHECK(stream.events[3]["choices"][0]["text"] == "c");
}

TEST_CASE("what waits for a slow reader is bounded: past it, it is cut off, and its call ends") {
  api::Limits limits;
  limits.stream_buffer_bytes = 8 << 10;
  Reader reader;
  const auto sink = SinkOn(reader, Options(), limits);
  bool abandoned = false;
  reader.exchange->SetOnAbandoned([&] { abandoned = true; });
  sink->OnAccepted({{1, 2}});
  sink->OnDelta({0, "a", {1}}, {});
  reader.Take(false);
  for (int i = 0; i < 100; ++i) sink->OnDelta({0, "a", {1}}, {});
  CHECK_FALSE(reader.exchange->abandoned());  // more than the bound as events, less as one
  for (int i = 0; i < 8 << 10; ++i) sink->OnDelta({0, "a", {1}}, {});
  CHECK(reader.exchange->abandoned());
  reader.exchange->Abandon();
  CHECK(abandoned);
}

TEST_CASE("our own delay is not the reader's: past the bound on events they are joined, not cut") {
  api::Limits limits;
  limits.stream_buffer_events = 16;
  const Options options{.chat = false};
  Reader reader;
  const auto sink = SinkOn(reader, options, limits);
  sink->OnAccepted({{1, 2}});
  for (int i = 0; i < 1'000; ++i) sink->OnDelta({0, "a", {1}}, {});
  reader.Take(true);
  const MergedStream stream(reader.received);
  CHECK(stream.events.size() == 17);
  CHECK(stream.choices.at(0)["text"] == std::string(1'000, 'a'));
}

TEST_CASE("what is held goes before an error and before a farewell") {
  const bool dismissed = GENERATE(false, true);
  Reader reader;
  const auto sink = SinkOn(reader, {.chat = false});
  reader.exchange->SetFarewell([] { return std::string("data: {\"error\":{}}\n\n"); });
  sink->OnAccepted({{1, 2}});
  sink->OnDelta({0, "a", {1}}, {});
  reader.Take(false);
  sink->OnDelta({0, "b", {1}}, {});
  if (dismissed) {
    reader.exchange->Dismiss({});
  } else {
    sink->OnError(api::MakeError(500, "it broke", "internal"));
  }
  sink->OnDelta({0, "late", {1}}, {});
  reader.Written(true);
  const MergedStream stream(reader.received);
  REQUIRE(stream.events.size() == 3);
  CHECK(stream.choices.at(0)["text"] == "ab");
  CHECK(stream.events.back().contains("error"));
}

TEST_CASE("whatever the reader does, it hears the same stream") {
  std::mt19937 random(5);
  for (int round = 0; round < 400; ++round) {
    Options options;
    options.chat = random() % 2;
    options.logprobs = random() % 2;
    options.continuous_usage = random() % 2;
    options.n = 1 + static_cast<int>(random() % 3);
    const auto call = RandomCall(random, options);
    api::Limits limits;
    limits.stream_buffer_events = random() % 2 ? 256 : 3;
    Reader quick, slow;
    const auto unjoined = SinkOn(quick, options);
    const auto joined = SinkOn(slow, options, limits);
    for (const auto& sink : {unjoined, joined}) sink->OnAccepted({{1, 2}});
    for (const auto& [delta, so_far] : call) {
      unjoined->OnDelta(delta, so_far);
      quick.Take(true);
      joined->OnDelta(delta, so_far);
      if (random() % 3 == 0) slow.Take(random() % 2);
      if (random() % 4 == 0) slow.Written(random() % 2);
    }
    const api::Usage usage = call.back().second;
    for (const auto& sink : {unjoined, joined}) sink->OnFinished(usage);
    quick.Take(true);
    slow.Written(true);
    slow.Take(true);
    REQUIRE(quick.ended);
    REQUIRE(slow.ended);
    const MergedStream expected(quick.received), got(slow.received);
    CHECK(got.done);
    CHECK(got.choices == expected.choices);
    CHECK(got.usage == expected.usage);
    CHECK(got.events.size() <= expected.events.size());
    for (const auto& [index, choice] : got.choices) CHECK(choice["role_first"] == options.chat);
  }
}

TEST_CASE("a text thread and an I/O thread at once: nothing is lost, nothing is stuck") {
  std::mt19937 random(9);
  for (int round = 0; round < 50; ++round) {
    const Options options{.chat = round % 2 == 0, .n = 2};
    api::Limits limits;
    limits.stream_buffer_events = round % 3 == 0 ? 2 : 256;
    const auto call = RandomCall(random, options);
    Reader reader;
    const auto sink = SinkOn(reader, options, limits);
    std::thread text([&] {
      sink->OnAccepted({{1, 2}});
      for (const auto& [delta, so_far] : call) {
        sink->OnDelta(delta, so_far);
        if (delta.text.size() % 3 == 0) std::this_thread::yield();
      }
      sink->OnFinished(call.back().second);
    });
    // The reader moves only when it is woken or its write is done: what is held must come by that.
    while (!reader.ended) {
      reader.Take(random() % 2);
      reader.Written(random() % 2);
    }
    text.join();
    Reader quick;
    const auto unjoined = SinkOn(quick, options);
    unjoined->OnAccepted({{1, 2}});
    for (const auto& [delta, so_far] : call) unjoined->OnDelta(delta, so_far);
    unjoined->OnFinished(call.back().second);
    quick.Take(true);
    CHECK(MergedStream(reader.received).choices == MergedStream(quick.received).choices);
  }
}

}  // namespace modu::testing
