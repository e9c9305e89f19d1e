#include "server/generation/generation_service.h"

#include <chrono>
#include <cmath>
#include <future>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/catch.h"
#include "tests/generation/service_fixture.h"

namespace modu::generation {
namespace {

using testing::ByteTokenizer;
using testing::FixtureOptions;
using testing::RecordingSink;
using testing::ServiceFixture;

// What must hold once a fixture is at rest: nothing in flight, no block held, every call counted
// once.
void CheckAtRest(ServiceFixture& f) {
  for (int i = 0; i < 1000 && (!f.service->Idle() || f.engine->Stats().num_running > 0 ||
                               f.engine->Stats().num_waiting > 0);
       ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  CHECK(f.service->Idle());
  CHECK(f.engine->Stats().blocks_held == 0);
  double ended = 0;
  for (const char* outcome : {"done", "cancelled", "failed", "expired", "rejected"}) {
    ended += f.Metric("modu_requests_ended_total", std::string("outcome=\"") + outcome + "\"");
  }
  CHECK(f.Metric("modu_requests_received_total") == ended);
  CHECK(f.Metric("modu_requests_in_flight") == 0);
}

TEST_CASE("text goes in and comes out") {
  ServiceFixture f;
  auto sink = f.Run(f.Text("say:hello"));
  REQUIRE_FALSE(sink->error);
  CHECK(sink->violation.empty());
  CHECK(sink->choices.at(0).text == "hello");
  CHECK(sink->choices.at(0).finish == Finish::kStop);
  CHECK(sink->choices.at(0).stop_token_id == ByteTokenizer::kEos);
  CHECK(sink->prompts ==
        std::vector<std::vector<int32_t>>{{'s', 'a', 'y', ':', 'h', 'e', 'l', 'l', 'o'}});
  CHECK(sink->usage.prompt_tokens == 9);
  CHECK(sink->usage.completion_tokens == 6);
  CheckAtRest(f);
  CHECK(f.Metric("modu_requests_ended_total", "outcome=\"done\"") == 1);
  CHECK(f.Metric("vllm:request_success_total", "finished_reason=\"stop\"") == 1);
  CHECK(f.Metric("modu_time_to_first_token_seconds_count") == 1);
  CHECK(f.Metric("modu_inter_token_latency_seconds_count") == 5);
  // The prompt's step gave the first token; five more steps gave a token each. One more may have
  // been under way when the end was seen.
  CHECK(f.Metric("modu_iteration_tokens_total_bucket", "le=\"1\"") >= 5);
  CHECK(f.Metric("modu_iteration_tokens_total_count") -
            f.Metric("modu_iteration_tokens_total_bucket", "le=\"8\"") ==
        1);
  CHECK(f.Metric("modu_generation_tokens_total") == 6);
}

TEST_CASE("max_tokens, min_tokens, and ids that stop") {
  ServiceFixture f;
  auto sink = f.Run(f.Text("say:hello", 3));
  CHECK(sink->choices.at(0).text == "hel");
  CHECK(sink->choices.at(0).finish == Finish::kLength);
  CHECK(sink->usage.completion_tokens == 3);

  api::GenerationRequest request = f.Text("say:hi");
  request.sampling.min_tokens = 5;
  sink = f.Run(request);
  CHECK(sink->choices.at(0).text == "hi...");

  request = f.Text("say:hello");
  request.sampling.stop_token_ids = {'l'};
  sink = f.Run(request);
  CHECK(sink->choices.at(0).text == "he");
  CHECK(sink->choices.at(0).stop_token_id == 'l');
  CHECK(sink->usage.completion_tokens == 3);
  request.include_stop_str_in_output = true;
  CHECK(f.Run(request)->choices.at(0).text == "hel");

  request = f.Text("say:hello", 9);
  request.sampling.ignore_eos = true;
  sink = f.Run(request);
  CHECK(sink->choices.at(0).finish == Finish::kLength);
  CHECK(sink->usage.completion_tokens == 9);
  CheckAtRest(f);
}

TEST_CASE("stop strings end the choice, and usage counts the token that completed one") {
  ServiceFixture f;
  api::GenerationRequest request = f.Text("say:one END two");
  request.stop = {"nothing", "END"};
  auto sink = f.Run(request);
  REQUIRE_FALSE(sink->error);
  CHECK(sink->choices.at(0).text == "one ");
  CHECK(sink->choices.at(0).stop_string == "END");
  CHECK(sink->choices.at(0).finish == Finish::kStop);
  CHECK(sink->usage.completion_tokens == 7);
  CHECK(sink->choices.at(0).token_ids.size() == 7);
  double generated = sink->usage.completion_tokens;
  request.include_stop_str_in_output = true;
  sink = f.Run(request);
  CHECK(sink->choices.at(0).text == "one END");
  generated += sink->usage.completion_tokens;
  // Before min_tokens a stop string is text like any other.
  request = f.Text("say:ab ab ab");
  request.stop = {"ab"};
  request.sampling.min_tokens = 4;
  sink = f.Run(request);
  CHECK(sink->choices.at(0).text == "ab ab ");
  generated += sink->usage.completion_tokens;
  CheckAtRest(f);
  CHECK(f.Metric("modu_generation_tokens_total") == generated);  // nothing beyond a stop string
  CHECK(f.Metric("modu_requests_ended_total", "outcome=\"done\"") == 3);
  CHECK(f.Metric("modu_requests_ended_total", "outcome=\"cancelled\"") == 0);
}

TEST_CASE("deltas are whole characters, whatever the tokens cut") {
  ServiceFixture f;
  const std::string text = "한국어 😀 é \xff x";
  auto sink = f.Run(f.Text("say:" + text));
  CHECK(sink->choices.at(0).text == "한국어 😀 é \xEF\xBF\xBD x");
  for (const std::string& piece : sink->choices.at(0).pieces) {
    if (!piece.empty()) CHECK((static_cast<unsigned char>(piece[0]) & 0xC0) != 0x80);
  }
  // An incomplete character at the end stays out of the text.
  sink = f.Run(f.Text("say:ab\xED\x95", 50));
  CHECK(sink->choices.at(0).text == "ab");
  CheckAtRest(f);
}

TEST_CASE(
    "a reader that is behind gets its tokens together, the same in all, and before an error") {
  ServiceFixture f;
  std::string script;
  for (int i = 0; i < 150; ++i) script += static_cast<char>('a' + i % 26);
  auto late = std::make_shared<RecordingSink>();
  late->behind = true;
  const auto wait_for_tokens = [&f] {
    for (int i = 0; i < 5000 && f.Metric("modu_generation_tokens_total") < 10; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
  };
  SECTION("to the end") {
    f.service->Start(f.Text("say:" + script), late);
    REQUIRE(late->WaitEnd());
    CHECK(late->choices.at(0).pieces.size() <= 3);  // of 64 tokens, 64, and what is left at the end
    CHECK(late->choices.at(0).text == script);
    CHECK(late->choices.at(0).token_ids.size() == 151);
    CHECK(late->usage.completion_tokens == 151);
  }
  SECTION("until it has caught up") {
    f.gate.Allow(20);
    f.service->Start(f.Text("say:" + script), late);
    wait_for_tokens();
    late->behind = false;  // the next token brings the others
    f.gate.Release();
    REQUIRE(late->WaitEnd());
    CHECK(late->choices.at(0).pieces.front().size() > 10);
    CHECK(late->choices.at(0).text == script);
  }
  SECTION("until the call is aborted") {
    f.gate.Allow(20);
    f.service->Start(f.Text("say:" + script), late);
    wait_for_tokens();
    f.service->AbortAll(api::MakeError(503, "the engine makes no progress", "engine_stuck"));
    REQUIRE(late->WaitEnd());
    CHECK(late->error.has_value());
    CHECK(late->choices.at(0).text.size() >= 10);
    CHECK(script.starts_with(late->choices.at(0).text));
    f.gate.Release();
  }
  CheckAtRest(f);
}

TEST_CASE("log probabilities carry bytes that add up to the text") {
  ServiceFixture f;
  api::GenerationRequest request = f.Text("say:é!");
  request.sampling.top_logprobs = 2;
  auto sink = f.Run(request);
  const auto& choice = sink->choices.at(0);
  REQUIRE(choice.logprobs.size() == 4);
  std::string bytes;
  for (const auto& one : choice.logprobs) {
    bytes += one.token.bytes;
    CHECK(one.token.logprob == -0.5f);
    REQUIRE(one.top.size() == 2);
    CHECK(one.top[1].bytes == "b");
    CHECK(one.top[1].logprob == -1.5f);
  }
  CHECK(bytes == "é!");
}

TEST_CASE("echo, with and without log probabilities, and scoring alone") {
  ServiceFixture f;
  api::GenerationRequest request = f.Text("say:hi");
  request.echo = true;
  auto sink = f.Run(request);
  CHECK(sink->choices.at(0).echo == "say:hi");
  CHECK(sink->choices.at(0).echo_logprobs.empty());
  CHECK(sink->choices.at(0).text == "hi");

  request.sampling.top_logprobs = request.sampling.prompt_logprobs = 1;
  request.sampling.max_tokens = 0;
  sink = f.Run(request);
  REQUIRE_FALSE(sink->error);
  const auto& scores = sink->choices.at(0).echo_logprobs;
  REQUIRE(scores.size() == 6);
  CHECK(std::isnan(scores[0].token.logprob));
  for (size_t i = 1; i < scores.size(); ++i) {
    CHECK(scores[i].token.bytes == std::string(1, "say:hi"[i]));
    CHECK(scores[i].token.logprob == -static_cast<float>("say:hi"[i]) / 16);
    CHECK(scores[i].top.size() == 1);
  }
  CHECK(sink->choices.at(0).text.empty());
  CHECK(sink->choices.at(0).finish == Finish::kLength);
  CHECK(sink->usage.completion_tokens == 0);
  CheckAtRest(f);
}

TEST_CASE("several prompts times n: index = prompt * n + i, prompts counted once") {
  ServiceFixture f;
  api::GenerationRequest request = f.Text("say:aa");
  request.prompts.emplace_back(api::TextPrompt{"say:bbb", false});
  request.n = 3;
  auto sink = f.Run(request);
  REQUIRE_FALSE(sink->error);
  REQUIRE(sink->choices.size() == 6);
  for (int i = 0; i < 6; ++i) CHECK(sink->choices.at(i).text == (i < 3 ? "aa" : "bbb"));
  CHECK(sink->usage.prompt_tokens == 13);
  CHECK(sink->usage.completion_tokens == 3 * 3 + 3 * 4);
  CheckAtRest(f);
  // The longest choice and the first one's pace, whatever the others do.
  CHECK(f.Metric("modu_request_max_num_generation_tokens_sum") == 4);
  CHECK(f.Metric("modu_request_time_per_output_token_seconds_sum") * 2 ==
        Approx(f.Metric("modu_request_decode_time_seconds_sum")));
}

TEST_CASE("rows 58 and 59: empty prompts and prompts past the context") {
  ServiceFixture f;
  auto sink = f.Run(f.Text(""));
  CHECK(sink->error->http_status == 400);
  api::GenerationRequest request = f.Text("");
  std::get<api::TextPrompt>(request.prompts[0]).add_special_tokens = true;
  CHECK_FALSE(f.Run(request)->error);

  sink = f.Run(f.Text(std::string(1024, 'x'), 1));
  REQUIRE(sink->error);
  CHECK(sink->error->http_status == 400);
  CHECK(sink->error->code == "context_length_exceeded");
  CHECK(sink->error->message.find("1024") != std::string::npos);
  CHECK(sink->error->message.find("1025") != std::string::npos);
  CHECK_FALSE(f.Run(f.Text(std::string(1023, 'x'), 1))->error);
  CHECK(f.Run(f.Text(std::string(10240, 'x'), 1))->error->code == "context_length_exceeded");
  // A limit of ours is cut to what is left; the client's own number is refused.
  request = f.Text(std::string(1020, 'x'), 16);
  CHECK(f.Run(request)->error->code == "context_length_exceeded");
  request.has_max_tokens = false;
  request.sampling.ignore_eos = true;
  CHECK(f.Run(request)->usage.completion_tokens == 4);
  CheckAtRest(f);
  CHECK(f.Metric("modu_requests_failed_total", "reason=\"context_length_exceeded\"") == 3);
}

TEST_CASE("row 57: numbers that are not finite fail one call, its neighbour goes on") {
  ServiceFixture f;
  f.gate.Hold();
  auto good = std::make_shared<RecordingSink>(), sick = std::make_shared<RecordingSink>();
  f.service->Start(f.Text("say:still here"), good);
  f.service->Start(f.Text("!say:x"), sick);
  f.gate.Release();
  REQUIRE(good->WaitEnd());
  REQUIRE(sick->WaitEnd());
  CHECK(sick->error->http_status == 500);
  CHECK(sick->error->code == "numeric_error");
  CHECK(good->choices.at(0).text == "still here");
  CheckAtRest(f);
  CHECK(f.Metric("modu_requests_failed_total", "reason=\"numeric_error\"") == 1);
}

// A step a millisecond, so that a cancel always comes before the end.
void StepUntilEnd(ServiceFixture& f, RecordingSink& sink) {
  for (int i = 0; i < 800 && !sink.ended(); ++i) {
    f.gate.Allow(1);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  REQUIRE(sink.WaitEnd());
}

TEST_CASE("cancel: before anything, in the middle, twice, too late") {
  ServiceFixture f;
  f.gate.Hold();
  api::GenerationRequest request = f.Text("say:" + std::string(100, 'x'), 900);
  request.sampling.ignore_eos = true;
  auto sink = std::make_shared<RecordingSink>();
  auto call = f.service->Start(request, sink);
  call->Cancel();
  call->Cancel();
  StepUntilEnd(f, *sink);
  CHECK_FALSE(sink->error);
  CHECK(sink->violation.empty());
  call->Cancel();

  f.gate.Hold();
  auto running = std::make_shared<RecordingSink>();
  auto second = f.service->Start(request, running);
  f.gate.Allow(10);
  REQUIRE(running->WaitDelta());
  second->Cancel();
  StepUntilEnd(f, *running);
  f.gate.Release();
  CHECK(running->choices.at(0).finish == Finish::kAbort);
  CHECK(running->usage.completion_tokens < 900);
  CheckAtRest(f);
  CHECK(f.Metric("modu_requests_ended_total", "outcome=\"cancelled\"") == 2);
  CHECK(f.Metric("modu_request_success_total", "finished_reason=\"abort\"") >= 1);
}

TEST_CASE("the queue is bounded by requests, bytes and tokens, and says when to come back") {
  FixtureOptions options;
  options.limits.max_queued_requests = 3;
  options.max_running = 1;
  ServiceFixture f(options);
  f.gate.Hold();
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 6; ++i) {
    sinks.push_back(std::make_shared<RecordingSink>());
    f.service->Start(f.Text("say:hi"), sinks.back());
  }
  for (int i = 4; i < 6; ++i) {
    REQUIRE(sinks[i]->ended());  // at once
    CHECK(sinks[i]->error->http_status == 503);
    CHECK(sinks[i]->error->code == "queue_full");
    CHECK(sinks[i]->error->retry_after_s >= 1);
  }
  f.gate.Release();
  for (int i = 0; i < 4; ++i) {
    REQUIRE(sinks[i]->WaitEnd());
    CHECK_FALSE(sinks[i]->error);
  }
  CheckAtRest(f);
  CHECK(f.Metric("modu_admission_rejections_total", "reason=\"queue_full\"") == 2);
  CHECK_FALSE(f.Run(f.Text("say:hi"))->error);
  api::GenerationRequest wide = f.Text("say:hi");
  wide.n = 5;
  CHECK(f.Run(wide)->error->http_status == 400);  // could never fit
}

TEST_CASE("queued prompt tokens are bounded, but for a request alone") {
  FixtureOptions options;
  options.limits.max_queued_tokens = 300;
  options.max_running = 1;
  ServiceFixture f(options);
  f.gate.Hold();
  auto first = std::make_shared<RecordingSink>(), second = std::make_shared<RecordingSink>();
  f.service->Start(f.Text("say:" + std::string(500, 'x'), 4), first);
  for (int i = 0; i < 1000 && f.engine->Stats().num_running + f.engine->Stats().num_waiting == 0;
       ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  f.service->Start(f.Text("say:" + std::string(200, 'x'), 4), second);
  REQUIRE(second->WaitEnd());
  CHECK(second->error->code == "queue_full");
  f.gate.Release();
  REQUIRE(first->WaitEnd());
  CHECK_FALSE(first->error);
  CHECK_FALSE(f.Run(f.Text("say:" + std::string(200, 'x'), 4))->error);
  CheckAtRest(f);
}

TEST_CASE("deadlines: still queued is 503, running is a timeout with what there is") {
  FixtureOptions options;
  options.limits.queue_deadline_ms = 60'000;
  options.max_running = 1;
  {
    ServiceFixture f(options);
    f.gate.Hold();
    auto first = std::make_shared<RecordingSink>(), second = std::make_shared<RecordingSink>();
    f.service->Start(f.Text("say:hi"), first);
    for (int i = 0; i < 1000 && f.engine->Stats().step_started_ns == 0; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    f.service->Start(f.Text("say:ho"), second);
    f.clock.Advance(60'001);
    f.gate.Release();
    REQUIRE(first->WaitEnd());
    REQUIRE(second->WaitEnd());
    CHECK_FALSE(first->error);
    REQUIRE(second->error);
    CHECK(second->error->http_status == 503);
    CHECK(second->error->code == "queue_timeout");
    CheckAtRest(f);
    CHECK(f.Metric("modu_requests_ended_total", "outcome=\"expired\"") == 1);
  }
  options.limits.request_deadline_ms = 60'000;
  ServiceFixture f(options);
  auto sink = std::make_shared<RecordingSink>();
  api::GenerationRequest request = f.Text("say:" + std::string(200, 'x'), 700);
  request.sampling.ignore_eos = true;
  f.gate.Hold();
  f.service->Start(request, sink);
  f.gate.Allow(10);
  REQUIRE(sink->WaitDelta());
  f.clock.Advance(60'001);
  f.gate.Release();
  REQUIRE(sink->WaitEnd());
  CHECK_FALSE(sink->error);
  CHECK(sink->choices.at(0).finish == Finish::kTimeout);
  CHECK(!sink->choices.at(0).text.empty());
  CheckAtRest(f);
}

TEST_CASE("drain refuses new calls and finishes old ones") {
  ServiceFixture f;
  f.gate.Hold();
  auto old = std::make_shared<RecordingSink>();
  f.service->Start(f.Text("say:bye"), old);
  f.service->Drain();
  auto late = f.Run(f.Text("say:hi"));
  CHECK(late->error->http_status == 503);
  CHECK_FALSE(f.service->Idle());
  f.gate.Release();
  REQUIRE(old->WaitEnd());
  CHECK(old->choices.at(0).text == "bye");
  CheckAtRest(f);
}

TEST_CASE("AbortAll ends every call, also while the engine hangs in a step") {
  ServiceFixture f;
  f.gate.Hold();
  std::vector<std::shared_ptr<RecordingSink>> sinks;
  for (int i = 0; i < 5; ++i) {
    sinks.push_back(std::make_shared<RecordingSink>());
    f.service->Start(f.Text("say:hi"), sinks.back());
  }
  f.service->AbortAll(api::MakeError(503, "the engine makes no progress", "engine_stuck"));
  for (const auto& sink : sinks) {
    REQUIRE(sink->WaitEnd());
    CHECK(sink->error->code == "engine_stuck");
  }
  CHECK(f.service->Idle());
  f.gate.Release();
  CheckAtRest(f);
  CHECK(f.Metric("modu_requests_ended_total", "outcome=\"failed\"") == 5);
}

TEST_CASE("calls may outlive the service") {
  std::shared_ptr<GenerationCall> call;
  auto sink = std::make_shared<RecordingSink>();
  {
    ServiceFixture f;
    f.gate.Hold();
    call = f.service->Start(f.Text("say:hi"), sink);
  }
  REQUIRE(sink->WaitEnd());
  call->Cancel();
}

TEST_CASE("a crowd of random calls: every one ends once, with its own text") {
  FixtureOptions options;
  options.max_running = 8;
  options.text_threads = GENERATE(1, 3);
  options.limits.max_queued_tokens = 1 << 20;  // else a slow engine refuses the last ones
  options.num_blocks = 64;                     // tight: preemption happens
  options.depth = GENERATE(1, 2);
  ServiceFixture f(options);
  std::mt19937 random(7);
  struct One {
    std::string text;
    bool cancelled;
    std::shared_ptr<RecordingSink> sink;
    std::shared_ptr<GenerationCall> call;
  };
  std::vector<One> all;
  for (int i = 0; i < 150; ++i) {
    One one;
    const int length = static_cast<int>(random() % 60);
    for (int k = 0; k < length; ++k) one.text += static_cast<char>('a' + random() % 26);
    one.cancelled = random() % 4 == 0;
    one.sink = std::make_shared<RecordingSink>();
    one.call = f.service->Start(f.Text(std::to_string(i) + ":" + one.text), one.sink);
    if (one.cancelled) {
      if (random() % 2) std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
      one.call->Cancel();
    }
    all.push_back(std::move(one));
  }
  for (const One& one : all) {
    REQUIRE(one.sink->WaitEnd(30));
    CHECK(one.sink->violation.empty());
    INFO((one.sink->error ? one.sink->error->message : ""));
    REQUIRE_FALSE(one.sink->error);
    const std::string seen = one.sink->choices.count(0) ? one.sink->choices.at(0).text : "";
    if (one.cancelled) {
      CHECK(one.text.substr(0, seen.size()) == seen);
    } else {
      CHECK(seen == one.text);
    }
  }
  CheckAtRest(f);
}

TEST_CASE("rendering and detokenizing without running") {
  ServiceFixture f;
  std::promise<RenderedPrompt> rendered;
  f.service->Render(api::TextPrompt{"<s>hi", true}, 5,
                    [&](std::optional<RenderedPrompt> prompt, api::ApiError) {
                      rendered.set_value(prompt.value_or(RenderedPrompt{}));
                    });
  const RenderedPrompt prompt = rendered.get_future().get();
  CHECK(prompt.text == "<s>hi");
  // What looks like a control token in a client's text is text.
  CHECK(prompt.token_ids == std::vector<int32_t>{ByteTokenizer::kBos, '<', 's', '>', 'h', 'i'});
  std::promise<std::string> text;
  f.service->Detokenize(
      {'h', ByteTokenizer::kEnd, 'i'}, 3,
      [&](std::optional<std::string> t, api::ApiError) { text.set_value(t.value_or("")); });
  CHECK(text.get_future().get() == "h<|im_end|>i");
}

TEST_CASE("text work without a generation is counted in the queue, and holds up no prompt") {
  FixtureOptions options;
  options.limits.max_queued_bytes = 1000;
  ServiceFixture f(options);
  std::promise<void> entered, leave, left;
  f.service->Render(api::TextPrompt{"a", true}, 600,
                    [&](std::optional<RenderedPrompt>, api::ApiError) {
                      entered.set_value();
                      leave.get_future().wait();
                      left.set_value();
                    });
  entered.get_future().wait();
  // The first was given back before its answer; what waits behind it is counted.
  f.service->Detokenize({'a'}, 600, [](std::optional<std::string>, api::ApiError) {});
  std::promise<int> status;
  f.service->Render(api::TextPrompt{"b", true}, 600,
                    [&](std::optional<RenderedPrompt>, api::ApiError error) {
                      status.set_value(error.http_status);
                    });
  CHECK(status.get_future().get() == 503);
  CHECK(f.Run(f.Text("say:hello"))->choices.at(0).text == "hello");
  leave.set_value();
  left.get_future().wait();
}

}  // namespace
}  // namespace modu::generation
