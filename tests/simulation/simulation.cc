#include "tests/simulation/simulation.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "tests/engine/fake_runner.h"

namespace modu::engine {
namespace {

/// SplitMix64 (Steele, Lea, Flood 2014): small, and the same everywhere, unlike the library's
/// distributions.
class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15ull + 1) {}
  uint64_t Next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
  }
  int Between(int lo, int hi) {
    return lo + static_cast<int>(Next() % static_cast<uint64_t>(hi - lo + 1));
  }
  bool Chance(double p) { return static_cast<double>(Next() >> 11) * 0x1.0p-53 < p; }

 private:
  uint64_t state_;
};

/// What one run turns on, drawn from its seed ("buggify").
struct Weather {
  RunnerSpec spec;
  EngineOptions options;
  int depth = 1;
  double arrivals = 0.5;  // chance of a request each turn
  double burst = 0;       // chance of a burst
  int burst_size = 100;
  double cancel = 0, cancel_again = 0;
  double step_fails = 0, launch_throws = 0, wait_throws = 0, start_throws = 0, nan_row = 0;
  double slow_step = 0;  // of up to 60 s
  double ends_early = 0;
  double deadlines = 0, oversize = 0, scores = 0, stops = 0.3;
  int max_prompt = 60, max_output = 30, prefixes = 4, tenants = 1, priorities = 1;
  bool stop_hard = false;  // Stop instead of a drain
  bool collide = false;
};

uint64_t OneHash(uint64_t, std::span<const int32_t>) { return 7; }

Weather DrawWeather(Dice& dice) {
  Weather w;
  const int block = 1 << dice.Between(0, 4);
  const int tight = dice.Between(0, 2);
  w.max_prompt = dice.Between(1, 90);
  w.max_output = dice.Between(1, 50);
  w.spec.max_model_len = w.max_prompt + w.max_output;
  const int whole = (w.spec.max_model_len + block - 1) / block;
  const int blocks = tight == 0 ? whole : tight == 1 ? whole * 3 : whole * 20;
  w.spec.groups = {{"full", block, blocks, 0}};
  if (dice.Chance(0.3)) {
    const int window = dice.Between(1, 40);
    w.spec.groups.push_back({"sliding", block, blocks, window});
    if (dice.Chance(0.5)) std::swap(w.spec.groups[0], w.spec.groups[1]);
  }
  w.spec.vocab_size = dice.Between(8, 400);
  w.spec.max_sequences = dice.Between(1, 24);
  w.spec.max_batch_tokens = dice.Between(1, 80);
  w.spec.eos_ids = {0};
  w.spec.phased = dice.Chance(0.4);
  w.options.max_running = dice.Between(1, 24);
  w.options.max_step_tokens = dice.Between(1, 80);
  w.options.step_budget.max_slowdown = dice.Between(0, 4);
  w.options.step_budget.min_step_ns = dice.Between(0, 3) * 500'000;
  w.options.step_budget.min_prefill_tokens = dice.Between(1, 8);
  w.options.step_budget.max_alone_ns = dice.Between(0, 8) * 200'000;
  w.options.step_budget.max_quiet_ns = dice.Between(0, 6) * 1'000'000;
  w.options.step_budget.min_alone_tokens = dice.Between(1, 20);
  w.options.prefix_cache = dice.Chance(0.85);
  w.options.max_draft_tokens = dice.Chance(0.5) ? 0 : dice.Between(1, 8);
  w.depth = dice.Between(1, 3);
  w.arrivals = dice.Chance(0.5) ? 0.1 : 0.9;
  if (dice.Chance(0.2)) w.burst = 0.02;
  if (dice.Chance(0.1)) w.burst_size = 1000;
  const auto sometimes = [&](double p) { return dice.Chance(0.4) ? p : 0.0; };
  w.cancel = sometimes(0.1);
  w.cancel_again = sometimes(0.1);
  w.step_fails = sometimes(0.02);
  w.launch_throws = sometimes(0.01);
  w.wait_throws = sometimes(0.01);
  w.start_throws = sometimes(0.02);
  w.nan_row = sometimes(0.01);
  w.slow_step = sometimes(0.02);
  if (w.depth == 1) w.ends_early = sometimes(0.7);
  if (w.ends_early > 0) w.arrivals = 0.1;  // of prompts that are alone
  w.deadlines = sometimes(0.3);
  w.oversize = sometimes(0.05);
  w.scores = sometimes(0.2);
  w.prefixes = dice.Between(1, 6);
  w.tenants = dice.Chance(0.5) ? 1 : dice.Between(2, 5);
  w.priorities = dice.Chance(0.7) ? 1 : 3;
  w.stop_hard = dice.Chance(0.2);
  w.collide = dice.Chance(0.1);
  if (w.collide) w.options.block_hash = OneHash;
  return w;
}

