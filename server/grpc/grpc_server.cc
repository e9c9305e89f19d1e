#include "server/grpc/grpc_server.h"

#include <atomic>
#include <condition_variable>
#include <fstream>
#include <mutex>
#include <optional>
#include <sstream>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "google/protobuf/message.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/support/server_interceptor.h"
#include "server/config/descriptor_limit.h"
#include "server/grpc/acceptor/connection_acceptor.h"
#include "server/grpc/grpc_status.h"
#include "server/grpc/library_log.h"
#include "server/grpc/modu_service.h"

namespace modu::grpc_door {
namespace {

using Millis = std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

constexpr int kMaxMetadataBytes = 32 << 10;
// What all connections together may hold in reads, metadata and calls; past it connections are
// closed. Without a bound 20,000 calls opened and reset at once were seen to hold 350 MB.
constexpr int64_t kMemoryBytes = 256 << 20;
constexpr int kMinPingGapMs = 10'000;  // more often: GOAWAY, too_many_pings
constexpr Millis kFarewellTime(1'000), kLastCallsTime(100);

/// Reflection is a service of the library's that asks for no key. With keys set, a call without one
/// is heard out with its questions blanked and its answers replaced, and ends as UNAUTHENTICATED:
/// an interceptor can do that, and cannot end a call with a status of its choice. Health stays
/// open, as REST's does.
class KeyInterceptor final : public grpc::experimental::Interceptor {
 public:
  KeyInterceptor(grpc::experimental::ServerRpcInfo* info,
                 const std::function<bool(std::string_view)>* allow_key)
      : guards_(std::string_view(info->method()).starts_with("/grpc.reflection.")),
        allow_key_(allow_key) {}

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    using Point = grpc::experimental::InterceptionHookPoints;
    if (guards_ && methods->QueryInterceptionHookPoint(Point::POST_RECV_INITIAL_METADATA)) {
      const auto error = CheckKey(*methods->GetRecvInitialMetadata(), *allow_key_);
      if (error) refused_ = ToGrpcStatus(*error);
    }
    if (!refused_.ok()) {
      if (methods->QueryInterceptionHookPoint(Point::POST_RECV_MESSAGE) &&
          methods->GetRecvMessage() != nullptr) {
        static_cast<google::protobuf::Message*>(methods->GetRecvMessage())->Clear();
      }
      if (methods->QueryInterceptionHookPoint(Point::PRE_SEND_MESSAGE) &&
          methods->GetSendMessage() != nullptr) {
        const auto* said = static_cast<const google::protobuf::Message*>(methods->GetSendMessage());
        instead_.reset(said->New());
        SetError(instead_.get());
        methods->ModifySendMessage(instead_.get());
      }
      if (methods->QueryInterceptionHookPoint(Point::PRE_SEND_STATUS)) {
        methods->ModifySendStatus(refused_);
      }
    }
    methods->Proceed();
  }

 private:
  /// error_response {error_code, error_message} of a ServerReflectionResponse, by its names: the
  /// library does not install the generated header.
  void SetError(google::protobuf::Message* response) const {
    const auto* field = response->GetDescriptor()->FindFieldByName("error_response");
    if (field == nullptr || field->message_type() == nullptr) return;
    auto* error = response->GetReflection()->MutableMessage(response, field);
    const auto* code = error->GetDescriptor()->FindFieldByName("error_code");
    const auto* message = error->GetDescriptor()->FindFieldByName("error_message");
    if (code != nullptr) {
      error->GetReflection()->SetInt32(error, code, static_cast<int>(refused_.error_code()));
    }
    if (message != nullptr) {
      error->GetReflection()->SetString(error, message, refused_.error_message());
    }
  }

  const bool guards_;
  const std::function<bool(std::string_view)>* const allow_key_;
  grpc::Status refused_;
  std::unique_ptr<google::protobuf::Message> instead_;
};

class KeyInterceptorFactory final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit KeyInterceptorFactory(const std::function<bool(std::string_view)>* allow_key)
      : allow_key_(allow_key) {}
  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* info) override {
    return new KeyInterceptor(info, allow_key_);
  }

 private:
  const std::function<bool(std::string_view)>* const allow_key_;
};

bool ReadWhole(const std::string& path, std::string* out) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return false;
  std::stringstream text;
  text << file.rdbuf();
  *out = text.str();
  return !out->empty();
}

absl::Status MakeCredentials(const GrpcServerOptions& options,
                             std::shared_ptr<grpc::ServerCredentials>* out) {
  if (options.tls_cert.empty() != options.tls_key.empty()) {
    return absl::InvalidArgumentError("tls-cert and tls-key go together");
  }
  if (options.tls_cert.empty()) {
    *out = grpc::InsecureServerCredentials();
    return absl::OkStatus();
  }
  grpc::SslServerCredentialsOptions tls;
  grpc::SslServerCredentialsOptions::PemKeyCertPair pair;
  if (!ReadWhole(options.tls_cert, &pair.cert_chain)) {
    return absl::InvalidArgumentError("tls-cert: not readable");
  }
  if (!ReadWhole(options.tls_key, &pair.private_key)) {
    return absl::InvalidArgumentError("tls-key: not readable");
  }
  tls.pem_key_cert_pairs.push_back(std::move(pair));
  *out = grpc::SslServerCredentials(tls);
  return absl::OkStatus();
}

}  // namespace

