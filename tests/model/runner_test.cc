// The runner over small models that the test writes itself: both kinds of file give the same
// engine, and a row's bits depend on that row alone: whatever the chunking, the neighbours, the
// threads.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "engine/runner/load_model.h"
#include "engine/runner/transformer_runner.h"
#include "kernels/float_formats.h"
#include "kernels/kv_codes.h"
#include "tests/catch.h"
#include "tests/checkpoint/model_writers.h"
#include "tests/model/double_reference.h"
#include "tests/model/loaded_models.h"
#include "tests/model/sequence_driver.h"

namespace modu::engine {
namespace {

TEST_CASE("GGUF and safetensors of one model give the same bits") {
  const std::string architecture = GENERATE("llama", "qwen2", "qwen3");
  const bool q8_0 = GENERATE(false, true);
  INFO(architecture << (q8_0 ? " Q8_0" : " F32"));
  tests::SmallModel sizes;
  sizes.all_biases = architecture == "llama" && GENERATE(false, true);
  tests::SmallModel model = tests::MakeSmallModel(architecture, 11, sizes);
  if (q8_0) tests::RoundToQ8_0(&model);  // so that both files hold the same numbers
  const BothKinds files(model, q8_0);
  LoadedModel a = Load(files.gguf(), {}), b = Load(files.folder(), {});
  CHECK(a.format == "GGUF v3");
  CHECK(b.format == "safetensors");
  const auto ids = RandomIds(45, model.vocab, 5);
  CHECK(SameBits(AllLogprobs(a.runner.get(), ids, {45}), AllLogprobs(b.runner.get(), ids, {45})));
}

/// Largest difference from the transformer in double.
double FromDouble(const tests::SmallModel& model, const std::vector<int>& windows,
                  const Backend& backend) {
  const BothKinds files(model);
  LoadedModel loaded = Load(files.folder(), backend);
  CHECK(loaded.unused_tensors.empty());
  const auto ids = RandomIds(75, model.vocab, 8);
  const auto got = AllLogprobs(loaded.runner.get(), ids, {40, 1, 7});
  const auto want = tests::DoubleLogprobs(model, ids, windows);
  double largest = 0;
  for (size_t t = 0; t < ids.size(); ++t) {
    REQUIRE(got[t].size() == want[t].size());
    for (const TokenLogprob& entry : got[t]) {
      const double expected = want[t][static_cast<size_t>(entry.token_id)];
      largest = std::max(largest, std::fabs(entry.logprob - expected));
    }
  }
  return largest;
}

TEST_CASE("biases everywhere, and windows that differ by layer, give the double transformer's") {
  const std::string backend = GENERATE("ref", "cpu");
  INFO(backend);
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    INFO(architecture);
    CHECK(FromDouble(tests::MakeSmallModel(architecture, 31), {0, 0}, {backend}) < 1e-3);
  }
  tests::SmallModel biased;
  biased.all_biases = true;
  CHECK(FromDouble(tests::MakeSmallModel("llama", 32, biased), {0, 0}, {backend}) < 1e-3);

  tests::SmallModel mixed;
  mixed.layers = 4;
  mixed.more_config =
      "\"sliding_window\": 9, \"use_sliding_window\": true, \"layer_types\": "
      "[\"sliding_attention\", "
      "\"full_attention\", \"full_attention\", \"sliding_attention\"], ";
  const tests::SmallModel model = tests::MakeSmallModel("qwen3", 33, mixed);
  CHECK(FromDouble(model, {9, 0, 0, 9}, {backend}) < 1e-3);
  // The test can fail: another mixture is far away.
  CHECK(FromDouble(model, {9, 0, 9, 0}, {backend}) > 0.1);
  CHECK(FromDouble(model, {8, 0, 0, 9}, {backend}) > 0.01);

