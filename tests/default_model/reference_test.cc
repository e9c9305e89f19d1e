// The plain backend on the default model: it is slow, so a few prompts, in exact mode. What holds
// here is the loader, the model code and the oracle of the fast kernels.
#include <string>

#include "engine/runner/load_model.h"
#include "tests/catch.h"
#include "tests/default_model/golden.h"

namespace modu::engine {
namespace {

TEST_CASE("the plain backend gives the default model's float32 answers") {
  const nlohmann::json golden = tests::LoadGolden();
  if (golden.is_null()) return;
  kernels::DeviceOptions device;
  device.numerics = kernels::Numerics::kExact;
  RunnerOptions options;
  options.max_batch_tokens = 128;
  options.kv_tokens = 512;
  options.kv_dtype = kernels::DType::kF32;
  auto model = LoadModel(tests::DefaultModelPath().string(), kernels::OpenRefDevice(device),
                         options, nullptr);
  INFO(model.status().ToString());
  REQUIRE(model.ok());
  CHECK(model->unused_tensors.empty());
  REQUIRE(model->config.eos_ids == std::vector<int32_t>{2});
  int prompts = 0;
  for (const auto& generation : golden.at("generations")) {
    const auto id = generation.at("id").get<std::string>();
    if (id != "raw-one-token" && id != "raw-korean" && id != "chat-capital") continue;
    INFO(id);
    const tests::ErrorStatistics statistics =
        tests::ScoreGeneration(model->runner.get(), generation, 100);
    INFO("largest error " << statistics.quantile(1.0));
    CHECK(statistics.quantile(1.0) < 1e-3);
    CHECK(statistics.largest_changed_gap < 1e-3);
    ++prompts;
  }
  REQUIRE(prompts == 3);
}

}  // namespace
}  // namespace modu::engine
