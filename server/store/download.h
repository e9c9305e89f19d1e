// One file over HTTPS: certificates verified, redirects followed a few times, continued where an
// earlier try stopped, bounded in size and in waiting. Blocking; one thread; nothing shared. What
// arrives lies beside the target as TARGET.part until it is whole and its checksum right, then it
// is renamed.
#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"

namespace modu::store {

struct DownloadOptions {
  int64_t max_bytes = int64_t{1} << 40;
  int max_redirects = 5;
  int timeout_s = 60;                                         // without a byte
  bool allow_http = false;                                    // loopback needs no permission
  std::string ca_file;                                        // "": the system's
  std::string sha256;                                         // "": not known
  std::function<void(int64_t done, int64_t total)> progress;  // total -1: not known
};

/// kInvalidArgument: the URL; kUnavailable: no connection, or it broke (call again to continue);
/// kNotFound and kPermissionDenied: the server's answer; kDataLoss: a wrong checksum (what came is
/// thrown away); kResourceExhausted: larger than max_bytes, or no space.
absl::Status Download(const std::string& url, const std::string& target,
                      const DownloadOptions& options);

}  // namespace modu::store