  mixed.more_config =
      "\"sliding_window\": 9, \"use_sliding_window\": true, \"max_window_layers\": 3, ";
  CHECK(FromDouble(tests::MakeSmallModel("qwen2", 34, mixed), {0, 0, 0, 9}, {backend}) < 1e-3);
}

TEST_CASE("FP8 weights with tensor and channel scales are the numbers they stand for") {
  tests::SmallModel model = tests::MakeSmallModel("llama", 12);
  std::vector<tests::SafetensorsPart> parts;
  for (tests::NamedTensor& tensor : model.tensors) {
    const bool fp8 = tensor.shape.size() == 2 && tensor.name.find("_proj") != std::string::npos;
    if (!fp8) {
      parts.push_back({tensor.name, "F32", tensor.shape, tests::EncodeF32(tensor.values)});
      continue;
    }
    const bool per_channel = tensor.name.find("mlp") != std::string::npos;
    const auto rows = static_cast<size_t>(tensor.shape[0]),
               cols = static_cast<size_t>(tensor.shape[1]);
    std::vector<float> scales;
    tests::Bytes codes;
    for (size_t r = 0; r < rows; ++r) {
      if (per_channel || r == 0) scales.push_back(0.001f * static_cast<float>(r % 7 + 1));
      for (size_t c = 0; c < cols; ++c) {
        float& value = tensor.values[r * cols + c];
        const uint8_t code = kernels::FloatToF8E4M3(value / scales.back());
        codes.push_back(static_cast<char>(code));
        value = kernels::F8E4M3ToFloat(code) * scales.back();
      }
    }
    parts.push_back({tensor.name, "F8_E4M3", tensor.shape, codes});
    std::vector<int64_t> shape;
    if (per_channel) shape = {static_cast<int64_t>(rows), 1};
    parts.push_back({tensor.name + "_scale", "F32", shape, tests::EncodeF32(scales)});
  }
  const tests::TempFolder folder;
  folder.Write("config.json", tests::ConfigJson(model));
  folder.Write("model.safetensors", tests::ToSafetensors(parts));
  const BothKinds plain(model);  // values now are what the codes stand for
  const Backend backend = GENERATE(Backend{"ref"}, Backend{"cpu"});
  LoadedModel fp8 = Load(folder.Path(), backend), f32 = Load(plain.folder(), {});
  CHECK(fp8.unused_tensors.empty());
  const auto ids = RandomIds(33, model.vocab, 6);
  const double difference = Difference(AllLogprobs(fp8.runner.get(), ids, {33}),
                                       AllLogprobs(f32.runner.get(), ids, {33}));
  INFO(difference);
  CHECK(difference < 1e-3);
  // Scales that are missing or of blocks are refused by name.
  auto broken = parts;
  for (auto& part : broken) {
    if (part.name == "model.layers.0.mlp.up_proj.weight_scale") part.name += "_inv";
  }
  folder.Write("model.safetensors", tests::ToSafetensors(broken));
  auto refused = OpenCheckpoint(folder.Path());
  REQUIRE_FALSE(refused.ok());
  CHECK(std::string(refused.status().message()).find("up_proj.weight_scale_inv") !=
        std::string::npos);
}

std::vector<Backend> Backends() {
  return {{"ref", Numerics::kExact},    {"ref", Numerics::kBf16},    {"ref", Numerics::kInt8},
          {"cpu", Numerics::kExact, 1}, {"cpu", Numerics::kBf16, 1}, {"cpu", Numerics::kInt8, 1}};
}

TEST_CASE("a row's bits depend on that row alone") {
  const size_t which = GENERATE(0u, 1u, 2u, 3u, 4u, 5u);
  const bool q8_0 = GENERATE(true, false);
  const Backend backend = Backends()[which];
  INFO(backend.name << " numerics " << static_cast<int>(backend.numerics)
                    << (q8_0 ? " Q8_0" : " F32"));
  tests::SmallModel model = tests::MakeSmallModel("qwen3", 13);
  const BothKinds files(model, q8_0);
  LoadedModel loaded = Load(files.gguf(), backend);
  ModelRunner* runner = loaded.runner.get();
  const auto ids = RandomIds(100, model.vocab, 7);
  const auto whole = AllLogprobs(runner, ids, {100});
  CHECK_FALSE(SameBits(whole, AllLogprobs(runner, RandomIds(100, model.vocab, 70), {100})));
  for (const std::vector<size_t>& chunks :
       {std::vector<size_t>{1}, {31, 1, 33, 2}, {32}, {64, 36}, {7}, {99, 1}}) {
    INFO("first chunk " << chunks[0]);
    CHECK(SameBits(whole, AllLogprobs(runner, ids, chunks, 16)));
  }
  // In a crowd: the same sequence between two others, one of them decoding.
  const auto others = RandomIds(20, model.vocab, 8);
  tests::SequenceDriver first(runner, 0, 8), middle(runner, 8, 8), last(runner, 16, 8);
  REQUIRE(first.Step({others.begin(), others.begin() + 19}, {}).status.ok());
  ForwardInput input;
  first.AddTo(&input, {others[19]});
  middle.AddTo(&input, ids);
  last.AddTo(&input, others);
  for (int32_t i = 0; i < 100; ++i)
    input.sample_rows.push_back(tests::TargetRow(1 + i, 0, runner->spec().vocab_size));
  const StepOutput crowd = runner->Wait(runner->Launch(std::move(input)));
  REQUIRE(crowd.status.ok());
  std::vector<std::vector<TokenLogprob>> rows;
  for (const SampledRow& row : crowd.rows) rows.push_back(row.top_logprobs);
  CHECK(SameBits(whole, rows));
  if (backend.name == "cpu") {
    Backend two = backend;
    two.threads = 2;
    LoadedModel threaded = Load(files.gguf(), two);
    CHECK(SameBits(whole, AllLogprobs(threaded.runner.get(), ids, {13})));
  }
}

TEST_CASE("rows that nobody asks for change no bit of the others") {
  const Backend backend = Backends()[GENERATE(0u, 2u, 3u, 4u, 5u)];
  tests::SmallModel sizes;
  const std::string architecture = GENERATE("llama", "qwen3", "one layer", "sliding");
  if (architecture == "one layer") sizes.layers = 1;
  if (architecture == "sliding") {
    sizes.more_config = "\"sliding_window\": 9, \"use_sliding_window\": true, ";
  }
  INFO(backend.name << " numerics " << static_cast<int>(backend.numerics) << " " << architecture);
  const tests::SmallModel model =
      tests::MakeSmallModel(architecture == "llama" ? "llama" : "qwen3", 21, sizes);
  const BothKinds files(model);
  LoadedModel loaded = Load(architecture == "sliding" ? files.folder() : files.gguf(), backend);
  ModelRunner* runner = loaded.runner.get();
  const std::vector<size_t> lengths = {1, 40, 33, 20};
  std::vector<std::vector<int32_t>> ids;
  std::vector<std::vector<std::vector<TokenLogprob>>> all;
  for (size_t s = 0; s < lengths.size(); ++s) {
    // One token more: the next step's, which sees the KV that this one has written.
    ids.push_back(RandomIds(lengths[s] + 1, model.vocab, 90 + static_cast<uint32_t>(s)));
    all.push_back(AllLogprobs(runner, ids[s], {50}));
  }
  std::mt19937 random(5);
  for (int round = 0; round < 12; ++round) {
    std::vector<tests::SequenceDriver> sequences;
    ForwardInput input, next;
    input.step = 1;
    next.step = 2;
    std::vector<std::vector<TokenLogprob>> expected, expected_next;
    std::vector<SampleRow> asked;
    std::vector<std::pair<size_t, size_t>> places;  // of a row: sequence, token
    for (size_t s = 0; s < lengths.size(); ++s) {
      // Other KV in the blocks, so that what this round does not write shows.
      AllLogprobs(runner,
                  RandomIds(lengths[s] + 1, model.vocab, static_cast<uint32_t>(500 + round)), {50},
                  static_cast<int32_t>(8 * s));
      sequences.emplace_back(runner, static_cast<int32_t>(8 * s), 8);
      const auto begin = static_cast<int32_t>(input.token_ids.size());
      sequences[s].AddTo(&input, {ids[s].begin(), ids[s].end() - 1});
      // Round 0 asks for nothing, the others for none, the last or any rows of each sequence.
      const unsigned kind = round == 0 ? 0 : random() % 3;
      for (size_t i = 0; i < lengths[s]; ++i) {
        if (kind == 0 || (kind == 1 ? i + 1 < lengths[s] : random() % 8 != 0)) continue;
        asked.push_back(tests::TargetRow(begin + static_cast<int32_t>(i), 0, model.vocab));
        places.emplace_back(s, i);
      }
    }
    std::vector<size_t> order(asked.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::shuffle(order.begin(), order.end(), random);
    for (const size_t i : order) {
      input.sample_rows.push_back(asked[i]);
      expected.push_back(all[places[i].first][places[i].second]);
    }
    for (size_t s = 0; s < lengths.size(); ++s) {
      sequences[s].AddTo(&next, {ids[s].back()});
      next.sample_rows.push_back(
          tests::TargetRow(static_cast<int32_t>(s), 0, runner->spec().vocab_size));
      expected_next.push_back(all[s].back());
    }
    INFO("round " << round << ", " << asked.size() << " rows");
    for (auto& [step, rows] : {std::pair{&input, &expected}, std::pair{&next, &expected_next}}) {
      const StepOutput output = runner->Wait(runner->Launch(*step));
      REQUIRE(output.status.ok());
      std::vector<std::vector<TokenLogprob>> drawn;
      for (const SampledRow& row : output.rows) drawn.push_back(row.top_logprobs);
      CHECK(SameBits(*rows, drawn));
    }
  }
}

TEST_CASE("KV in codes is the plain backend's, up to codes that are as near") {
  const kernels::DType kv = GENERATE(kernels::DType::kI8, kernels::DType::kF8E4M3);
  const std::string architecture = GENERATE("llama", "qwen3");
  const tests::SmallModel model = tests::MakeSmallModel(architecture, 15);
  const BothKinds files(model);
  LoadedModel whole = Load(files.gguf(), {}), ref = Load(files.gguf(), {}, kv),
              cpu = Load(files.gguf(), {"cpu", Numerics::kExact}, kv);
  const auto ids = RandomIds(80, model.vocab, 9);
  const auto coded = AllLogprobs(ref.runner.get(), ids, {80});
  const double between = Compare(AllLogprobs(cpu.runner.get(), ids, {80}), coded).mean;
  const double codes = Compare(AllLogprobs(whole.runner.get(), ids, {80}), coded).mean;
  INFO(kernels::TraitsOf(kv).name << " " << architecture << ": " << between << " of " << codes);
  CHECK(codes > 0);
  CHECK(between < 0.2 * codes);
}

TEST_CASE("the x86 backend agrees with the plain one in every numerics mode") {
  const Numerics numerics = GENERATE(Numerics::kExact, Numerics::kBf16, Numerics::kInt8);
  const std::string architecture = GENERATE("llama", "qwen2", "qwen3");
  const bool q8_0 = GENERATE(true, false);
  INFO("numerics " << static_cast<int>(numerics) << " " << architecture
                   << (q8_0 ? " Q8_0" : " F32"));
  const tests::SmallModel model = tests::MakeSmallModel(architecture, 14);
  const BothKinds files(model, q8_0);
  const kernels::DType kv = OpenDevice({"cpu", numerics})->DefaultKvDType();
  LoadedModel ref = Load(files.gguf(), {"ref", numerics}, kv),
              cpu = Load(files.gguf(), {"cpu", numerics}, kv);
  const auto ids = RandomIds(80, model.vocab, 9);
  const double difference = Difference(AllLogprobs(ref.runner.get(), ids, {80}),
                                       AllLogprobs(cpu.runner.get(), ids, {80}));
  INFO(difference);
  const bool rounding = kernels::IsKvCode(kv) || cpu.device.find("amx") != std::string::npos ||
                        cpu.device.find("avx512bf16") != std::string::npos;
  if (numerics != Numerics::kExact && rounding) {
    // Attention by products of bf16 or bytes rounds queries and probabilities too, and a K or V
    // between two codes may become either: as far from exact as the mode itself is, in a direction
    // of its own. Of several texts, and without the very largest, which are a matter of chance.
    LoadedModel exact = Load(files.gguf(), {"ref", Numerics::kExact});
    const auto of_texts = [&](const LoadedModel& loaded) {
      std::vector<std::vector<TokenLogprob>> rows;
      for (const uint32_t seed : {9, 10, 11, 12, 13, 14, 15, 16}) {
        const auto text = AllLogprobs(loaded.runner.get(), RandomIds(80, model.vocab, seed), {80});
        rows.insert(rows.end(), text.begin(), text.end());
      }
      return rows;
    };
    const auto truth = of_texts(exact), plain = of_texts(ref), vectors = of_texts(cpu);
    const Differences grain = Compare(plain, truth), mine = Compare(vectors, truth);
    const double apart = Compare(plain, vectors).mean;
    CHECK(mine.mean < 1.3 * grain.mean);
    CHECK(mine.far < 1.3 * grain.far);
    CHECK(mine.largest < 2 * grain.largest);
    CHECK(apart < 1.3 * grain.mean);  // errors of no common origin would be 1.4 apart
    return;
  }
  // Rounding boundaries fall differently in float32 and float64, so the coarse modes only agree to
  // their own grain.
  CHECK(difference < (numerics == Numerics::kExact  ? 1e-3
                      : numerics == Numerics::kBf16 ? 0.3
                                                    : 0.5));
}

TEST_CASE("an input id may point at what a row of the step before drew") {
  const tests::SmallModel model = tests::MakeSmallModel("llama", 15);
  const BothKinds files(model);
  LoadedModel loaded = Load(files.folder(), {});
  ModelRunner* runner = loaded.runner.get();
  const auto ids = RandomIds(10, model.vocab, 10);
  SamplingParams greedy;
  greedy.temperature = 0;
  const SamplerSlot slot = runner->StartSequence(greedy, ids, 0);
  const auto run = [&](bool point) {
    tests::SequenceDriver sequence(runner, 0, 8);
    StepOutput step = sequence.Step(ids, {tests::TargetRow(2, 5), tests::GreedyRow(9, slot, 3)});
    std::vector<int32_t> tokens = {step.rows.at(1).token_id};
    for (int i = 0; i < 5; ++i) {
      const int32_t id = point ? PreviousSample(i == 0 ? 1 : 0) : tokens.back();
      tokens.push_back(sequence.Step({id}, {tests::GreedyRow(0, slot, 3)}).rows.at(0).token_id);
    }
    return tokens;
  };
  CHECK(run(true) == run(false));
  // A row that no step drew is a bug of the scheduler's: an error, not a read past the end.
  tests::SequenceDriver sequence(runner, 0, 8);
  CHECK_FALSE(sequence.Step({PreviousSample(7)}, {}).status.ok());
  runner->EndSequence(slot);
}

TEST_CASE(
    "guesses that are right give what step after step gives, and nothing follows a wrong one") {
  const tests::SmallModel model = tests::MakeSmallModel("llama", 19);
  const bool q8_0 = GENERATE(false, true);
  const Backend backend =
      q8_0 ? Backend{"cpu", Numerics::kInt8, 2} : Backend{"cpu", Numerics::kBf16, 2};
  const BothKinds files(model, q8_0);
  LoadedModel loaded = Load(q8_0 ? files.gguf() : files.folder(), backend);
  ModelRunner* runner = loaded.runner.get();
  const auto ids = RandomIds(10, model.vocab, 12);
  SamplingParams params;  // with a memory, and with chance
  params.temperature = 0.9f;
  params.repetition_penalty = 1.3f;
  params.presence_penalty = 0.5f;
  params.seed = 4;
  constexpr int32_t kSteps = 72;
  // What drafts are checked in: rows [first, first + n) of one step, the drafts' own ids given.
  const auto rows_of = [](SamplerSlot slot, int32_t first_token_row, int32_t position, int32_t n) {
    std::vector<SampleRow> rows;
    for (int32_t i = 0; i < n; ++i) {
      SampleRow row = tests::GreedyRow(first_token_row + i, slot, 3);
      row.position = position + i;
      row.after_draft = i > 0;
      rows.push_back(row);
    }
    return rows;
  };
  std::vector<SampledRow> alone;
  {
    const SamplerSlot slot = runner->StartSequence(params, ids, 0);
    tests::SequenceDriver sequence(runner, 0, 8);
    alone.push_back(sequence.Step(ids, rows_of(slot, 9, 0, 1)).rows.at(0));
    for (int32_t i = 1; i < kSteps; ++i)
      alone.push_back(sequence.Step({alone.back().token_id}, rows_of(slot, 0, i, 1)).rows.at(0));
    runner->EndSequence(slot);
  }
  // More rows than one head product holds, so that a run of them is cut; one guess is wrong.
  for (const int32_t wrong : {1, 5, 63, 64, 65, kSteps}) {
    const SamplerSlot slot = runner->StartSequence(params, ids, 0);
    tests::SequenceDriver sequence(runner, 0, 8);
    std::vector<int32_t> fed = ids;
    for (int32_t i = 0; i + 1 < kSteps; ++i)
      fed.push_back(i + 1 == wrong ? (alone[i].token_id + 1) % model.vocab : alone[i].token_id);
    const StepOutput step = sequence.Step(fed, rows_of(slot, 9, 0, kSteps));
    REQUIRE(step.status.ok());
    for (int32_t i = 0; i < kSteps; ++i) {
      INFO("wrong " << wrong << ", row " << i);
      if (i >= wrong) {
        CHECK(step.rows[i].token_id == -1);
        continue;
      }
      CHECK(step.rows[i].token_id == alone[i].token_id);
      CHECK(SameBits({step.rows[i].top_logprobs}, {alone[i].top_logprobs}));
    }
    runner->EndSequence(slot);
  }
}

TEST_CASE("greedy rows draw the same whether or not their logits are computed") {
  tests::SmallModel sizes;
  sizes.vocab = 3000;
  // Tied, so that some logits stand out and the head's upper bits can tell the largest.
  const tests::SmallModel model = tests::MakeSmallModel("qwen3", 23, sizes);
  const BothKinds files(model, /*q8_0=*/true);
  LoadedModel loaded = Load(files.gguf(), Backend{"cpu", Numerics::kInt8, 2});
  ModelRunner* runner = loaded.runner.get();
  SamplingParams greedy;
  greedy.temperature = 0;
  const auto ids = RandomIds(10, model.vocab, 13);
  constexpr int32_t kAsked = 0, kNotAsked = -1;  // of log probabilities
  const auto run = [&](int32_t logprobs) {
    const SamplerSlot slot = runner->StartSequence(greedy, ids, 0);
    tests::SequenceDriver sequence(runner, 0, 8);
    std::vector<int32_t> drawn = {
        sequence.Step(ids, {tests::GreedyRow(9, slot, logprobs)}).rows.at(0).token_id};
    for (int i = 0; i < 40; ++i) {
      const StepOutput step = sequence.Step({drawn.back()}, {tests::GreedyRow(0, slot, logprobs)});
      drawn.push_back(step.rows.at(0).token_id);
    }
    runner->EndSequence(slot);
    return drawn;
  };
  const std::vector<int32_t> want = run(kAsked);
  CHECK(run(kNotAsked) == want);
  // A guess that is right is followed by a draw, a wrong one by none; also where a run of guesses
  // is cut because one head product does not hold its rows.
  constexpr int32_t kRun = 72;
  std::vector<int32_t> all = want;
  {
    const SamplerSlot slot = runner->StartSequence(greedy, ids, 0);
    tests::SequenceDriver sequence(runner, 0, 8);
    std::vector<int32_t> fed = ids;
    fed.insert(fed.end(), all.begin(), all.end() - 1);
    sequence.Step(fed, {});
    while (static_cast<int32_t>(all.size()) < kRun) {
      all.push_back(
          sequence.Step({all.back()}, {tests::GreedyRow(0, slot, kAsked)}).rows.at(0).token_id);
    }
    runner->EndSequence(slot);
  }
  for (const int32_t wrong : {1, 2, 63, 64, 65, kRun}) {
    for (const int32_t num_rows : {2, kRun}) {
      const SamplerSlot slot = runner->StartSequence(greedy, ids, 0);
      tests::SequenceDriver sequence(runner, 0, 8);
      std::vector<int32_t> fed = ids;
      std::vector<SampleRow> rows;
      for (int32_t i = 0; i < num_rows; ++i) {
        if (i > 0) fed.push_back(i == wrong ? (all[i - 1] + 1) % model.vocab : all[i - 1]);
        rows.push_back(tests::GreedyRow(9 + i, slot, kNotAsked));
        rows.back().after_draft = i > 0;
      }
      const StepOutput step = sequence.Step(fed, rows);
      REQUIRE(step.status.ok());
      for (int32_t i = 0; i < num_rows; ++i) {
        INFO("wrong " << wrong << " of " << num_rows << ", row " << i);
        CHECK(step.rows[i].token_id == (i < wrong ? all[i] : -1));
      }
      runner->EndSequence(slot);
    }
  }
}

TEST_CASE("more rows than one head product holds") {
  const tests::SmallModel model = tests::MakeSmallModel("llama", 16);
  const BothKinds files(model);
  LoadedModel loaded = Load(files.folder(), {});
  const auto ids = RandomIds(128, model.vocab, 11);
  const auto all = AllLogprobs(loaded.runner.get(), ids, {128});
  REQUIRE(all.size() == 128);
  // One row twice in a step, far apart: the same logits for both.
  tests::SequenceDriver sequence(loaded.runner.get(), 0, 8);
  std::vector<SampleRow> rows(70, tests::TargetRow(40, 3, 5));
  const StepOutput step = sequence.Step(ids, rows);
  for (const SampledRow& row : step.rows) {
    CHECK(row.logprob == step.rows[0].logprob);
    CHECK(row.top_logprobs.at(0).token_id == all[40].at(0).token_id);
  }
}

TEST_CASE("a NaN in one sequence fails that row alone") {
  tests::SmallModel model = tests::MakeSmallModel("llama", 17);
  constexpr int32_t kPoison = 77;
  for (tests::NamedTensor& tensor : model.tensors) {
    if (tensor.name != "model.embed_tokens.weight") continue;
    tensor.values[static_cast<size_t>(kPoison * model.hidden + 5)] =
        GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity());
  }
  const Backend backend =
      GENERATE(Backend{"ref"}, Backend{"cpu"}, Backend{"cpu", Numerics::kBf16},
               Backend{"ref", Numerics::kInt8}, Backend{"cpu", Numerics::kInt8});
  const bool q8_0 = backend.numerics == Numerics::kInt8;
  const BothKinds files(model, q8_0);
  LoadedModel loaded = Load(q8_0 ? files.gguf() : files.folder(), backend);
  ModelRunner* runner = loaded.runner.get();
  const std::vector<int32_t> clean = {1, 2, 3, 4, 5}, poisoned = {1, kPoison, 3};
  const auto alone = AllLogprobs(runner, clean, {5});
  {  // greedily, without logits that anybody asks for
    SamplingParams greedy;
    greedy.temperature = 0;
    const SamplerSlot first = runner->StartSequence(greedy, poisoned, 0);
    const SamplerSlot second = runner->StartSequence(greedy, clean, 0);
    tests::SequenceDriver c(runner, 16, 8), d(runner, 24, 8);
    ForwardInput drawn;
    c.AddTo(&drawn, poisoned);
    d.AddTo(&drawn, clean);
    drawn.sample_rows = {tests::GreedyRow(2, first, -1), tests::GreedyRow(7, second, -1)};
    const StepOutput step = runner->Wait(runner->Launch(std::move(drawn)));
    REQUIRE(step.status.ok());
    CHECK(step.rows[0].numeric_error);
    CHECK_FALSE(step.rows[1].numeric_error);
    CHECK(step.rows[1].token_id == alone[4].at(0).token_id);
    runner->EndSequence(first);
    runner->EndSequence(second);
  }
  tests::SequenceDriver a(runner, 0, 8), b(runner, 8, 8);
  ForwardInput input;
  a.AddTo(&input, poisoned);
  b.AddTo(&input, clean);
  for (int32_t i = 0; i < 8; ++i)
    input.sample_rows.push_back(tests::TargetRow(i, 0, runner->spec().vocab_size));
  const StepOutput step = runner->Wait(runner->Launch(std::move(input)));
  REQUIRE(step.status.ok());
  CHECK_FALSE(step.rows[0].numeric_error);
  CHECK(step.rows[1].numeric_error);
  CHECK(step.rows[2].numeric_error);
  for (size_t i = 0; i < 5; ++i) {
    REQUIRE_FALSE(step.rows[3 + i].numeric_error);
    CHECK(SameBits({step.rows[3 + i].top_logprobs}, {alone[i]}));
  }
}

TEST_CASE("ids that the tokenizer does not have are never drawn") {
  const tests::SmallModel model = tests::MakeSmallModel("llama", 18);
  tests::GgufWriter writer = tests::ToGguf(model, false);
  writer.Strings("tokenizer.ggml.tokens", std::vector<std::string>(40, "t"));
  const tests::TempFolder folder;
  folder.Write("small.gguf", writer.Finish());
  LoadedModel loaded =
      Load(folder.Path("small.gguf"), GENERATE(Backend{}, Backend{"cpu", Numerics::kExact, 2}));
  ModelRunner* runner = loaded.runner.get();
  CHECK(loaded.config.tokenizer_vocab_size == 40);
  SamplingParams greedy;
  greedy.temperature = 0;
  const SamplerSlot slot = runner->StartSequence(greedy, {1}, 0);
  for (int32_t id = 0; id < 40; ++id) {
    tests::SequenceDriver one(runner, 8, 8);
    const int32_t drawn = one.Step({id}, {tests::GreedyRow(0, slot, -1)}).rows.at(0).token_id;
    CHECK((drawn >= 0 && drawn < 40));
    tests::SequenceDriver again(runner, 8, 8);
    CHECK(again.Step({id}, {tests::GreedyRow(0, slot, 0)}).rows.at(0).token_id == drawn);
  }
  runner->EndSequence(slot);
  tests::SequenceDriver sequence(runner, 0, 8);
  const StepOutput step = sequence.Step({1, 2, 3}, {tests::TargetRow(2, 0, 96)});
  double mass = 0;
  for (const TokenLogprob& entry : step.rows.at(0).top_logprobs) {
    if (entry.token_id >= 40) CHECK(std::isinf(entry.logprob));
    mass += std::exp(entry.logprob);
  }
  CHECK(mass == Approx(1.0).epsilon(1e-4));
}

TEST_CASE("step packets that do not fit are errors of the step") {
  const tests::SmallModel model = tests::MakeSmallModel("llama", 19);
  const BothKinds files(model);
  LoadedModel loaded = Load(files.folder(), {});
  ModelRunner* runner = loaded.runner.get();
  const auto sound = [&] {
    tests::SequenceDriver sequence(runner, 0, 8);
    ForwardInput input;
    sequence.AddTo(&input, {1, 2, 3});
    input.sample_rows = {tests::TargetRow(2, 0)};
    return input;
  };
  const auto status = [&](ForwardInput input) {
    return runner->Wait(runner->Launch(std::move(input))).status;
  };
  CHECK(status(sound()).ok());
  const auto broken = [&](auto change) {
    ForwardInput input = sound();
    change(input);
    CHECK(status(std::move(input)).code() == absl::StatusCode::kInternal);
  };
  broken([](ForwardInput& in) { in.token_ids[0] = 96; });
  broken([](ForwardInput& in) { in.token_ids.push_back(1); });
  broken([](ForwardInput& in) { in.cu_seqlens = {0, 2}; });
  broken([](ForwardInput& in) { in.seq_lens = {2}; });
  broken([](ForwardInput& in) { in.seq_lens = {513}; });
  broken([](ForwardInput& in) { in.groups[0].slot_mapping[1] = -1; });
  broken([](ForwardInput& in) { in.groups[0].slot_mapping[1] = 1 << 30; });
  broken([](ForwardInput& in) { in.groups[0].block_table[0] = 1 << 20; });
  broken([](ForwardInput& in) { in.groups[0].block_table.pop_back(); });
  broken([](ForwardInput& in) { in.sample_rows[0].token_row = 3; });
  broken([](ForwardInput& in) { in.sample_rows[0].target_id = 96; });
  broken([](ForwardInput& in) { in.groups.clear(); });
  CHECK(status(sound()).ok());
}

TEST_CASE("options out of range name themselves") {
  const tests::SmallModel model = tests::MakeSmallModel("llama", 20);
  const BothKinds files(model);
  const auto refused = [&](auto change, const std::string& field) {
    RunnerOptions options = Options();
    change(options);
    auto loaded = LoadModel(files.folder(), OpenDevice({}), options, nullptr);
    REQUIRE_FALSE(loaded.ok());
    INFO(loaded.status().ToString());
    CHECK(std::string(loaded.status().message()).find(field) != std::string::npos);
  };
  refused([](RunnerOptions& o) { o.max_model_len = 513; }, "ctx");
  refused([](RunnerOptions& o) { o.max_batch_tokens = 0; }, "max-step-tokens");
  refused([](RunnerOptions& o) { o.max_sequences = 129; }, "max-seqs");
  refused([](RunnerOptions& o) { o.kv_tokens = 1; }, "kv-tokens");
  refused([](RunnerOptions& o) { o.kv_tokens = int64_t{1} << 30; }, "MiB");
  refused([](RunnerOptions& o) { o.kv_dtype = kernels::DType::kQ8_0; }, "kv-dtype");
  RunnerOptions options = Options();
  options.kv_tokens = 64;
  int64_t last = -1, total = 0;
  auto loaded = LoadModel(files.folder(), OpenDevice({}), options, [&](int64_t done, int64_t of) {
    CHECK(done > last);
    CHECK(done <= of);
    last = done, total = of;
  });
  REQUIRE(loaded.ok());
  CHECK(last > 0);
  CHECK(total == loaded->file_bytes);
  CHECK(loaded->runner->spec().max_model_len == 64);
  CHECK(loaded->kv_bytes == 64 * KvBytesPerToken(loaded->config, kernels::DType::kF32));
}

}  // namespace
}  // namespace modu::engine