struct GrpcServer::Impl {
  Impl(GrpcServerOptions options_in, GrpcServerHooks hooks_in, generation::Generator* generator_in)
      : options(std::move(options_in)),
        hooks(std::move(hooks_in)),
        generator(generator_in),
        service(generator_in, hooks.allow_key, hooks.on_call_end) {}

  void UpdateHealth() {
    grpc::HealthCheckServiceInterface* const health = server->GetHealthCheckService();
    if (health == nullptr) return;
    const bool progress = !hooks.no_progress || hooks.no_progress().empty();
    const std::pair<bool, bool> now(progress && !draining, progress);
    const std::lock_guard lock(health_mutex);
    if (told_health == now) return;  // a watcher hears of changes only
    told_health = now;
    health->SetServingStatus("", now.first);
    health->SetServingStatus("modu.v1.Modu", now.first);
    health->SetServingStatus("engine.progress", now.second);
  }

  void Watch() {
    std::unique_lock lock(mutex);
    while (!stopping) {
      lock.unlock();
      UpdateHealth();
      for (const auto& stream : service.Streams()) stream->CheckStall(Clock::now());
      lock.lock();
      changed.wait_for(lock, Millis(1'000), [&] { return stopping; });
    }
  }

  const GrpcServerOptions options;
  const GrpcServerHooks hooks;
  generation::Generator* const generator;
  ModuService service;
  std::unique_ptr<grpc::Server> server;
  // What the library's listener would be; the first feeds the second.
  ConnectionAcceptor acceptor{config::FirstReservedDescriptor()};
  std::unique_ptr<grpc::experimental::ExternalConnectionAcceptor> connections;
  std::atomic<bool> draining{false};
  std::mutex health_mutex;
  std::optional<std::pair<bool, bool>> told_health;  // guarded by health_mutex
  std::mutex mutex;
  std::condition_variable changed;
  bool stopping = false;
  std::thread watcher;
};

GrpcServer::GrpcServer(GrpcServerOptions options, GrpcServerHooks hooks,
                       generation::Generator* generator)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(hooks), generator)) {}

GrpcServer::~GrpcServer() { Stop(); }

absl::Status GrpcServer::Start() {
  Impl& impl = *impl_;
  std::shared_ptr<grpc::ServerCredentials> credentials;
  if (auto status = MakeCredentials(impl.options, &credentials); !status.ok()) return status;
  if (auto status = impl.acceptor.Listen(impl.options.host, impl.options.port); !status.ok()) {
    return status;
  }
  TakeLibraryLogs();
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  impl.connections = builder.experimental().AddExternalConnectionAcceptor(
      grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, credentials);
  builder.RegisterService(&impl.service);
  builder.SetMaxReceiveMessageSize(impl.generator->limits().max_grpc_message_bytes);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS,
                             impl.generator->limits().max_grpc_streams);
  grpc::ResourceQuota quota("modu");
  quota.Resize(static_cast<size_t>(kMemoryBytes));
  builder.SetResourceQuota(quota);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kMinPingGapMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  if (impl.hooks.allow_key) {
    std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> creators;
    creators.push_back(std::make_unique<KeyInterceptorFactory>(&impl.hooks.allow_key));
    builder.experimental().SetInterceptorCreators(std::move(creators));
  }
  impl.server = builder.BuildAndStart();
  if (impl.server == nullptr) return absl::UnavailableError("gRPC does not start");
  impl.acceptor.Start([&impl](int listener, int connection) {
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters handed;
    handed.listener_fd = listener;
    handed.fd = connection;
    impl.connections->HandleNewConnection(&handed);
  });
  impl.UpdateHealth();
  impl.watcher = std::thread([&impl] { impl.Watch(); });
  return absl::OkStatus();
}

int GrpcServer::port() const { return impl_->acceptor.port(); }
int GrpcServer::num_streams() const { return impl_->service.num_streams(); }
int64_t GrpcServer::refused_total() const { return impl_->acceptor.refused_total(); }
int64_t GrpcServer::cut_off_total() const { return impl_->service.cut_off_total(); }

void GrpcServer::BeginDrain() {
  Impl& impl = *impl_;
  impl.draining = true;
  impl.service.BeginDrain();
  if (impl.server) impl.UpdateHealth();
}

bool GrpcServer::Drain(Millis deadline) {
  Impl& impl = *impl_;
  if (!impl.server) return true;
  BeginDrain();
  impl.acceptor.Stop();
  const Clock::time_point end = Clock::now() + deadline;
  while (impl.service.num_streams() > 0 && Clock::now() < end) {
    std::this_thread::sleep_for(Millis(5));
  }
  const auto left = impl.service.Streams();
  for (const auto& stream : left) {
    stream->Dismiss(api::MakeError(503, "the server is shutting down", "shutting_down"));
  }
  // Sends GOAWAY, and waits for what has no streams: short calls, and clients that hang up.
  impl.server->Shutdown(std::chrono::system_clock::now() +
                        (left.empty() ? kLastCallsTime : kFarewellTime));
  return left.empty();
}

void GrpcServer::Stop() {
  Impl& impl = *impl_;
  if (!impl.server) return;
  {
    std::lock_guard lock(impl.mutex);
    impl.stopping = true;
  }
  impl.changed.notify_all();
  impl.watcher.join();
  impl.acceptor.Stop();
  impl.server->Shutdown(std::chrono::system_clock::now());
  impl.server->Wait();
  impl.server.reset();
}

}  // namespace modu::grpc_door
