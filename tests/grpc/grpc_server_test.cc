#include "server/grpc/grpc_server.h"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/grpcpp.h"
#include "modu/v1/modu.grpc.pb.h"
#include "tests/catch.h"
#include "tests/http/scripted_generator.h"
#include "tests/http/self_signed.h"

namespace modu::testing {
namespace {

namespace pb = modu::v1;
using std::chrono::milliseconds;
using std::chrono::system_clock;

struct RunningGrpc {
  explicit RunningGrpc(api::Limits limits = {}, grpc_door::GrpcServerOptions options = {},
                       grpc_door::GrpcServerHooks hooks = {})
      : generator(limits) {
    options.port = 0;
    server = std::make_unique<grpc_door::GrpcServer>(options, hooks, &generator);
    status = server->Start();
    Connect(grpc::InsecureChannelCredentials());
  }
  ~RunningGrpc() { server->Stop(); }

  void Connect(const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channel = grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(server->port()), credentials,
                                        arguments);
    stub = pb::Modu::NewStub(channel);
  }

  ScriptedGenerator generator;
  std::unique_ptr<grpc_door::GrpcServer> server;
  absl::Status status;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<pb::Modu::Stub> stub;
};

pb::ChatRequest ChatOf(const std::string& text) {
  pb::ChatRequest request;
  pb::Message* const message = request.mutable_conversation()->add_messages();
  message->set_role(pb::ROLE_USER);
  message->set_content(text);
  return request;
}

pb::GenerateRequest GenerateOf(const std::string& text) {
  pb::GenerateRequest request;
  request.set_text(text);
  return request;
}

struct Heard {
  grpc::Status status;
  std::vector<pb::GenerationEvent> events;
  std::string text;
};

template <typename Reader>
Heard ReadAll(Reader reader) {
  Heard heard;
  pb::GenerationEvent event;
  while (reader->Read(&event)) {
    heard.text += event.delta().text();
    heard.events.push_back(event);
  }
  heard.status = reader->Finish();
  return heard;
}

Heard Chat(pb::Modu::Stub* stub, const pb::ChatRequest& request) {
  grpc::ClientContext context;
  return ReadAll(stub->Chat(&context, request));
}

/// Health by its wire form: HealthCheckResponse{status = 1}; 1 is SERVING, 2 NOT_SERVING, -1 an
/// error.
int HealthOf(const std::shared_ptr<grpc::Channel>& channel, const std::string& service) {
  grpc::GenericStub generic(channel);
  std::string message;
  if (!service.empty())
    message = "\x0a" + std::string(1, static_cast<char>(service.size())) + service;
  const grpc::Slice slice(message);
  const grpc::ByteBuffer request(&slice, 1);
  grpc::ClientContext context;
  context.set_deadline(system_clock::now() + milliseconds(5'000));
  grpc::CompletionQueue queue;
  auto call = generic.PrepareUnaryCall(&context, "/grpc.health.v1.Health/Check", request, &queue);
  call->StartCall();
  grpc::ByteBuffer response;
  grpc::Status status;
  call->Finish(&response, &status, &queue);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  if (!status.ok()) return -1;
  grpc::Slice whole;
  if (!response.DumpToSingleSlice(&whole).ok() || whole.size() < 2) return 0;
  return whole.begin()[1];
}

/// list_services by reflection's wire form; the answer's raw bytes.
std::pair<grpc::Status, std::string> Reflect(const std::shared_ptr<grpc::Channel>& channel,
                                             const std::string& authorization = "") {
  grpc::GenericStub generic(channel);
  grpc::ClientContext context;
  context.set_deadline(system_clock::now() + milliseconds(5'000));
  if (!authorization.empty()) context.AddMetadata("authorization", authorization);
  grpc::CompletionQueue queue;
  void* tag = nullptr;
  bool ok = false;
  auto call = generic.PrepareCall(
      &context, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", &queue);
  call->StartCall(nullptr);
  queue.Next(&tag, &ok);
  const std::string message = std::string("\x3a\x01*", 3);  // field 7: list_services
  const grpc::Slice slice(message);
  const grpc::ByteBuffer request(&slice, 1);
  std::string answer;
  if (ok) {
    call->WriteLast(request, grpc::WriteOptions(), nullptr);
    queue.Next(&tag, &ok);
    grpc::ByteBuffer response;
    call->Read(&response, nullptr);
    queue.Next(&tag, &ok);
    grpc::Slice whole;
    if (ok && response.DumpToSingleSlice(&whole).ok()) {
      answer.assign(reinterpret_cast<const char*>(whole.begin()), whole.size());
    }
  }
  grpc::Status status;
  call->Finish(&status, nullptr);
  queue.Next(&tag, &ok);
  return {status, answer};
}

}  // namespace

TEST_CASE("a chat streams deltas and ends with usage and finish") {
  RunningGrpc running;
  REQUIRE(running.status.ok());
  Script script;
  script.logprobs = true;
  script.interval_us = 2'000;
  running.generator.Set(script);
  pb::ChatRequest request = ChatOf("hi");
  request.mutable_sampling()->set_logprobs(1);
  request.mutable_sampling()->set_temperature(0.5);
  request.mutable_sampling()->set_seed(7);
  const Heard heard = Chat(running.stub.get(), request);
  REQUIRE(heard.status.ok());
  REQUIRE(heard.events.size() >= 3);
  CHECK(heard.events[0].accepted().model() == "scripted");
  CHECK(heard.events[0].accepted().prompt_tokens() == 3);
  CHECK(heard.text == "tok tok tok ");
  CHECK(heard.events[1].delta().logprobs(0).token().token() == "\xed\x95");
  CHECK(heard.events[1].delta().logprobs(0).top_size() == 1);
  const pb::Finished& finished = heard.events.back().finished();
  CHECK(finished.usage().completion_tokens() == 3);
  CHECK(finished.usage().total_tokens() == 6);
  REQUIRE(finished.choices_size() == 1);
  CHECK(finished.choices(0).reason() == pb::FINISH_REASON_LENGTH);
  const api::GenerationRequest got = running.generator.last_request();
  CHECK(got.sampling.temperature == 0.5f);
  CHECK(got.sampling.seed == 7);
  CHECK(got.sampling.top_logprobs == 1);
  CHECK(got.stream);
}

TEST_CASE("generate takes text and token ids, tokenize and detokenize go there and back") {
  RunningGrpc running;
  {
    grpc::ClientContext context;
    CHECK(ReadAll(running.stub->Generate(&context, GenerateOf("a"))).text == "tok tok tok ");
  }
  {
    pb::GenerateRequest request;
    for (int id : {1, 2, 3}) request.mutable_token_ids()->add_ids(id);
    request.mutable_sampling()->set_n(2);
    grpc::ClientContext context;
    const Heard heard = ReadAll(running.stub->Generate(&context, request));
    CHECK(heard.events.back().finished().choices_size() == 2);
    CHECK(std::get<api::TokenPrompt>(running.generator.last_request().prompts[0]).token_ids ==
          std::vector<int32_t>{1, 2, 3});
  }
  pb::TokenizeRequest tokenize;
  tokenize.set_text("AB");
  pb::TokenizeResponse tokens;
  grpc::ClientContext first, second, third;
  REQUIRE(running.stub->Tokenize(&first, tokenize, &tokens).ok());
  CHECK(std::vector<int>(tokens.token_ids().begin(), tokens.token_ids().end()) ==
        std::vector<int>{65, 66});
  pb::DetokenizeRequest detokenize;
  detokenize.add_token_ids(65);
  pb::DetokenizeResponse text;
  REQUIRE(running.stub->Detokenize(&second, detokenize, &text).ok());
  CHECK(text.text() == "A");
  pb::ListModelsResponse models;
  REQUIRE(running.stub->ListModels(&third, {}, &models).ok());
  CHECK(models.models(0).id() == "scripted");
}

TEST_CASE("the same checks as REST, as INVALID_ARGUMENT with the field in the details") {
  RunningGrpc running;
  std::vector<std::pair<std::string, pb::ChatRequest>> cases;
  const auto add = [&](const char* field) -> pb::ChatRequest& {
    cases.emplace_back(field, ChatOf("hi"));
    return cases.back().second;
  };
  add("temperature").mutable_sampling()->set_temperature(2.1);
  add("temperature").mutable_sampling()->set_temperature(std::nan(""));
  add("top_p").mutable_sampling()->set_top_p(0);
  add("n").mutable_sampling()->set_n(129);
  add("n").mutable_sampling()->set_n(0);
  add("stop_token_ids").mutable_sampling()->add_stop_token_ids(1LL << 40);
  add("top_logprobs").mutable_sampling()->set_logprobs(21);
  add("messages").mutable_conversation()->mutable_messages(0)->set_role(pb::ROLE_UNSPECIFIED);
  add("messages").mutable_conversation()->mutable_messages(0)->set_role(static_cast<pb::Role>(99));
  add("messages").mutable_conversation()->clear_messages();
  add("continue_final_message").mutable_conversation()->set_continue_final_message(true);
  for (const auto& [field, request] : cases) {
    INFO(field);
    const Heard heard = Chat(running.stub.get(), request);
    CHECK(heard.status.error_code() == grpc::StatusCode::INVALID_ARGUMENT);
    google::rpc::Status details;
    REQUIRE(details.ParseFromString(heard.status.error_details()));
    CHECK(details.message() == heard.status.error_message());
    bool named = false;
    for (const auto& any : details.details()) {
      google::rpc::BadRequest bad;
      if (any.UnpackTo(&bad)) named = bad.field_violations(0).field() == field;
    }
    CHECK(named);
  }
  pb::ChatRequest other = ChatOf("hi");
  other.set_model("other");
  CHECK(Chat(running.stub.get(), other).status.error_code() == grpc::StatusCode::NOT_FOUND);
  pb::GenerateRequest ids;
  ids.mutable_token_ids()->add_ids(256);
  grpc::ClientContext context;
  CHECK(ReadAll(running.stub->Generate(&context, ids)).status.error_code() ==
        grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(running.generator.started == 0);
}

TEST_CASE("refusals and failures are statuses; RetryInfo says when") {
  RunningGrpc running;
  Script script;
  script.refuse = api::ApiError{503, "the queue is full", "unavailable_error", "", "queue_full", 7};
  running.generator.Set(script);
  const Heard refused = Chat(running.stub.get(), ChatOf("hi"));
  CHECK(refused.status.error_code() == grpc::StatusCode::UNAVAILABLE);
  google::rpc::Status details;
  REQUIRE(details.ParseFromString(refused.status.error_details()));
  google::rpc::ErrorInfo info;
  REQUIRE(details.details(0).UnpackTo(&info));
  CHECK(info.reason() == "queue_full");
  google::rpc::RetryInfo retry;
  REQUIRE(details.details(details.details_size() - 1).UnpackTo(&retry));
  CHECK(retry.retry_delay().seconds() == 7);

  Script failing;
  failing.fail_after = api::MakeError(500, "numbers went wrong", "numeric_error");
  running.generator.Set(failing);
  const Heard failed = Chat(running.stub.get(), ChatOf("hi"));
  CHECK(failed.text == "tok tok tok ");
  CHECK(failed.status.error_code() == grpc::StatusCode::INTERNAL);
}

TEST_CASE("cancelling, a deadline, and a vanished client stop the generation") {
  RunningGrpc running;
  Script script;
  script.num_deltas = -1;
  script.interval_us = 2'000;
  SECTION("cancelled while it decodes") {
    running.generator.Set(script);
    grpc::ClientContext context;
    auto reader = running.stub->Chat(&context, ChatOf("hi"));
    pb::GenerationEvent event;
    REQUIRE(reader->Read(&event));
    context.TryCancel();
    while (reader->Read(&event)) {
    }
    CHECK(reader->Finish().error_code() == grpc::StatusCode::CANCELLED);
  }
  SECTION("cancelled while queued") {
    script.accept_after_ms = 60'000;
    running.generator.Set(script);
    grpc::ClientContext context;
    auto reader = running.stub->Chat(&context, ChatOf("hi"));
    CHECK(ScriptedGenerator::Eventually([&] { return running.generator.running == 1; }));
    context.TryCancel();
    CHECK(reader->Finish().error_code() == grpc::StatusCode::CANCELLED);
  }
  SECTION("deadline") {
    running.generator.Set(script);
    // On a busy machine it may pass before the call is there: again, with more time.
    for (int ms = 100; running.generator.started == 0 && ms < 10'000; ms *= 3) {
      grpc::ClientContext context;
      context.set_deadline(system_clock::now() + milliseconds(ms));
      const Heard heard = ReadAll(running.stub->Chat(&context, ChatOf("hi")));
      CHECK(heard.status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED);
    }
  }
  SECTION("the client goes without a word") {
    running.generator.Set(script);
    grpc::ClientContext context;
    auto reader = running.stub->Chat(&context, ChatOf("hi"));
    pb::GenerationEvent event;
    REQUIRE(reader->Read(&event));
  }
  CHECK(ScriptedGenerator::Eventually([&] { return running.generator.cancelled == 1; }));
  CHECK(ScriptedGenerator::Eventually([&] { return running.server->num_streams() == 0; }));
}

TEST_CASE("a deadline that has passed already is that, and leaves nothing") {
  RunningGrpc running;
  grpc::ClientContext context;
  context.set_deadline(system_clock::now() - milliseconds(1));
  CHECK(ReadAll(running.stub->Chat(&context, ChatOf("hi"))).status.error_code() ==
        grpc::StatusCode::DEADLINE_EXCEEDED);
  CHECK(ScriptedGenerator::Eventually([&] { return running.server->num_streams() == 0; }));
}

TEST_CASE("a reader that stops is cut off, by bytes or by time, and others do not notice") {
  const bool by_time = GENERATE(false, true);
  api::Limits limits;
  limits.stream_buffer_bytes = by_time ? 1 << 30 : 64 << 10;
  if (by_time) limits.write_stall_ms = 2'500;  // more than a busy machine keeps the others waiting
  RunningGrpc running(limits);
  Script flood;
  flood.num_deltas = -1;
  flood.piece = std::string(4'000, 'x');
  flood.interval_us = 200;
  running.generator.Set(flood);
  grpc::ClientContext context;
  auto stuck = running.stub->Chat(&context, ChatOf("hi"));
  CHECK(ScriptedGenerator::Eventually([&] { return running.generator.deltas > 0; }));
  Script steady;
  steady.num_deltas = 50;
  steady.interval_us = 2'000;
  running.generator.Set(steady);
  const Heard heard = Chat(running.stub.get(), ChatOf("hi"));
  CHECK(heard.status.ok());
  CHECK(heard.text.size() == 200);
  CHECK(ScriptedGenerator::Eventually([&] { return running.generator.cancelled == 1; }));
  CHECK(ScriptedGenerator::Eventually([&] { return running.server->cut_off_total() == 1; }));
}

TEST_CASE("what is joined on the way is the same text, ids and logprobs") {
  api::Limits limits;
  limits.stream_buffer_bytes = 16 << 20;  // the burst is faster than any reader
  RunningGrpc running(limits);
  Script script;
  script.num_deltas = 2'000;
  script.logprobs = true;
  running.generator.Set(script);
  pb::ChatRequest request = ChatOf("hi");
  request.mutable_sampling()->set_logprobs(0);
  const Heard heard = Chat(running.stub.get(), request);
  REQUIRE(heard.status.ok());
  int ids = 0, logprobs = 0;
  for (const auto& event : heard.events) {
    ids += event.delta().token_ids_size();
    logprobs += event.delta().logprobs_size();
  }
  CHECK(heard.text.size() == 8'000);
  CHECK(ids == 2'000);
  CHECK(logprobs == 2'000);
}

TEST_CASE("keys: calls and reflection need one, health does not") {
  grpc_door::GrpcServerHooks hooks;
  hooks.allow_key = [](std::string_view authorization) { return authorization == "Bearer right"; };
  RunningGrpc running({}, {}, hooks);
  CHECK(Chat(running.stub.get(), ChatOf("hi")).status.error_code() ==
        grpc::StatusCode::UNAUTHENTICATED);
  for (const auto& [key, code] : std::vector<std::pair<std::string, grpc::StatusCode>>{
           {"Bearer wrong", grpc::StatusCode::UNAUTHENTICATED},
           {"Bearer right", grpc::StatusCode::OK}}) {
    grpc::ClientContext one, two;
    one.AddMetadata("authorization", key);
    two.AddMetadata("authorization", key);
    CHECK(ReadAll(running.stub->Chat(&one, ChatOf("hi"))).status.error_code() == code);
    pb::ListModelsResponse models;
    CHECK(running.stub->ListModels(&two, {}, &models).error_code() == code);
  }
  grpc::ClientContext twice;
  twice.AddMetadata("authorization", "Bearer right");
  twice.AddMetadata("authorization", "Bearer right");
  CHECK(ReadAll(running.stub->Chat(&twice, ChatOf("hi"))).status.error_code() ==
        grpc::StatusCode::INVALID_ARGUMENT);
  CHECK(HealthOf(running.channel, "") == 1);
  const auto [refused, said] = Reflect(running.channel);
  CHECK(refused.error_code() == grpc::StatusCode::UNAUTHENTICATED);
  CHECK(said.find("modu.v1") == std::string::npos);
  CHECK(Reflect(running.channel, "Bearer wrong").first.error_code() ==
        grpc::StatusCode::UNAUTHENTICATED);
  CHECK(Reflect(running.channel, "Bearer right").second.find("modu.v1.Modu") != std::string::npos);
}

TEST_CASE("each call ends in one record, refused or not") {
  std::mutex mutex;
  std::vector<std::string> calls;
  grpc_door::GrpcServerHooks hooks;
  hooks.allow_key = [](std::string_view authorization) { return authorization == "Bearer right"; };
  hooks.on_call_end = [&](const grpc_door::CallRecord& record) {
    std::lock_guard lock(mutex);
    calls.push_back(std::string(record.method).substr(14) + " " + std::to_string(record.code) +
                    " " + record.request_id);
    CHECK(record.seconds >= record.write_seconds);
  };
  RunningGrpc running({}, {}, hooks);
  const auto num_calls = [&] {
    std::lock_guard lock(mutex);
    return calls.size();
  };
  const auto chat = [&](const char* key, const pb::ChatRequest& request) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", key);
    ReadAll(running.stub->Chat(&context, request));
  };
  pb::ChatRequest good = ChatOf("hi"), bad = ChatOf("hi");
  good.mutable_options()->set_request_id("mine");
  bad.mutable_sampling()->set_temperature(9);
  chat("Bearer right", good);
  chat("Bearer right", bad);
  chat("Bearer wrong", good);
  CHECK(running.generator.refused_statuses() == std::vector<int>{400, 401});
  const auto unary = [&](const char* key) {
    grpc::ClientContext one, two, three;
    for (auto* context : {&one, &two, &three}) context->AddMetadata("authorization", key);
    pb::TokenizeRequest text;
    text.set_text("a");
    pb::TokenizeResponse tokens;
    pb::DetokenizeResponse detokenized;
    pb::ListModelsResponse models;
    running.stub->Tokenize(&one, text, &tokens);
    running.stub->Detokenize(&two, {}, &detokenized);
    running.stub->ListModels(&three, {}, &models);
  };
  unary("Bearer right");
  unary("Bearer wrong");
  CHECK(ScriptedGenerator::Eventually([&] { return num_calls() == 9; }));
  std::ranges::sort(calls);
  CHECK(calls == std::vector<std::string>{"Chat 0 mine", "Chat 16 ", "Chat 3 ", "Detokenize 0 ",
                                          "Detokenize 16 ", "ListModels 0 ", "ListModels 16 ",
                                          "Tokenize 0 ", "Tokenize 16 "});
}

TEST_CASE("when draining begins health goes and new calls are refused, while calls still run") {
  RunningGrpc running;
  Script script;
  script.num_deltas = 30;
  script.interval_us = 10'000;
  running.generator.Set(script);
  CHECK(HealthOf(running.channel, "") == 1);
  Heard heard;
  std::thread client([&] { heard = Chat(running.stub.get(), ChatOf("hi")); });
  CHECK(ScriptedGenerator::Eventually([&] { return running.generator.deltas > 0; }));
  running.server->BeginDrain();
  CHECK(Chat(running.stub.get(), ChatOf("hi")).status.error_code() ==
        grpc::StatusCode::UNAVAILABLE);
  CHECK(running.generator.refused_statuses() == std::vector<int>{503});
  grpc::ClientContext context;
  pb::TokenizeRequest text;
  text.set_text("a");
  pb::TokenizeResponse tokens;
  CHECK(running.stub->Tokenize(&context, text, &tokens).error_code() ==
        grpc::StatusCode::UNAVAILABLE);
  for (const char* service : {"", "modu.v1.Modu"}) CHECK(HealthOf(running.channel, service) == 2);
  CHECK(HealthOf(running.channel, "engine.progress") == 1);  // it is what finishes the calls
  client.join();
  CHECK(heard.status.ok());
  CHECK(heard.text.size() == 120);
}

TEST_CASE("health by service name, reflection, unknown methods, message cap") {
  std::atomic<bool> well{true};
  grpc_door::GrpcServerHooks hooks;
  hooks.no_progress = [&] { return std::string(well ? "" : "no step"); };
  api::Limits limits;
  limits.max_grpc_message_bytes = 64 << 10;
  RunningGrpc running(limits, {}, hooks);
  for (const char* service : {"", "modu.v1.Modu", "engine.progress"})
    CHECK(HealthOf(running.channel, service) == 1);
  CHECK(HealthOf(running.channel, "none") == -1);
  well = false;
  CHECK(ScriptedGenerator::Eventually([&] { return HealthOf(running.channel, "") == 2; }));
  CHECK(HealthOf(running.channel, "engine.progress") == 2);
  const auto [status, services] = Reflect(running.channel);
  CHECK(services.find("modu.v1.Modu") != std::string::npos);
  CHECK(services.find("grpc.health.v1.Health") != std::string::npos);
  CHECK(Chat(running.stub.get(), ChatOf(std::string(100'000, 'x'))).status.error_code() ==
        grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_CASE("draining over gRPC") {
  RunningGrpc running;
  Script script;
  script.num_deltas = 30;
  script.interval_us = 10'000;
  SECTION("streams finish") {
    running.generator.Set(script);
    Heard heard;
    std::thread client([&] { heard = Chat(running.stub.get(), ChatOf("hi")); });
    CHECK(ScriptedGenerator::Eventually([&] { return running.generator.deltas > 0; }));
    CHECK(running.server->Drain(milliseconds(10'000)));
    client.join();
    CHECK(heard.status.ok());
    CHECK(heard.text.size() == 120);
  }
  SECTION("at the deadline each ends with UNAVAILABLE") {
    script.num_deltas = -1;
    running.generator.Set(script);
    Heard heard;
    std::thread client([&] { heard = Chat(running.stub.get(), ChatOf("hi")); });
    CHECK(ScriptedGenerator::Eventually([&] { return running.generator.deltas > 0; }));
    CHECK_FALSE(running.server->Drain(milliseconds(50)));
    client.join();
    CHECK(heard.status.error_code() == grpc::StatusCode::UNAVAILABLE);
    CHECK(ScriptedGenerator::Eventually([&] { return running.generator.cancelled == 1; }));
  }
  CHECK_FALSE(Chat(running.stub.get(), ChatOf("hi")).status.ok());
}

TEST_CASE("gRPC over TLS") {
  SelfSigned cert;
  grpc_door::GrpcServerOptions options;
  options.tls_cert = cert.cert_file();
  options.tls_key = cert.key_file();
  RunningGrpc running({}, options);
  REQUIRE(running.status.ok());
  grpc::SslCredentialsOptions tls;
  tls.pem_root_certs = cert.cert_pem();
  running.Connect(grpc::SslCredentials(tls));
  const Heard heard = Chat(running.stub.get(), ChatOf("hi"));
  CHECK(heard.status.error_message() == "");
  CHECK(heard.text == "tok tok tok ");
}

TEST_CASE("a busy gRPC port is an error that names it") {
  RunningGrpc running;
  grpc_door::GrpcServerOptions options;
  options.port = running.server->port();
  ScriptedGenerator generator;
  grpc_door::GrpcServer second(options, {}, &generator);
  const absl::Status status = second.Start();
  CHECK(status.code() == absl::StatusCode::kUnavailable);
  CHECK(std::string(status.message()).find(std::to_string(options.port)) != std::string::npos);
}

TEST_CASE("gRPC listens on an address, localhost or all addresses, and on no other name") {
  ScriptedGenerator generator;
  grpc_door::GrpcServerOptions options;
  options.port = 0;
  for (const char* host : {"127.0.0.1", "localhost", "*", "::1"}) {
    options.host = host;
    grpc_door::GrpcServer server(options, {}, &generator);
    const absl::Status status = server.Start();
    INFO(host << ": " << status.ToString());
    // A machine may be without IPv6.
    if (status.code() == absl::StatusCode::kUnavailable && options.host == "::1") continue;
    REQUIRE(status.ok());
    CHECK(server.port() > 0);
  }
  options.host = "nowhere";
  grpc_door::GrpcServer server(options, {}, &generator);
  CHECK(server.Start().code() == absl::StatusCode::kInvalidArgument);
}

}  // namespace modu::testing
