// The components of a tokenizer.json by their "type": each function reads one and builds it, or
// names what is unknown. They may throw nlohmann's exceptions on a wrong type; LoadTokenizerJson
// catches them.
#pragma once
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "nlohmann/json_fwd.hpp"
#include "server/text/normalizer.h"
#include "server/text/pre_tokenizer.h"
#include "server/text/token_decoder.h"

namespace modu::text {

/// null for null.
absl::StatusOr<std::unique_ptr<Normalizer>> ReadNormalizer(const nlohmann::json& node);
absl::StatusOr<std::unique_ptr<PreTokenizer>> ReadPreTokenizer(const nlohmann::json& node,
                                                               bool map_bytes);
absl::StatusOr<std::vector<DecodeStep>> ReadDecoder(const nlohmann::json& node);

struct AroundText {
  std::vector<int32_t> prefix, suffix;
};
/// What the post-processor puts around a single text.
absl::StatusOr<AroundText> ReadPostProcessor(const nlohmann::json& node);

/// The types of a component's leaves, sequences flattened.
std::vector<std::string> LeafTypes(const nlohmann::json& node);

}  // namespace modu::text