/// What the world knows of one request, from outside.
struct Known {
  Request request;
  std::vector<int32_t> answer;  // fault-free
  int32_t num_tokens = 0;
  int32_t num_prompt_logprobs = 0;
  int terminals = 0;
  bool scheduled = false;  // as far as events show
  int passed = 0;          // younger ones of its kind that showed signs of life before it did
};

class World final : public EventSink {
 public:
  World(uint64_t seed, int num_requests)
      : dice_(seed), weather_(DrawWeather(dice_)), num_requests_(num_requests) {
    auto runner = std::make_unique<FakeRunner>(weather_.spec, weather_.depth);
    runner_ = runner.get();
    InstallFaults();
    engine_ = std::make_unique<Engine>(std::move(runner), weather_.options, &clock_, this);
  }

  SimulationResult Run() {
    while (result_.received < num_requests_ && Ok()) {
      Act();
      Turn();
    }
    runner_->faults = {};  // faults stop; what was admitted must end
    if (weather_.stop_hard) {
      engine_->Stop();
      Check();
    } else {
      DrainToTheEnd();
    }
    if (Ok()) CheckEnd();
    result_.preemptions = static_cast<int64_t>(engine_->Stats().num_preemptions);
    result_.prefix_hit_tokens = static_cast<int64_t>(engine_->Stats().prefix_hits_tokens);
    result_.steps_cut_short = static_cast<int64_t>(engine_->Stats().steps_cut_short);
    result_.draft_tokens = static_cast<int64_t>(engine_->Stats().draft_tokens);
    result_.accepted_draft_tokens = static_cast<int64_t>(engine_->Stats().accepted_draft_tokens);
    engine_.reset();
    return result_;
  }

  void Deliver(StepEvents events) override {
    for (const PromptLogprobsEvent& event : events.prompt_logprobs) OnPromptLogprobs(event);
    for (const TokenEvent& event : events.tokens) OnToken(event);
    for (const TerminalEvent& event : events.terminals) OnTerminal(event);
  }

 private:
  bool Ok() const { return result_.failure.empty(); }
  void Fail(const std::string& what) {
    if (Ok()) result_.failure = absl::StrCat(what, " (turn ", result_.turns, ")");
  }
  void Log(uint64_t a, uint64_t b, uint64_t c) {
    for (uint64_t x : {a, b, c}) {
      result_.log_hash = (result_.log_hash ^ x) * 0x9E3779B97F4A7C15ull;
      result_.log_hash ^= result_.log_hash >> 31;
    }
  }

  void InstallFaults() {
    FakeFaults& faults = runner_->faults;
    const auto chance = [this](double p) {
      return [this, p](const auto&...) { return p > 0 && dice_.Chance(p); };
    };
    faults.step_fails = chance(weather_.step_fails);
    faults.launch_throws = chance(weather_.launch_throws);
    faults.wait_throws = chance(weather_.wait_throws);
    faults.row_is_nan = chance(weather_.nan_row);
    faults.ends_early = [this](const ForwardInput& input) {
      const auto all = static_cast<int32_t>(input.token_ids.size());
      if (weather_.ends_early == 0 || !dice_.Chance(weather_.ends_early)) return all;
      return dice_.Between(input.least_tokens, all);
    };
    faults.start_throws = [this] {
      return weather_.start_throws > 0 && dice_.Chance(weather_.start_throws);
    };
    faults.during_step = [this](const ForwardInput& input) {
      clock_.now_ns += 1'000'000 + static_cast<int64_t>(input.token_ids.size()) * 10'000;
      if (weather_.slow_step > 0 && dice_.Chance(weather_.slow_step)) {
        clock_.now_ns += int64_t{dice_.Between(0, 60)} * 1'000'000'000;
      }
    };
  }

