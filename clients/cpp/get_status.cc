#include "clients/cpp/modu/get_status.h"

#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "clients/cpp/modu/connection.h"

namespace modu::client {

namespace beast = boost::beast;
namespace http = beast::http;

StatusAnswer GetStatus(const Endpoint& endpoint, const std::string& target,
                       std::chrono::milliseconds timeout) {
  boost::asio::io_context io;
  Connection connection(io, endpoint);
  http::request<http::empty_body> request(http::verb::get, target, 11);
  request.set(http::field::host, HostHeader(endpoint));
  if (!endpoint.api_key.empty())
    request.set(http::field::authorization, "Bearer " + endpoint.api_key);
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  StatusAnswer answer;
  connection.Connect([&](const std::string& error) {
    answer.why = error.empty() ? "what answers does not speak HTTP" : error;
    if (!error.empty()) return;
    http::async_write(connection, request, [&](boost::system::error_code written, size_t) {
      if (written) return;
      http::async_read_header(connection, buffer, parser,
                              [&](boost::system::error_code read, size_t) {
                                if (!read)
                                  answer.status = static_cast<int>(parser.get().result_int());
                              });
    });
  });
  io.run_for(timeout);
  StatusAnswer in_time = answer;
  if (!io.stopped()) in_time.why = "no answer in time";
  connection.Close();
  io.restart();
  io.run();  // what was under way ends as cancelled, and lets go of what stands here
  return in_time;
}

}  // namespace modu::client
