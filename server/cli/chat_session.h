// A conversation with a server over its REST API: the messages so far, and one streamed answer at a
// time. One thread.
#pragma once
#include <atomic>
#include <iosfwd>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "clients/cpp/modu/stream_call.h"

namespace modu::cli {

struct ChatSettings {
  client::Endpoint endpoint;
  std::string model;   // "": the server's only one
  std::string system;  // "": none
  std::optional<double> temperature, top_p;
  std::optional<int64_t> max_tokens, seed;
};

class ChatSession {
 public:
  explicit ChatSession(ChatSettings settings);
  ~ChatSession();

  /// Sends the conversation with `text` added and writes the answer as it comes, made safe for a
  /// terminal. When *interrupted becomes true the answer ends there and what came of it stays in
  /// the conversation. An error leaves the conversation as it was. kUnavailable: no answer;
  /// kInvalidArgument: the server's own words.
  absl::Status Ask(const std::string& text, std::ostream& out,
                   const std::atomic<bool>& interrupted);
  void Reset();
  size_t num_messages() const;
  /// How the last answer ended and what it cost, for one line under it; "" where the server did not
  /// say.
  const std::string& last_usage() const { return last_usage_; }

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::string last_usage_;
};

/// Text that a terminal shows and does not obey: no control characters but newline and tab.
std::string TerminalSafe(const std::string& text);

}  // namespace modu::cli
