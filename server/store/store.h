// The model store: from a name to a path on this machine, fetched where it must be, once and
// safely. Blocking; any thread; processes are kept apart by lock files, so that two pulls of one
// model fetch it once.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/store/catalogue.h"

namespace modu::store {

struct StoreOptions {
  std::string home;                     // holds models/; $MODU_HOME, else ~/.cache/modu
  std::vector<std::string> hub_caches;  // folders with models--ORG--NAME, searched in order
  std::vector<CatalogueEntry> catalogue = Catalogue();
  std::string python = "python3";  // runs pip and unpacks what it brings
  bool allow_fetch = true;         // false: only what is here already
  bool allow_http = false;         // plain http to other machines
  std::string ca_file;             // "": the system's certificates
  int timeout_s = 60;
  std::function<void(int64_t done, int64_t total)> progress;  // bytes; total -1: not known
  std::function<void(const std::string& line)> say;           // what is being done, for people
};

/// Folders from $MODU_HOME, $HF_HUB_CACHE, $HF_HOME and $HOME.
StoreOptions StoreOptionsFromEnvironment();

/// A MODEL argument, in this order: an existing path (file or folder), a catalogue name (any case;
/// "" is the default model), org/name in a hub cache, a URL. Fetches what is missing. kNotFound
/// says what could be meant.
absl::StatusOr<std::string> ResolveModel(const std::string& name, const StoreOptions& options);

/// What a MODEL argument is a name for, in the catalogue's own spelling; "" for a path or a URL.
std::string NameOf(const std::string& model, const StoreOptions& options);

/// As ResolveModel, but only for what can be fetched or is in a hub cache; a model that is here is
/// checked against its checksum, and fetched again where it is wrong.
absl::StatusOr<std::string> Pull(const std::string& name, const StoreOptions& options);

}  // namespace modu::store
