// Expressions and statements against real jinja2: fixtures.json is made by make_fixtures.py.
#include <fstream>

#include "nlohmann/json.hpp"
#include "server/text/chat_template.h"
#include "tests/catch.h"

using modu::text::ChatTemplate;
using Json = nlohmann::ordered_json;

TEST_CASE("expressions and statements mean what jinja2 gives them") {
  std::ifstream in(std::string(MODU_SOURCE_DIR) + "/tests/text_template/fixtures.json");
  const Json file = Json::parse(in);
  REQUIRE(file["cases"].size() > 400);
  for (const Json& test : file["cases"]) {
    const auto source = test["template"].get<std::string>();
    INFO(source);
    const auto parsed = ChatTemplate::Parse(source);
    if (test.contains("error")) {
      CHECK((!parsed.ok() || !(*parsed)->Render(file["variables"], 1753531200).ok()));
      continue;
    }
    INFO(parsed.status().ToString());
    CHECK(parsed.ok());
    if (!parsed.ok()) continue;
    const auto result = (*parsed)->Render(file["variables"], 1753531200);
    INFO(result.status().ToString());
    CHECK(result.ok());
    if (result.ok()) CHECK(*result == test["output"].get<std::string>());
    // A template keeps nothing of a render.
    if (result.ok()) CHECK(*(*parsed)->Render(file["variables"], 1753531200) == *result);
  }
}
