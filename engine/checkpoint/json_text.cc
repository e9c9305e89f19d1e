#include "engine/checkpoint/json_text.h"

#include <nlohmann/json.hpp>

namespace modu::engine {

nlohmann::json ParseJsonText(const std::string& text) {
  if (FindNul(text) != std::string::npos) return nlohmann::json::value_t::discarded;
  return nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
}

}  // namespace modu::engine
