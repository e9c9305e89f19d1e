#include "server/cli/chat_session.h"

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <ostream>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace modu::cli {
namespace {

using Json = nlohmann::json;

/// The message of an error answer in OpenAI's shape, else its beginning.
std::string ErrorMessage(int status, const std::string& body) {
  const Json parsed = Json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (parsed.is_object() && parsed.contains("error") && parsed["error"].is_object() &&
      parsed["error"].contains("message") && parsed["error"]["message"].is_string()) {
    return parsed["error"]["message"].get<std::string>();
  }
  return absl::StrCat("the server answered ", status, body.empty() ? "" : ": ",
                      body.substr(0, 300));
}

}  // namespace

struct ChatSession::Impl {
  ChatSettings settings;
  Json messages = Json::array();
};

ChatSession::ChatSession(ChatSettings settings) : impl_(std::make_unique<Impl>()) {
  impl_->settings = std::move(settings);
  Reset();
}

ChatSession::~ChatSession() = default;

void ChatSession::Reset() {
  impl_->messages = Json::array();
  if (!impl_->settings.system.empty()) {
    impl_->messages.push_back({{"role", "system"}, {"content", impl_->settings.system}});
  }
}

size_t ChatSession::num_messages() const { return impl_->messages.size(); }

absl::Status ChatSession::Ask(const std::string& text, std::ostream& out,
                              const std::atomic<bool>& interrupted) {
  const ChatSettings& settings = impl_->settings;
  Json messages = impl_->messages;
  messages.push_back({{"role", "user"}, {"content", text}});
  Json body = {
      {"messages", messages}, {"stream", true}, {"stream_options", {{"include_usage", true}}}};
  if (!settings.model.empty()) body["model"] = settings.model;
  if (settings.temperature) body["temperature"] = *settings.temperature;
  if (settings.top_p) body["top_p"] = *settings.top_p;
  if (settings.max_tokens) body["max_completion_tokens"] = *settings.max_tokens;
  if (settings.seed) body["seed"] = *settings.seed;

  std::string answer, failure;
  bool ended = false, done = false;
  int status = 0;
  last_usage_.clear();
  std::string finish;
  client::StreamHandlers handlers;
  handlers.on_event = [&](std::string_view data) {
    if (data == "[DONE]") {
      done = true;
      return;
    }
    const Json event = Json::parse(data, nullptr, /*allow_exceptions=*/false);
    if (!event.is_object()) return;
    if (event.contains("error")) failure = ErrorMessage(200, std::string(data));
    const Json choices = event.value("choices", Json::array());
    if (choices.is_array() && !choices.empty() && choices[0].is_object()) {
      const Json delta = choices[0].value("delta", Json::object());
      if (delta.is_object() && delta.contains("content") && delta["content"].is_string()) {
        const auto piece = delta["content"].get<std::string>();
        answer += piece;
        out << TerminalSafe(piece) << std::flush;
      }
      if (choices[0].contains("finish_reason") && choices[0]["finish_reason"].is_string()) {
        finish = choices[0]["finish_reason"].get<std::string>();
      }
    }
    const Json usage = event.value("usage", Json());
    if (usage.is_object() && usage.contains("prompt_tokens") &&
        usage.contains("completion_tokens")) {
      last_usage_ = absl::StrCat(usage["prompt_tokens"].dump(), " + ",
                                 usage["completion_tokens"].dump(), " tokens");
      if (finish == "length") last_usage_ += ", cut at the length limit";
    }
  };
  handlers.on_end = [&](int code, std::string error) {
    ended = true;
    status = code;
    if (failure.empty()) failure = std::move(error);
  };
  boost::asio::io_context io;
  const auto call = client::StartStream(io, settings.endpoint, "/v1/chat/completions",
                                        body.dump(-1, ' ', false, Json::error_handler_t::replace),
                                        std::move(handlers));
  bool cancelled = false;
  while (!ended) {
    io.restart();
    io.run_for(std::chrono::milliseconds(50));
    if (interrupted && !cancelled) {
      cancelled = true;
      call->Cancel();
    }
    if (io.stopped() && !ended) break;
  }
  const bool whole = done && failure.empty();
  if (!whole && !cancelled) {
    if (status == 0) return absl::UnavailableError(absl::StrCat("no answer: ", failure));
    if (status != 200) return absl::InvalidArgumentError(ErrorMessage(status, failure));
    return absl::UnavailableError(failure.empty() ? "the answer broke off" : failure);
  }
  impl_->messages = std::move(messages);
  impl_->messages.push_back({{"role", "assistant"}, {"content", answer}});
  return absl::OkStatus();
}

std::string TerminalSafe(const std::string& text) {
  std::string safe;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const bool c1 =
        c == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (c1) {
      ++i;
    } else if ((c >= 0x20 && c != 0x7F) || c == '\n' || c == '\t') {
      safe.push_back(text[i]);
    }
  }
  return safe;
}

}  // namespace modu::cli
