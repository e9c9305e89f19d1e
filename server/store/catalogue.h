// The models that Modu knows by name, and how each is fetched.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

namespace modu::store {

struct CatalogueEntry {
  std::string name;
  std::string file;  // name in the model folder
  int64_t bytes = 0;
  std::string sha256;       // lower-case hexadecimal
  std::string requirement;  // the Python wheel that holds the file, as pip names it
};

/// The first is the default model.
const std::vector<CatalogueEntry>& Catalogue();

}  // namespace modu::store
