// One connection: a small state machine on its own I/O thread. Handshake, idle, head, body,
// handling, streaming, lingering, closed; one read and one write in flight at most, one lazy
// deadline. While a handler works the session keeps reading, which is how it learns that the client
// has gone. An idle connection holds no buffer.
#pragma once
#include <functional>
#include <memory>

#include "boost/asio/ip/tcp.hpp"
#include "boost/asio/ssl/context.hpp"
#include "server/http/site.h"

namespace modu::http {

/// `release` runs when the session is gone (it gives the connection's place back). `tls` null:
/// plain text. Start must be called on the socket's own thread.
std::shared_ptr<SessionBase> MakeSession(boost::asio::ip::tcp::socket socket,
                                         boost::asio::ssl::context* tls, Site* site,
                                         std::function<void()> release);

}  // namespace modu::http