  Request MakeRequest() {
    Request request;
    request.id = static_cast<RequestId>(++next_id_);
    request.tenant = static_cast<TenantId>(dice_.Between(0, weather_.tenants - 1));
    request.cache_salt = dice_.Chance(0.1) ? 1 : 0;
    request.priority = dice_.Between(0, weather_.priorities - 1);
    request.arrival_ns = clock_.now_ns;
    if (weather_.deadlines > 0 && dice_.Chance(weather_.deadlines)) {
      request.deadline_ns = clock_.now_ns + int64_t{dice_.Between(0, 300)} * 1'000'000;
    }
    if (weather_.deadlines > 0 && dice_.Chance(weather_.deadlines)) {
      request.queue_deadline_ns = clock_.now_ns + int64_t{dice_.Between(0, 100)} * 1'000'000;
    }
    // A prompt of one of a few families, so that prefixes are shared; sometimes with another token
    // somewhere.
    const int length = dice_.Between(1, weather_.max_prompt);
    Dice family(static_cast<uint64_t>(dice_.Between(1, weather_.prefixes)));
    for (int i = 0; i < length; ++i) {
      request.prompt_ids.push_back(
          static_cast<int32_t>(family.Next() % static_cast<uint64_t>(weather_.spec.vocab_size)));
    }
    if (dice_.Chance(0.3)) {
      request.prompt_ids[dice_.Between(0, length - 1)] =
          dice_.Between(0, weather_.spec.vocab_size - 1);
    }
    SamplingParams& p = request.sampling;
    p.seed = static_cast<uint64_t>(dice_.Between(0, 3));
    if (weather_.options.max_draft_tokens > 0 && dice_.Chance(0.7))
      p.seed |= FakeRunner::kRepetitive;
    p.max_tokens = dice_.Between(1, weather_.max_output);
    p.top_logprobs = dice_.Chance(0.1) ? 2 : -1;
    p.ignore_eos = dice_.Chance(0.5);
    if (dice_.Chance(weather_.stops))
      p.stop_token_ids = {dice_.Between(0, weather_.spec.vocab_size - 1)};
    if (dice_.Chance(0.2)) p.min_tokens = dice_.Between(0, p.max_tokens);
    if (weather_.scores > 0 && dice_.Chance(weather_.scores)) {
      p.prompt_logprobs = dice_.Between(0, 2);
      if (dice_.Chance(0.5)) p.max_tokens = p.min_tokens = 0;
    }
    return request;
  }

  void SubmitOne() {
    Request request = MakeRequest();
    const bool oversize = weather_.oversize > 0 && dice_.Chance(weather_.oversize);
    if (oversize) {
      if (dice_.Chance(0.5)) {
        request.sampling.max_tokens = weather_.spec.max_model_len + 1;
      } else {
        request.prompt_ids.assign(weather_.spec.max_model_len + dice_.Between(1, 1000), 1);
      }
    }
    ++result_.received;
    Known known;
    known.request = request;
    const absl::Status status = engine_->Submit(request);
    Log(1, request.id, static_cast<uint64_t>(status.code()));
    if (status.ok() == oversize)
      Fail(absl::StrCat("request ", request.id, ": ", std::string(status.message())));
    if (!status.ok()) {
      ++result_.rejected;
      return;
    }
    known.answer = FakeRunner::Answer(weather_.spec, request);
    waiting_.push_back(request.id);
    known_.emplace(request.id, std::move(known));
  }

