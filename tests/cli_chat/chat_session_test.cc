#include "server/cli/chat_session.h"

#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "clients/cpp/modu/get_status.h"
#include "nlohmann/json.hpp"
#include "server/cli/serve_child.h"
#include "tests/catch.h"
#include "tests/store/scripted_server.h"

using modu::cli::ChatSession;
using modu::cli::ChatSettings;
using modu::tests::ScriptedServer;
using Json = nlohmann::json;

namespace {

std::string Event(const Json& json) { return "data: " + json.dump() + "\n\n"; }
std::string Delta(const std::string& text) {
  return Event(
      {{"choices", {{{"index", 0}, {"delta", {{"content", text}}}, {"finish_reason", nullptr}}}}});
}
const std::string kHead =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n";
const std::string kEnd =
    Event({{"choices", {{{"index", 0}, {"delta", Json::object()}, {"finish_reason", "length"}}}}}) +
    Event(
        {{"choices", Json::array()}, {"usage", {{"prompt_tokens", 5}, {"completion_tokens", 2}}}}) +
    "data: [DONE]\n\n";

/// Where an answer is written, and whether any of it has been.
struct Screen : std::stringbuf {
  int sync() override {
    shown = shown || !view().empty();
    return std::stringbuf::sync();
  }
  std::atomic<bool> shown = false;
};

ChatSettings Settings(const ScriptedServer& server) {
  ChatSettings settings;
  const std::string url = server.Url("");
  settings.endpoint.port = url.substr(url.rfind(':') + 1);
  return settings;
}

}  // namespace

TEST_CASE("an answer is written as it comes and becomes part of the conversation") {
  ScriptedServer server([&](const std::string&) {
    return kHead + ": keep-alive\n\n" + Delta("안녕") + Delta("\x1b[31m!\n") + kEnd;
  });
  ChatSettings settings = Settings(server);
  settings.system = "be brief";
  settings.temperature = 0;
  settings.endpoint.api_key = "k";
  ChatSession session(settings);
  const std::atomic<bool> interrupted = false;
  std::ostringstream out;
  CHECK(session.Ask("hi", out, interrupted).ok());
  CHECK(out.str() == "안녕[31m!\n");
  CHECK(session.last_usage() == "5 + 2 tokens, cut at the length limit");
  CHECK(session.num_messages() == 3);
  CHECK(session.Ask("more", out, interrupted).ok());
  CHECK(session.num_messages() == 5);
  CHECK(server.requests()[1].find("Authorization: Bearer k") != std::string::npos);
  session.Reset();
  CHECK(session.num_messages() == 1);
}

TEST_CASE(
    "the Host header: an IPv6 address in brackets, the port where it is not the scheme's own") {
  using modu::client::HostHeader;
  CHECK(HostHeader({.host = "::1", .port = "8000"}) == "[::1]:8000");
  CHECK(HostHeader({.host = "::1", .port = "80"}) == "[::1]");
  CHECK(HostHeader({.host = "example.org", .port = "443", .tls = true}) == "example.org");
  CHECK(HostHeader({.host = "example.org", .port = "80", .tls = true}) == "example.org:80");
  ScriptedServer server([&](const std::string&) { return kHead + kEnd; });
  ChatSession session(Settings(server));
  const std::atomic<bool> interrupted = false;
  std::ostringstream out;
  CHECK(session.Ask("hi", out, interrupted).ok());
  const std::string port = Settings(server).endpoint.port;
  CHECK(server.requests()[0].find("Host: 127.0.0.1:" + port + "\r\n") != std::string::npos);
  modu::client::GetStatus(Settings(server).endpoint, "/livez", std::chrono::seconds(5));
  CHECK(server.requests()[1].find("Host: 127.0.0.1:" + port + "\r\n") != std::string::npos);
}

