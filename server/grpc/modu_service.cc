#include "server/grpc/modu_service.h"

#include <chrono>
#include <string>
#include <utility>
#include <variant>

#include "server/grpc/grpc_status.h"
#include "server/grpc/request_conversion.h"

namespace modu::grpc_door {
namespace {

namespace pb = modu::v1;

constexpr char kChat[] = "/modu.v1.Modu/Chat", kGenerate[] = "/modu.v1.Modu/Generate",
               kTokenize[] = "/modu.v1.Modu/Tokenize", kDetokenize[] = "/modu.v1.Modu/Detokenize",
               kListModels[] = "/modu.v1.Modu/ListModels";

/// Says one status and goes.
class RefusedStream final : public EventReactor {
 public:
  RefusedStream(CallTimer timer, const grpc::Status& status) : timer_(std::move(timer)) {
    timer_.record.code = status.error_code();
    Finish(status);
  }
  void OnDone() override {
    timer_.End();
    delete this;
  }

 private:
  CallTimer timer_;
};

/// A call of one answer. End once, from any thread.
class UnaryCall final : public grpc::ServerUnaryReactor {
 public:
  explicit UnaryCall(CallTimer timer) : timer_(std::move(timer)) {}
  void End(const grpc::Status& status) {
    timer_.record.code = status.error_code();
    Finish(status);
  }
  void End(const api::ApiError& error) { End(ToGrpcStatus(error)); }
  void OnDone() override {
    timer_.End();
    delete this;
  }

 private:
  CallTimer timer_;
};

}  // namespace

class ModuService::Reactor final : public EventReactor {
 public:
  Reactor(ModuService* service, CallTimer timer, grpc::CallbackServerContext* context,
          StreamHead head, const api::Limits& limits, int64_t num_choices)
      : service_(service),
        timer_(std::move(timer)),
        stream_(std::make_shared<GenerationStream>(context, this, std::move(head), limits,
                                                   num_choices)) {
    std::lock_guard lock(service_->mutex_);
    service_->streams_.emplace(stream_.get(), stream_);
  }
  const std::shared_ptr<GenerationStream>& stream() const { return stream_; }

  void OnWriteDone(bool ok) override { stream_->OnWritten(ok); }
  void OnCancel() override { stream_->OnCancelled(); }
  void OnDone() override {
    stream_->OnDone();
    if (stream_->cut_off()) ++service_->cut_off_total_;
    timer_.record.code = stream_->code();
    timer_.record.write_seconds = stream_->write_seconds();
    timer_.End();
    {
      std::lock_guard lock(service_->mutex_);
      service_->streams_.erase(stream_.get());
    }
    delete this;
  }

