// One streaming call to an OpenAI-style server over HTTP/1.1, plain or TLS: POST a JSON body, get
// each SSE event as it arrives. Asynchronous on the caller's io_context; all callbacks run there. A
// call opens its own connection, as most clients do.
#pragma once
#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "clients/cpp/modu/endpoint.h"
#include "clients/cpp/modu/read_pace.h"

namespace modu::client {

struct StreamHandlers {
  /// The `data:` of one event, without the prefix; "[DONE]" included.
  std::function<void(std::string_view data)> on_event;
  /// Once, last. status 0: no HTTP answer (then `error` says why). A status other than 200 gives
  /// the body in `error`.
  std::function<void(int status, std::string error)> on_end;
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