  void Act() {
    if (weather_.burst > 0 && dice_.Chance(weather_.burst)) {
      for (int i = 0; i < weather_.burst_size && result_.received < num_requests_; ++i) SubmitOne();
    }
    while (dice_.Chance(weather_.arrivals) && result_.received < num_requests_) {
      SubmitOne();
      if (dice_.Chance(0.5)) break;
    }
    if (next_id_ > 0 && weather_.cancel > 0 && dice_.Chance(weather_.cancel)) {
      const auto id =
          static_cast<RequestId>(dice_.Between(std::max(1, next_id_ - 40), next_id_ + 1));
      engine_->Cancel(id);
      Log(2, id, 0);
      if (weather_.cancel_again > 0 && dice_.Chance(0.3)) engine_->Cancel(id);
    }
    if (dice_.Chance(0.01)) clock_.now_ns += 50'000'000;
  }

  void Turn() {
    engine_->RunOnce();
    ++result_.turns;
    Check();
  }

  void DrainToTheEnd() {
    // Every turn with work computes at least one token for somebody, and a preempted one costs its
    // own length again.
    int64_t bound = 1000;
    for (const auto& [id, known] : known_) {
      if (known.terminals == 0) bound += 4 * (weather_.spec.max_model_len + 10);
    }
    while (Ok()) {
      const bool more = engine_->RunOnce();
      ++result_.turns;
      Check();
      if (!more) return;
      if (--bound < 0) Fail("I-3: the engine does not come to an end");
    }
  }

  Known* Find(RequestId id) {
    const auto it = known_.find(id);
    if (it == known_.end()) {
      Fail(absl::StrCat("an event about request ", id, ", which was never taken"));
      return nullptr;
    }
    if (it->second.terminals > 0)
      Fail(absl::StrCat("I-2: an event about request ", id, " after its end"));
    return &it->second;
  }

  void MarkScheduled(RequestId id, Known& known) {
    if (std::exchange(known.scheduled, true)) return;
    std::erase(waiting_, id);
    // A request that fails or is refused a prefix may wait; who passes too often starves.
    for (RequestId other : waiting_) {
      if (other > id) break;
      Known& older = known_.at(other);
      if (older.request.tenant != known.request.tenant ||
          older.request.priority != known.request.priority)
        continue;
      if (++older.passed > kMaxPassed) Fail(absl::StrCat("I-4: request ", other, " starves"));
    }
  }

  void OnPromptLogprobs(const PromptLogprobsEvent& event) {
    Known* known = Find(event.request);
    if (known == nullptr) return;
    MarkScheduled(event.request, *known);
    Log(3, event.request, event.logprobs.size());
    if (event.first != known->num_prompt_logprobs || known->num_tokens > 0)
      Fail("prompt log probabilities out of order");
    if (event.top_logprobs.size() != event.logprobs.size())
      Fail("prompt log probabilities without their best");
    const std::vector<int32_t>& prompt = known->request.prompt_ids;
    for (float logprob : event.logprobs) {
      const int32_t at = known->num_prompt_logprobs++;
      if (at >= static_cast<int32_t>(prompt.size()))
        return Fail("too many prompt log probabilities");
      if (at == 0) {
        if (!std::isnan(logprob)) Fail("the first prompt token has a log probability");
        continue;
      }
      const std::vector<int32_t> before(prompt.begin(), prompt.begin() + at);
      if (logprob != FakeRunner::LogprobOf(weather_.spec, before, prompt[at]))
        Fail("I-5: a wrong prompt log probability");
    }
  }

  void OnToken(const TokenEvent& event) {
    Known* known = Find(event.request);
    if (known == nullptr) return;
    MarkScheduled(event.request, *known);
    Log(4, event.request, static_cast<uint64_t>(event.token_id));
    ++result_.tokens;
    const auto at = static_cast<size_t>(known->num_tokens++);
    if (at >= known->answer.size() || known->answer[at] != event.token_id) {
      Fail(absl::StrCat("I-5: request ", event.request, " got a wrong token at ", at));
    }
    if (static_cast<int32_t>(event.top_logprobs.size()) !=
        std::max(0, known->request.sampling.top_logprobs)) {
      Fail("a token without the log probabilities it should have");
    }
  }

