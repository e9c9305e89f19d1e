// modu.v1.Modu over a Generator: callback methods that never block. Keeps the register of streams
// that draining and the stall check walk. Thread-safe.
#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "modu/v1/modu.grpc.pb.h"
#include "server/api/error.h"
#include "server/grpc/call_record.h"
#include "server/grpc/generation_stream.h"

namespace modu::grpc_door {

class ModuService final : public modu::v1::Modu::CallbackService {
 public:
  ModuService(generation::Generator* generator, std::function<bool(std::string_view)> allow_key,
              OnCallEnd on_call_end)
      : generator_(generator),
        allow_key_(std::move(allow_key)),
        on_call_end_(std::move(on_call_end)) {}

  EventReactor* Chat(grpc::CallbackServerContext* context,
                     const modu::v1::ChatRequest* request) override;
  EventReactor* Generate(grpc::CallbackServerContext* context,
                         const modu::v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context,
                                     const modu::v1::TokenizeRequest* request,
                                     modu::v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const modu::v1::DetokenizeRequest* request,
                                       modu::v1::DetokenizeResponse* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const modu::v1::ListModelsRequest* request,
                                       modu::v1::ListModelsResponse* response) override;

  void BeginDrain() { draining_ = true; }
  std::vector<std::shared_ptr<GenerationStream>> Streams() const;
  int num_streams() const;
  int64_t cut_off_total() const { return cut_off_total_; }

 private:
  class Reactor;
  /// Its key, and whether calls are still taken.
  std::optional<api::ApiError> CheckMayCome(const grpc::CallbackServerContext& context) const;
  template <typename Request>
  EventReactor* Run(grpc::CallbackServerContext* context, const Request& request, bool chat);

  generation::Generator* const generator_;
  const std::function<bool(std::string_view)> allow_key_;
  const OnCallEnd on_call_end_;
  std::atomic<bool> draining_{false};
  std::atomic<int64_t> cut_off_total_{0};
  mutable std::mutex mutex_;
  std::unordered_map<GenerationStream*, std::shared_ptr<GenerationStream>> streams_;
};

/// 401 or 400 unless the call's one `authorization` is allowed.
std::optional<api::ApiError> CheckKey(
    const std::multimap<grpc::string_ref, grpc::string_ref>& metadata,
    const std::function<bool(std::string_view)>& allow_key);

}  // namespace modu::grpc_door
