// What a client writes stays text: no string of its own becomes a control token, wherever it
// stands.
#include "server/generation/prompt_renderer.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "server/generation/generation_service.h"
#include "tests/api/fake_model.h"
#include "tests/catch.h"

namespace modu::generation {
namespace {

using testing::ByteTokenizer;
using Json = nlohmann::ordered_json;

api::ServedModel ChatModel(const char* source = testing::kChatMl) {
  auto parsed = text::ChatTemplate::Parse(source);
  REQUIRE(parsed.ok());
  return testing::FakeModel(std::move(*parsed));
}

RenderedPrompt Good(const PromptRenderer& renderer, const api::Prompt& prompt) {
  auto rendered = renderer.Render(prompt, {});
  if (auto* error = std::get_if<api::ApiError>(&rendered)) FAIL(error->message);
  return std::get<RenderedPrompt>(rendered);
}

int64_t Controls(const std::vector<int32_t>& ids) {
  return std::count_if(ids.begin(), ids.end(), [](int32_t id) { return id >= 256; });
}

TEST_CASE("the template's control tokens are tokens") {
  const api::ServedModel model = ChatModel();
  const PromptRenderer renderer(&model);
  api::ChatPrompt prompt;
  prompt.messages = Json::parse(R"([{"role":"user","content":"hi"}])");
  const RenderedPrompt rendered = Good(renderer, prompt);
  CHECK(rendered.text == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n");
  CHECK(Controls(rendered.token_ids) == 3);
  CHECK(rendered.token_ids.front() == ByteTokenizer::kStart);
}

TEST_CASE("a client's spellings of them are not, and the text is unchanged") {
  const api::ServedModel model = ChatModel();
  const PromptRenderer renderer(&model);
  std::mt19937 random(5);
  const std::vector<std::string> pieces = {"<|im_end|>",
                                           "<|im_start|>",
                                           "<s>",
                                           "</s>",
                                           "<|im_",
                                           "end|>",
                                           "<",
                                           "x",
                                           "\xEF\xB7\x90"
                                           "0"
                                           "\xEF\xB7\x91",
                                           "<<s>s>",
                                           "한"};
  for (int round = 0; round < 300; ++round) {
    std::string content = "a";
    for (unsigned k = random() % 10; k > 0; --k) content += pieces[random() % pieces.size()];
    api::ChatPrompt prompt;
    prompt.messages = Json::array({Json{{"role", "user"}, {"content", content}}});
    const RenderedPrompt rendered = Good(renderer, prompt);
    CHECK(rendered.text == "<|im_start|>user\n" + content + "<|im_end|>\n<|im_start|>assistant\n");
    CHECK(Controls(rendered.token_ids) == 3);
    CHECK(model.tokenizer->Decode(rendered.token_ids, false) == rendered.text);
  }
}

TEST_CASE("nor in template arguments and names") {
  const api::ServedModel model = ChatModel("{{ who }}{{ messages[0]['name'] }}<|im_end|>");
  const PromptRenderer renderer(&model);
  api::ChatPrompt prompt;
  prompt.messages = Json::parse(R"([{"role":"user","content":"hi","name":"<|im_end|>"}])");
  prompt.template_kwargs["who"] = "</s>";
  const RenderedPrompt rendered = Good(renderer, prompt);
  CHECK(rendered.text == "</s><|im_end|><|im_end|>");
  CHECK(Controls(rendered.token_ids) == 1);
}

TEST_CASE("continue_final_message cuts after the final message") {
  const api::ServedModel model = ChatModel();
  const PromptRenderer renderer(&model);
  api::ChatPrompt prompt;
  prompt.add_generation_prompt = false;
  prompt.continue_final_message = true;
  prompt.messages = Json::parse(
      R"([{"role":"user","content":"hi"},{"role":"assistant","content":"Sure: <s> "}])");
  CHECK(Good(renderer, prompt).text ==
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nSure: <s> ");
}

TEST_CASE("row 77: a template past its budget is 400") {
  const api::ServedModel model = ChatModel("{% for i in range(100000000) %}{{ i }}{% endfor %}");
  const PromptRenderer renderer(&model);
  api::ChatPrompt prompt;
  prompt.messages = Json::parse(R"([{"role":"user","content":"hi"}])");
  auto rendered = renderer.Render(prompt, {});
  REQUIRE(std::holds_alternative<api::ApiError>(rendered));
  CHECK(std::get<api::ApiError>(rendered).http_status == 400);
}

TEST_CASE("a template that refuses says why") {
  const api::ServedModel model = ChatModel("{{ raise_exception('roles must alternate') }}");
  const PromptRenderer renderer(&model);
  api::ChatPrompt prompt;
  prompt.messages = Json::parse(R"([{"role":"user","content":"hi"}])");
  auto rendered = renderer.Render(prompt, {});
  REQUIRE(std::holds_alternative<api::ApiError>(rendered));
  CHECK(std::get<api::ApiError>(rendered).message.find("roles must alternate") !=
        std::string::npos);
}

TEST_CASE("an empty text is the first token where something is to follow, and nothing otherwise") {
  const api::ServedModel model = ChatModel();
  const auto render = [&](bool add_special, bool may_be_empty) -> std::string {
    PromptRenderer::Options options;
    options.may_be_empty = may_be_empty;
    auto rendered = PromptRenderer(&model).Render(api::TextPrompt{"", add_special}, options);
    if (auto* error = std::get_if<api::ApiError>(&rendered)) return error->message;
    std::string ids;
    for (int32_t id : std::get<RenderedPrompt>(rendered).token_ids) ids += std::to_string(id) + " ";
    return ids;
  };
  CHECK(render(true, false) == std::to_string(model.bos_id) + " ");
  CHECK(render(false, false) == "prompt must not be empty where add_special_tokens is false");
  CHECK(render(false, true).empty());
}

TEST_CASE("a prompt past max_tokens is refused, also where its pieces are short") {
  const api::ServedModel model = ChatModel();
  const PromptRenderer renderer(&model);
  const auto code = [&](const api::Prompt& prompt, size_t max_tokens) -> std::string {
    auto rendered = renderer.Render(prompt, {0, max_tokens});
    auto* error = std::get_if<api::ApiError>(&rendered);
    return error == nullptr ? "" : error->param + " " + error->code;
  };
  CHECK(code(api::TextPrompt{std::string(10, 'x'), true}, 11).empty());
  CHECK(code(api::TextPrompt{std::string(10, 'x'), true}, 10) == "prompt context_length_exceeded");
  api::ChatPrompt chat;
  // Spellings of control tokens cut the text into pieces, each far below the limit.
  chat.messages = Json::parse(R"([{"role":"user","content":"<s><s><s><s><s><s>"}])");
  const size_t exact = Good(renderer, chat).token_ids.size();
  CHECK(code(chat, exact).empty());
  CHECK(code(chat, exact - 1) == "messages context_length_exceeded");
}

}  // namespace
}  // namespace modu::generation
