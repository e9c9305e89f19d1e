// Every published template of the test data, against what Python's jinja2 rendered for the same
// conversations.
#include <filesystem>
#include <fstream>
#include <sstream>

#include "nlohmann/json.hpp"
#include "server/text/chat_template.h"
#include "tests/catch.h"

using modu::text::ChatTemplate;
using Json = nlohmann::ordered_json;

namespace {

std::string ReadFile(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

constexpr int64_t kNow = 1753531200;  // 2025-07-26 12:00:00, when the vectors were made

}  // namespace

TEST_CASE("published templates render byte for byte as jinja2 renders them") {
  const std::filesystem::path models = std::string(MODU_SOURCE_DIR) + "/../shared/data/models";
  const std::filesystem::path vectors = models / "vectors/chat";
  if (!std::filesystem::exists(vectors)) {
    WARN("the models' test data is not here: skipped");
    return;
  }
  int rendered = 0;
  for (const auto& entry : std::filesystem::directory_iterator(vectors)) {
    const Json file = Json::parse(ReadFile(entry.path()));
    INFO(entry.path().filename().string());
    const auto parsed = ChatTemplate::Parse(ReadFile(models / file["template"].get<std::string>()));
    INFO(parsed.status().ToString());
    REQUIRE(parsed.ok());
    for (const Json& test : file["cases"]) {
      Json variables = {{"bos_token", file["bos_token"]}, {"eos_token", file["eos_token"]}};
      variables["tools"] = nullptr;
      variables["add_generation_prompt"] = true;
      for (auto it = test["context"].begin(); it != test["context"].end(); ++it)
        variables[it.key()] = it.value();
      INFO(test["name"].get<std::string>());
      const auto result = (*parsed)->Render(variables, kNow);
      INFO(result.status().ToString());
      if (test.contains("error")) {
        CHECK(!result.ok());
      } else {
        CHECK(result.ok());
        if (result.ok()) CHECK(*result == test["output"].get<std::string>());
      }
      ++rendered;
    }
  }
  CHECK(rendered >= 13);
}
