// SHA-256 of files and strings.
#pragma once
#include <string>

#include "absl/status/statusor.h"

namespace modu::store {

/// Lower-case hexadecimal, 64 characters. Reads in pieces; kNotFound or kDataLoss where the file
/// cannot be read.
absl::StatusOr<std::string> Sha256OfFile(const std::string& path);
std::string Sha256OfText(const std::string& text);

}  // namespace modu::store
