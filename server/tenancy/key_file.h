// The keys that a running server goes by: read from their file at start and again on request
// (SIGHUP). Calls go by the keys that stood when they came; a file that cannot be read, or holds
// none, leaves those that stand. Thread-safe.
#pragma once
#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "server/tenancy/api_keys.h"

namespace modu::tenancy {

class KeyFile {
 public:
  /// An empty path: no keys, everything is open, and stays so.
  explicit KeyFile(std::string path) : path_(std::move(path)) {}

  /// ApiKeys::FromFile's errors; the keys before stay.
  absl::Status Load();

  bool configured() const { return !path_.empty(); }
  /// False until Load has succeeded, if there is a file.
  bool Allows(std::string_view authorization) const;
  bool world_readable() const { return Keys()->world_readable(); }
  size_t size() const { return Keys()->size(); }

 private:
  std::shared_ptr<const ApiKeys> Keys() const;

  const std::string path_;
  mutable std::mutex mutex_;
  std::shared_ptr<const ApiKeys> keys_ = std::make_shared<ApiKeys>();
};

}  // namespace modu::tenancy