TEST_CASE("errors leave the conversation as it was") {
  const std::atomic<bool> interrupted = false;
  std::ostringstream out;
  SECTION("the server's own words") {
    ScriptedServer server([](const std::string&) {
      const std::string body =
          R"({"error":{"message":"max_tokens: above the limit of 8","type":"invalid_request_error"}})";
      return "HTTP/1.1 400 Bad\r\nConnection: close\r\nContent-Length: " +
             std::to_string(body.size()) + "\r\n\r\n" + body;
    });
    ChatSession session(Settings(server));
    const absl::Status status = session.Ask("hi", out, interrupted);
    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
    CHECK(status.message() == "max_tokens: above the limit of 8");
    CHECK(session.num_messages() == 0);
  }
  SECTION("a stream that breaks off") {
    ScriptedServer server([](const std::string&) { return kHead + Delta("half"); });
    ChatSession session(Settings(server));
    CHECK(session.Ask("hi", out, interrupted).code() == absl::StatusCode::kUnavailable);
    CHECK(out.str() == "half");
    CHECK(session.num_messages() == 0);
  }
  SECTION("nobody there") {
    ChatSettings settings;
    {
      ScriptedServer server([](const std::string&) { return ""; });
      settings = Settings(server);
    }
    ChatSession session(settings);
    CHECK(session.Ask("hi", out, interrupted).code() == absl::StatusCode::kUnavailable);
    CHECK(modu::client::GetStatus(settings.endpoint, "/livez", std::chrono::milliseconds(500))
              .status == 0);
  }
}

TEST_CASE("an interrupt ends the answer and keeps what came") {
  std::atomic<bool> interrupted = false;
  // The server holds the connection open for as long as the client does.
  boost::asio::io_context io;
  boost::asio::ip::tcp::acceptor acceptor(io, {boost::asio::ip::address_v4::loopback(), 0});
  bool saw_close = false;
  std::thread server([&] {
    boost::asio::ip::tcp::socket socket(io);
    acceptor.accept(socket);
    std::string request;
    boost::asio::read_until(socket, boost::asio::dynamic_buffer(request), "\r\n\r\n");
    boost::asio::write(socket, boost::asio::buffer(kHead + Delta("begun")));
    boost::system::error_code error;
    char byte = 0;
    while (!error) socket.read_some(boost::asio::buffer(&byte, 1), error);
    saw_close = true;
  });
  Screen screen;
  std::thread interrupter([&] {
    for (int i = 0; i < 10'000 && !screen.shown; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    interrupted = true;
  });
  ChatSettings settings;
  settings.endpoint.port = std::to_string(acceptor.local_endpoint().port());
  std::ostream out(&screen);
  {
    ChatSession session(settings);
    CHECK(session.Ask("hi", out, interrupted).ok());
    CHECK(session.num_messages() == 2);
  }
  server.join();
  interrupter.join();
  CHECK(screen.str() == "begun");
  CHECK(saw_close);
}

TEST_CASE("control characters of an answer do not reach the terminal") {
  CHECK(modu::cli::TerminalSafe("a\x1b]0;t\x07\x7f\r\b\tb\n\xC2\x9B"
                                "31m한é") == "a]0;t\tb\n31m한é");
}

TEST_CASE("a server that is started for the chat") {
  const auto folder =
      std::filesystem::temp_directory_path() / ("modu-chat-" + std::to_string(getpid()));
  std::filesystem::create_directories(folder);
  const std::string program = folder / "modu";
  const auto script = [&](const std::string& text) {
    std::ofstream(program) << "#!/bin/sh\n" << text << '\n';
    chmod(program.c_str(), 0755);
  };
  const std::atomic<bool> interrupted = false;
  ScriptedServer ready([](const std::string&) {
    return std::string("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  });
  SECTION("one that fails gives its last words") {
    ChatSettings nobody;
    nobody.endpoint.port = "1";
    script("echo starting; echo \"no model $*\" >&2; exit 3");
    modu::cli::ServeChild child;
    const absl::Status status =
        child.Start(program, {"m", "--port", "1"}, nobody.endpoint, interrupted);
    CHECK(status.message().find("no model serve m --port 1") != absl::string_view::npos);
  }
  SECTION("one that is ready is stopped at the end") {
    script("trap 'echo stopped > " + (folder / "stopped").string() + "; exit 0' TERM\necho > " +
           (folder / "trapped").string() + "\nwhile :; do sleep 0.05; done");
    {
      modu::cli::ServeChild child;
      CHECK(child.Start(program, {}, Settings(ready).endpoint, interrupted).ok());
      for (int i = 0; i < 10'000 && !std::filesystem::exists(folder / "trapped"); ++i)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    CHECK(std::filesystem::exists(folder / "stopped"));
  }
  std::filesystem::remove_all(folder);
}
