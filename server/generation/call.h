// One call from Start to its terminal move. Commands and engine events go through an inbox and are
// worked off by one thread at a time, in order (a strand); the sink is called from there only.
// End() is the one function that makes the terminal move: places given back, metrics, last message.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include "engine/request/request.h"
#include "server/generation/choice.h"
#include "server/generation/generation_service.h"

namespace modu::telemetry {
class TokenTally;
}

namespace modu::generation {

struct Core;

class Call final : public GenerationCall, public std::enable_shared_from_this<Call> {
 public:
  Call(std::shared_ptr<Core> core, uint64_t id, api::GenerationRequest request,
       std::shared_ptr<ResponseSink> sink);

  void Cancel() override;

  struct Prepare {};
  struct CancelAll {};
  struct Abort {
    api::ApiError error;
  };
  struct Token {
    int32_t choice;
    int64_t time_ns;  // when the engine handed it over
    engine::TokenEvent event;
  };
  struct PromptScores {
    int32_t choice;
    engine::PromptLogprobsEvent event;
  };
  struct Terminal {
    int32_t choice;
    engine::TerminalEvent event;
  };
  using Item = std::variant<Prepare, CancelAll, Abort, Token, PromptScores, Terminal>;

  /// True: nobody is working on this call, so the caller must see to it that Run is called.
  [[nodiscard]] bool Post(Item item);
  void Run() noexcept;
  /// The same, with tokens counted in `tally`, which the caller tells the metrics; the call does
  /// before it says its last word.
  void Run(telemetry::TokenTally* tally) noexcept;

  /// Its places are counted: End gives them back.
  void Admitted();
  /// Refused before it had a place: the terminal move of a call that was never in.
  void Refuse(const api::ApiError& error);

  uint64_t id() const { return id_; }

 private:
  void Work(Item& item);
  void DoPrepare();
  bool RenderAll();
  bool FitLengths();
  void SubmitAll();
  void DoToken(Token& token);
  void DoTerminal(Terminal& terminal);
  void DoCancel();
  /// The call cannot go on: engine requests are cancelled, and End comes when the last of them is
  /// over.
  void Fail(const api::ApiError& error, const char* outcome, const char* reason);
  /// What went wrong inside; the client learns only that something did.
  void LogInternal(std::string_view what) const;
  void EmitEchoes();
  /// Gives the sink what the choices have gathered; `all`: also what might wait.
  void Flush(bool all);
  void MaybeEnd();
  void End(const char* outcome, const api::ApiError* error);
  void LeaveQueue(int32_t choice);
  Usage SoFar() const;
  void TellTokens(telemetry::TokenTally* tally) const;
  int32_t num_choices() const { return static_cast<int32_t>(request_.prompts.size()) * request_.n; }

  const std::shared_ptr<Core> core_;
  const uint64_t id_;
  api::GenerationRequest request_;
  const bool chat_;
  std::shared_ptr<ResponseSink> sink_;
  std::atomic<bool> cancelled_{false};

  std::mutex mu_;
  std::vector<Item> inbox_;
  bool busy_ = false;

  // Strand only.
  std::vector<Item> taken_;  // from the inbox; the two change places, and none is allocated anew
  telemetry::TokenTally* tally_ = nullptr;  // of the run under way
  struct Running {
    engine::RequestId engine_id = 0;
    std::unique_ptr<Choice> choice;
    int64_t queued_tokens = 0;  // still counted in the queue
    int64_t last_token_ns = 0;
    bool over = false;  // the engine has said its last word, or never had it
    bool echoed = false;
  };
  std::vector<std::vector<int32_t>> prompt_ids_;
  std::vector<Running> running_;
  int32_t num_over_ = 0;
  int64_t queued_bytes_ = 0;
  int64_t arrival_ns_ = 0;
  bool admitted_ = false, accepted_ = false, aborted_ = false, ended_ = false,
       started_output_ = false;
  std::optional<api::ApiError> error_;
  std::string outcome_, failure_, finish_reason_;
  int32_t max_tokens_ = 0, cached_tokens_ = 0;
  engine::RequestTimes times_;
};

}  // namespace modu::generation