 private:
  ModuService* const service_;
  CallTimer timer_;
  const std::shared_ptr<GenerationStream> stream_;
};

std::optional<api::ApiError> CheckKey(
    const std::multimap<grpc::string_ref, grpc::string_ref>& metadata,
    const std::function<bool(std::string_view)>& allow_key) {
  if (!allow_key) return std::nullopt;
  const auto [first, last] = metadata.equal_range("authorization");
  if (first != last && std::next(first) != last) {
    return api::MakeError(400, "more than one authorization in the metadata");
  }
  const std::string_view given = first == last
                                     ? std::string_view()
                                     : std::string_view(first->second.data(), first->second.size());
  if (allow_key(given)) return std::nullopt;
  return api::MakeError(401, "a valid API key is needed: authorization: Bearer KEY",
                        "invalid_api_key");
}

std::optional<api::ApiError> ModuService::CheckMayCome(
    const grpc::CallbackServerContext& context) const {
  if (auto error = CheckKey(context.client_metadata(), allow_key_)) return error;
  if (!draining_) return std::nullopt;
  api::ApiError error = api::MakeError(503, "the server is shutting down", "shutting_down");
  error.retry_after_s = 1;
  return error;
}

template <typename Request>
EventReactor* ModuService::Run(grpc::CallbackServerContext* context, const Request& request,
                               bool chat) {
  CallTimer timer(chat ? kChat : kGenerate, &on_call_end_);
  const auto refuse = [&](const api::ApiError& error) {
    generator_->CountRefused(error);
    return new RefusedStream(std::move(timer), ToGrpcStatus(error));
  };
  if (const auto error = CheckMayCome(*context)) return refuse(*error);
  auto parsed = ToGenerationRequest(request, generator_->model(), generator_->limits());
  if (const auto* error = std::get_if<api::ApiError>(&parsed)) return refuse(*error);
  auto& generation = std::get<api::GenerationRequest>(parsed);
  generation.id = api::RandomId(chat ? "chatcmpl-" : "cmpl-");
  if (generation.request_id.empty()) generation.request_id = generation.id;
  context->AddInitialMetadata("x-request-id", generation.request_id);
  timer.record.request_id = generation.request_id;
  StreamHead head;
  head.id = generation.id;
  head.created_unix_s = std::chrono::duration_cast<std::chrono::seconds>(
                            std::chrono::system_clock::now().time_since_epoch())
                            .count();
  if (!generator_->model().names.empty()) head.model = generator_->model().names.front();
  auto* const reactor = new Reactor(this, std::move(timer), context, std::move(head),
                                    generator_->limits(), generation.n);
  const std::shared_ptr<GenerationStream> stream = reactor->stream();
  stream->SetCall(generator_->Start(std::move(generation), stream));
  return reactor;
}

EventReactor* ModuService::Chat(grpc::CallbackServerContext* context,
                                const pb::ChatRequest* request) {
  return Run(context, *request, /*chat=*/true);
}

EventReactor* ModuService::Generate(grpc::CallbackServerContext* context,
                                    const pb::GenerateRequest* request) {
  return Run(context, *request, /*chat=*/false);
}

grpc::ServerUnaryReactor* ModuService::Tokenize(grpc::CallbackServerContext* context,
                                                const pb::TokenizeRequest* request,
                                                pb::TokenizeResponse* response) {
  auto* const call = new UnaryCall(CallTimer(kTokenize, &on_call_end_));
  if (const auto error = CheckMayCome(*context)) {
    call->End(*error);
    return call;
  }
  auto prompt = ToPrompt(*request, generator_->model(), generator_->limits());
  if (const auto* error = std::get_if<api::ApiError>(&prompt)) {
    call->End(*error);
  } else {
    generator_->Render(std::move(std::get<api::Prompt>(prompt)),
                       static_cast<int64_t>(request->ByteSizeLong()),
                       [this, call, response](std::optional<generation::RenderedPrompt> rendered,
                                              api::ApiError error) {
                         if (!rendered) return call->End(error);
                         response->set_text(std::move(rendered->text));
                         response->mutable_token_ids()->Add(rendered->token_ids.begin(),
                                                            rendered->token_ids.end());
                         response->set_max_model_len(generator_->model().max_model_len);
                         call->End(grpc::Status::OK);
                       });
  }
  return call;
}

grpc::ServerUnaryReactor* ModuService::Detokenize(grpc::CallbackServerContext* context,
                                                  const pb::DetokenizeRequest* request,
                                                  pb::DetokenizeResponse* response) {
  auto* const call = new UnaryCall(CallTimer(kDetokenize, &on_call_end_));
  if (const auto error = CheckMayCome(*context)) {
    call->End(*error);
    return call;
  }
  auto ids = ToTokenIds(*request, generator_->model());
  if (const auto* error = std::get_if<api::ApiError>(&ids)) {
    call->End(*error);
  } else {
    generator_->Detokenize(std::move(std::get<std::vector<int32_t>>(ids)),
                           static_cast<int64_t>(request->ByteSizeLong()),
                           [call, response](std::optional<std::string> text, api::ApiError error) {
                             if (!text) return call->End(error);
                             response->set_text(*std::move(text));
                             call->End(grpc::Status::OK);
                           });
  }
  return call;
}

grpc::ServerUnaryReactor* ModuService::ListModels(grpc::CallbackServerContext* context,
                                                  const pb::ListModelsRequest*,
                                                  pb::ListModelsResponse* response) {
  auto* const call = new UnaryCall(CallTimer(kListModels, &on_call_end_));
  if (const auto error = CheckKey(context->client_metadata(), allow_key_)) {
    call->End(*error);
    return call;
  }
  const api::ServedModel& model = generator_->model();
  for (const std::string& name : model.names) {
    pb::Model* const out = response->add_models();
    out->set_id(name);
    out->set_created_unix_s(model.created_unix_s);
    out->set_owned_by("modu");
    out->set_max_model_len(model.max_model_len);
  }
  call->End(grpc::Status::OK);
  return call;
}

std::vector<std::shared_ptr<GenerationStream>> ModuService::Streams() const {
  std::lock_guard lock(mutex_);
  std::vector<std::shared_ptr<GenerationStream>> streams;
  streams.reserve(streams_.size());
  for (const auto& [raw, stream] : streams_) streams.push_back(stream);
  return streams;
}

int ModuService::num_streams() const {
  std::lock_guard lock(mutex_);
  return static_cast<int>(streams_.size());
}

}  // namespace modu::grpc_door
