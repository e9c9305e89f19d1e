// Which handler answers a method and path. Built once at start, then constant: any thread.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/api/error.h"
#include "server/http/exchange.h"

namespace modu::http {

using Handler = std::function<void(std::shared_ptr<Exchange>)>;

struct Route {
  const char* method = "GET";  // GET answers HEAD too
  const char* pattern = "/";   // exact, or a prefix ending in "/*"
  Handler handler;
  bool needs_key = true;     // when keys are configured
  bool admits_work = false;  // refused while draining
  // Told of each request that gets no further than the session: its key, its body's framing or
  // size, a drain. May be empty; must not block.
  std::function<void(const api::ApiError&)> on_refused;
};

class Router {
 public:
  void Add(Route route) { routes_.push_back(std::move(route)); }

  struct Match {
    const Route* route = nullptr;  // null: 404 if `allow` is empty, else 405
    std::string path_rest;
    std::string allow;  // methods of this path, for Allow
    bool open = false;  // some route of this path needs no key
  };
  Match Find(std::string_view method, std::string_view path) const;

 private:
  std::vector<Route> routes_;
};

/// Splits a request target (origin form, absolute form or "*") into decoded path and raw query.
/// False: malformed.
bool SplitTarget(std::string_view target, std::string* path, std::string* query);

}  // namespace modu::http
