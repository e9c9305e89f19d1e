// One streaming call to an OpenAI-style server over HTTP/1.1, plain or TLS: POST a JSON body, get
// each SSE event as it arrives. Asynchronous on the caller's io_context; all callbacks run there. A
// call opens its own connection, as most clients do.
#pragma once
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "clients/cpp/modu/endpoint.h"

namespace modu::client {

struct StreamHandlers {
  /// The `data:` of one event, without the prefix; "[DONE]" included.
  std::function<void(std::string_view data)> on_event;
  /// Once, last. status 0: no HTTP answer (then `error` says why). A status other than 200 gives
  /// the body in `error`.
  std::function<void(int status, std::string error)> on_end;
};

/// How fast the bytes of an answer are taken, for who wants to see what a slow reader sees.
struct ReadPace {
  int receive_buffer_bytes = 0;        // in the kernel; 0: the system's
  std::chrono::milliseconds pause{0};  // before each read, which takes at most 16 KiB
};

class StreamCall {
 public:
  virtual ~StreamCall() = default;
  /// Drops the connection; on_end still comes.
  virtual void Cancel() = 0;
};

std::shared_ptr<StreamCall> StartStream(boost::asio::io_context& io, const Endpoint& endpoint,
                                        const std::string& target, std::string json_body,
                                        StreamHandlers handlers, ReadPace pace = {});

}  // namespace modu::client
