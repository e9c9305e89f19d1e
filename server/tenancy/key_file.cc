#include "server/tenancy/key_file.h"

#include <utility>

namespace modu::tenancy {

absl::Status KeyFile::Load() {
  if (!configured()) return absl::OkStatus();
  absl::StatusOr<ApiKeys> read = ApiKeys::FromFile(path_);
  if (!read.ok()) return read.status();
  auto fresh = std::make_shared<const ApiKeys>(*std::move(read));
  std::lock_guard lock(mutex_);
  keys_ = std::move(fresh);
  return absl::OkStatus();
}

bool KeyFile::Allows(std::string_view authorization) const {
  if (!configured()) return true;
  const std::shared_ptr<const ApiKeys> keys = Keys();
  return keys->required() && keys->Allows(authorization);
}

std::shared_ptr<const ApiKeys> KeyFile::Keys() const {
  std::lock_guard lock(mutex_);
  return keys_;
}

}  // namespace modu::tenancy