  void OnTerminal(const TerminalEvent& event) {
    Known* known = Find(event.request);
    if (known == nullptr) return;
    const SamplingParams& p = known->request.sampling;
    std::erase(waiting_, event.request);
    ++known->terminals;
    Log(5, event.request, static_cast<uint64_t>(event.reason));
    Log(6, static_cast<uint64_t>(event.num_cached_tokens),
        static_cast<uint64_t>(event.times.finished_ns));
    if (event.num_output_tokens != known->num_tokens)
      Fail("I-9: a terminal event miscounts the output");
    if (event.num_prompt_tokens != static_cast<int32_t>(known->request.prompt_ids.size()))
      Fail("I-9: prompt tokens");
    if (event.num_cached_tokens >= event.num_prompt_tokens)
      Fail("a prompt was cached to its last token");
    if (event.times.first_scheduled_ns > 0) prompt_tokens_ += event.num_prompt_tokens;
    switch (event.reason) {
      case FinishReason::kStop:
      case FinishReason::kLength: {
        ++result_.done;
        if (!event.status.ok()) Fail("done, with an error");
        if (known->num_tokens != static_cast<int32_t>(known->answer.size()))
          Fail("I-5: done before the answer was whole");
        const bool full = known->num_tokens == p.max_tokens && event.stop_token_id < 0;
        if (full != (event.reason == FinishReason::kLength)) Fail("the wrong reason to finish");
        const auto wanted = p.prompt_logprobs >= 0 ? event.num_prompt_tokens : 0;
        if (known->num_prompt_logprobs != wanted) Fail("done without all prompt log probabilities");
        break;
      }
      case FinishReason::kCancelled:
        ++result_.cancelled;
        break;
      case FinishReason::kFailed:
        ++result_.failed;
        if (event.status.ok()) Fail("failed, without an error");
        break;
      case FinishReason::kExpired: {
        ++result_.expired;
        const Request& request = known->request;
        const bool whole =
            request.deadline_ns > 0 && event.times.finished_ns >= request.deadline_ns;
        const bool queued = request.queue_deadline_ns > 0 &&
                            event.times.finished_ns >= request.queue_deadline_ns &&
                            event.times.first_scheduled_ns == 0;
        if (!whole && !queued) Fail("expired before its time");
        break;
      }
    }
  }

  void Check() {
    if (std::string wrong = engine_->SelfCheck(); !wrong.empty()) Fail("I-1/I-6/I-7: " + wrong);
    if (!runner_->violations.empty()) Fail("the runner's contract: " + runner_->violations.front());
    const EngineStats stats = engine_->Stats();
    const int64_t ended = result_.done + result_.cancelled + result_.failed + result_.expired;
    if (result_.received != result_.rejected + ended + stats.num_waiting + stats.num_running) {
      Fail("I-9: requests received and ended do not add up");
    }
    if (static_cast<int64_t>(stats.generation_tokens) != result_.tokens)
      Fail("I-9: generation tokens");
    if (stats.blocks_free + stats.blocks_cached + stats.blocks_held != stats.blocks_total)
      Fail("I-1: block gauges");
  }

  void CheckEnd() {
    const EngineStats stats = engine_->Stats();
    if (stats.num_waiting + stats.num_running != 0) Fail("I-10: requests are left");
    if (stats.blocks_held != 0) Fail("I-10: blocks are held");
    if (runner_->slots_in_use() != 0) Fail("I-10: sampler slots are held");
    for (const auto& [id, known] : known_) {
      if (known.terminals != 1)
        Fail(absl::StrCat("I-2: request ", id, " ended ", known.terminals, " times"));
    }
    if (static_cast<int64_t>(stats.prompt_tokens) != prompt_tokens_) Fail("I-9: prompt tokens");
  }

  // max_passed of the scheduler, what one scan may admit, and those that wait for a prefix while
  // others run.
  static constexpr int kMaxPassed = 64 + 32 + 200;

  Dice dice_;
  const Weather weather_;
  const int num_requests_;
  FakeClock clock_;
  FakeRunner* runner_ = nullptr;
  std::unique_ptr<Engine> engine_;
  std::map<RequestId, Known> known_;
  std::vector<RequestId> waiting_;  // taken, and no event yet; rising
  int next_id_ = 0;
  int64_t prompt_tokens_ = 0;
  SimulationResult result_;
};

}  // namespace

SimulationResult Simulate(uint64_t seed, int num_requests) {
  return World(seed, num_requests).Run();
}

}  // namespace modu::engine
