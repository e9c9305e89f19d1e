// The forecast of who will decode together, against who does under Little's law.
#include "engine/scheduler/crowd.h"

#include "tests/catch.h"

namespace modu::engine {
namespace {

constexpr double kStep = 4e6, kDecode = 0.5e6, kToken = 0.4e6;  // ns

/// Of a machine whose prefill costs the same for each token, and which is known.
StepBudget Known() {
  StepBudget budget{StepBudgetOptions{}};
  for (int i = 0; i < 200; ++i) {
    const int32_t decodes = 1 + i % 40, tokens = i % 2 == 0 ? 0 : 64;
    budget.Learn({decodes, tokens, 0},
                 static_cast<int64_t>(kStep + kDecode * decodes + kToken * tokens));
  }
  return budget;
}

Sequence Of(int32_t prompt, int32_t output, int32_t max_tokens = 100'000) {
  Sequence sequence;
  sequence.tokens.resize(static_cast<size_t>(prompt + output));
  sequence.num_prompt = prompt;
  sequence.request.sampling.max_tokens = max_tokens;
  return sequence;
}

Crowd AfterAnswersOf(int32_t tokens) {
  Crowd crowd;
  for (int i = 0; i < 2'000; ++i) crowd.Learn(Of(10, tokens));
  return crowd;
}

Newcomers Waiting(const Crowd& crowd, const StepBudget& budget, int32_t sequences, int32_t prompt,
                  int32_t max_tokens = 100'000) {
  Newcomers newcomers;
  for (int32_t i = 0; i < sequences; ++i) crowd.Add(Of(prompt, 0, max_tokens), budget, &newcomers);
  return newcomers;
}

}  // namespace

TEST_CASE("as many newcomers decode together as are read while an answer lasts") {
  const StepBudget budget = Known();
  const Crowd crowd = AfterAnswersOf(100);
  const int32_t forecast = crowd.Forecast(15, Waiting(crowd, budget, 40, 800), budget);
  // A step takes 2.3 of its decodes' time, and reads prompts in what is left of that.
  const double step = 2.3 * (kStep + forecast * kDecode);
  const double read = 100 * step * (1.3 / 2.3) / (800 * kToken);
  CHECK(forecast > 17);
  CHECK(forecast - 15 == Approx(read).margin(1));
  // However many wait behind them.
  CHECK(crowd.Forecast(15, Waiting(crowd, budget, 400, 800), budget) == forecast);
}

TEST_CASE("all of a crowd of short prompts, none that ends with its first token") {
  const StepBudget budget = Known();
  const Crowd crowd = AfterAnswersOf(400);
  CHECK(crowd.Forecast(15, Waiting(crowd, budget, 49, 20), budget) == 64);
  CHECK(crowd.Forecast(15, Waiting(crowd, budget, 49, 0), budget) == 64);  // read already
  CHECK(crowd.Forecast(15, Waiting(crowd, budget, 49, 800, 1), budget) == 15);
  CHECK(crowd.Forecast(15, Newcomers(), budget) == 15);
}

TEST_CASE("of one that is partly read, or drew a part of its answer, the rest counts") {
  const StepBudget budget = Known();
  const Crowd crowd = AfterAnswersOf(400);
  Sequence sequence = Of(1'000, 0);
  sequence.num_scheduled = 700;
  Newcomers newcomers;
  crowd.Add(sequence, budget, &newcomers);
  CHECK(newcomers.prefill_ns == budget.PrefillNs(700, 300));
  CHECK(newcomers.answer_tokens == Approx(400).margin(2));
  sequence.num_sampled = 150;
  CHECK(crowd.AnswerLeft(sequence) == Approx(250).margin(2));
  sequence.num_sampled = 500;
  CHECK(crowd.AnswerLeft(sequence) == 0);
}

TEST_CASE("before anything is known nobody is left out of the forecast") {
  const StepBudget unknown{StepBudgetOptions{}};
  CHECK(Crowd().Forecast(3, Waiting(Crowd(), unknown, 5, 100), unknown) == 8);
}

TEST_CASE("a usual answer is learned from those that ended, soon from the first") {
  const StepBudget budget = Known();
  Crowd crowd;
  const auto forecast = [&] {
    return crowd.Forecast(15, Waiting(crowd, budget, 60, 1'500), budget);
  };
  const int32_t chat = forecast();
  REQUIRE(chat > 17);
  for (int i = 0; i < 100; ++i) crowd.Learn(Of(10, 1, 1));  // no more was asked for
  for (int i = 0; i < 100; ++i) crowd.Learn(Of(10, 0));     // cancelled while it waited
  CHECK(forecast() == chat);
  for (int i = 0; i < 8; ++i) crowd.Learn(Of(10, 1));
  CHECK(forecast() - 15 < (chat - 15) / 2 + 1);
  for (int i = 0; i < 200; ++i) crowd.Learn(Of(10, 1'000, 1'000));
  CHECK(forecast() > 2 * chat - 15);
}

}  // namespace modu::engine
