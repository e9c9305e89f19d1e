#include "benchmarks/serving/load_run.h"

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <memory>
#include <optional>

#include "nlohmann/json.hpp"

namespace modu::benchmark {
namespace {

using SteadyTime = std::chrono::steady_clock;

class LoadRun {
 public:
  LoadRun(const std::vector<PlannedRequest>& planned, const RunOptions& options)
      : planned_(planned), options_(options) {
    result_.requests.resize(planned.size());
    raw_events_.resize(planned.size());
    for (const PlannedRequest& request : planned)
      bodies_.push_back(CompletionBody(request, options.model, options.draw, options.every_token));
  }

  RunResult Run(bool poisson) {
    const CpuSeconds before = ReadCpuSeconds(options_.server_pid);
    std::optional<StallWatch> watch;
    if (options_.watch_stalls) watch.emplace();
    begin_ = watch ? watch->begin() : SteadyTime::now();
    if (poisson) {
      for (size_t i = 0; i < planned_.size(); ++i) StartAt(i, planned_[i].arrival_s);
    } else {
      for (int i = 0; i < options_.concurrency; ++i) StartNext();
    }
    io_.run();
    result_.wall_s = Now();
    if (watch) result_.stalls = watch->Stop();
    const CpuSeconds after = ReadCpuSeconds(options_.server_pid);
    result_.cpu = {after.client - before.client, after.server - before.server,
                   after.machine - before.machine,
                   std::max(after.server_rss_mib, before.server_rss_mib)};
    // JSON is read after the run, so that the client does not compete with a server on the same
    // cores.
    for (size_t i = 0; i < planned_.size(); ++i) ReadEvents(i);
    return std::move(result_);
  }

 private:
  struct RawEvent {
    double at_s;
    std::string data;
  };

  double Now() const { return std::chrono::duration<double>(SteadyTime::now() - begin_).count(); }

  void StartAt(size_t index, double at_s) {
    auto timer = std::make_shared<boost::asio::steady_timer>(io_);
    timer->expires_at(begin_ + std::chrono::duration_cast<SteadyTime::duration>(
                                   std::chrono::duration<double>(at_s)));
    timer->async_wait(
        [this, index, timer](const boost::system::error_code&) { Start(index, [] {}); });
  }

  void StartNext() {
    if (next_ == planned_.size()) return;
    Start(next_++, [this] { StartNext(); });
  }

  void Start(size_t index, std::function<void()> then) {
    result_.requests[index].sent_s = Now();
    client::StreamHandlers handlers;
    handlers.on_event = [this, index](std::string_view data) {
      raw_events_[index].push_back({Now(), std::string(data)});
    };
    handlers.on_end = [this, index, then = std::move(then)](int status, std::string error) {
      RequestRecord& record = result_.requests[index];
      record.ended_s = Now();
      record.status = status;
      record.error = std::move(error);
      then();
    };
    client::StartStream(io_, options_.endpoint, options_.target, bodies_[index],
                        std::move(handlers), options_.pace);
  }

  void ReadEvents(size_t index) {
    RequestRecord& record = result_.requests[index];
    bool done = false;
    for (const RawEvent& event : raw_events_[index]) {
      if (event.data == "[DONE]") {
        done = true;
        continue;
      }
      const nlohmann::json json = nlohmann::json::parse(event.data, nullptr, false);
      if (!json.is_object() || json.contains("error")) {
        record.error = event.data;
        continue;
      }
      if (json.contains("usage") && json["usage"].is_object()) {
        record.output_tokens = json["usage"].value("completion_tokens", 0);
        record.prompt_tokens = json["usage"].value("prompt_tokens", 0);
      }
      if (!json.contains("choices") || json["choices"].empty()) continue;
      const nlohmann::json& choice = json["choices"][0];
      // Whatever a token's text is (an incomplete character has none), its event marks when it
      // came; the closing event that only carries finish_reason does not.
      const bool closing = choice.contains("finish_reason") && !choice["finish_reason"].is_null() &&
                           choice.value("text", std::string()).empty() &&
                           (!choice.contains("token_ids") || choice["token_ids"].empty());
      if (!closing) record.event_s.push_back(event.at_s);
    }
    if (record.output_tokens == 0) record.output_tokens = static_cast<int>(record.event_s.size());
    if (record.error.empty() && !done) record.error = "stream ended without [DONE]";
  }

  const std::vector<PlannedRequest>& planned_;
  const RunOptions& options_;
  boost::asio::io_context io_{1};
  SteadyTime::time_point begin_;
  std::vector<std::string> bodies_;
  std::vector<std::vector<RawEvent>> raw_events_;
  size_t next_ = 0;
  RunResult result_;
};

}  // namespace

RunResult RunLoad(const std::vector<PlannedRequest>& requests, bool poisson,
                  const RunOptions& options) {
  return LoadRun(requests, options).Run(poisson);
}

}  // namespace modu::benchmark
