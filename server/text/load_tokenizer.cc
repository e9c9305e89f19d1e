#include "server/text/pipeline_tokenizer.h"

namespace modu::text {

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const engine::TokenizerFiles& files) {
  if (files.from_gguf && files.tokenizer_json.empty()) return LoadGgufTokenizer(files);
  if (!files.tokenizer_json.empty()) return LoadTokenizerJson(files);
  return absl::NotFoundError("no tokenizer: neither tokenizer.json nor GGUF metadata");
}

}  // namespace modu::text
