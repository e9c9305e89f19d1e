#include "server/cli/inspect_command.h"

#include <cstdio>
#include <map>
#include <string>
#include <string_view>

#include "engine/checkpoint/checkpoint.h"
#include "engine/runner/load_model.h"
#include "server/cli/in_model.h"
#include "server/store/store.h"
#include "server/text/chat_template.h"
#include "server/text/chat_template_source.h"
#include "server/text/tokenizer.h"

namespace modu::cli {
namespace {

constexpr double kMib = 1 << 20;
constexpr char kUsage[] =
    "usage: modu inspect MODEL [--tensors]\n"
    "A GGUF file, a folder or a model's name. --tensors: each tensor, its type and its shape.\n";

std::string ShapeText(const std::vector<int64_t>& shape) {
  std::string text;
  for (const int64_t dim : shape) text += (text.empty() ? "" : " x ") + std::to_string(dim);
  return text;
}

void PrintConfig(const engine::ModelConfig& config) {
  std::printf("architecture   %s\n", config.architecture.c_str());
  if (!config.name.empty()) std::printf("name           %s\n", config.name.c_str());
  std::printf("shape          %d layers, width %d, ffn %d, %d query heads and %d KV heads of %d\n",
              config.num_layers, config.hidden_size, config.intermediate_size, config.num_heads,
              config.num_kv_heads, config.head_dim);
  std::printf("vocabulary     %d, head %s\n", config.vocab_size,
              config.tie_embeddings ? "tied to the embedding" : "untied");
  std::printf("context        %d tokens", config.max_position);
  if (config.sliding_window > 0) std::printf(", sliding window %d", config.sliding_window);
  for (int i = 0; i < static_cast<int>(config.layer_windows.size()); ++i) {
    const int32_t window = config.layer_windows[static_cast<size_t>(i)];
    if (window > 0) std::printf(", sliding window %d in layer %d", window, i);
  }
  std::printf("\nRoPE           theta %g over %d of %d dims\n",
              static_cast<double>(config.rope.theta), config.rope.rotary_dim, config.head_dim);
  std::printf("ends at ids   ");
  for (const int32_t id : config.eos_ids) std::printf(" %d", id);
  std::printf("\n");
}

struct TypeTotal {
  int count = 0;
  int64_t bytes = 0;
};

int64_t PrintTensors(const engine::Checkpoint& checkpoint, bool each) {
  std::map<std::string, TypeTotal> totals;
  int64_t bytes = 0;
  for (const engine::TensorInfo& tensor : checkpoint.tensors()) {
    const char* type = kernels::TraitsOf(tensor.dtype).name;
    TypeTotal& total = totals[type];
    ++total.count;
    total.bytes += tensor.bytes;
    bytes += tensor.bytes;
    if (each)
      std::printf("  %-52s %-8s %s\n", tensor.name.c_str(), type, ShapeText(tensor.shape).c_str());
  }
  std::printf("tensors        %zu, %.1f MiB:", checkpoint.tensors().size(),
              static_cast<double>(bytes) / kMib);
  for (const auto& [type, total] : totals) {
    std::printf(" %d %s (%.1f MiB)", total.count, type.c_str(),
                static_cast<double>(total.bytes) / kMib);
  }
  std::printf("\n");
  return bytes;
}

/// False when the file has a tokenizer that cannot be served.
bool PrintText(const engine::TokenizerFiles& files) {
  if (files.from_gguf ? files.tokens.empty() : files.tokenizer_json.empty()) {
    std::printf("tokenizer      none: token-id prompts only\n");
    return true;
  }
  const auto tokenizer = text::LoadTokenizer(files);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "modu inspect: tokenizer: %s\n",
                 std::string(tokenizer.status().message()).c_str());
    return false;
  }
  std::printf("tokenizer      %s, %d tokens\n", (*tokenizer)->kind().c_str(),
              (*tokenizer)->vocab_size());
  const std::string source = text::FindChatTemplate(files).source;
  if (source.empty()) {
    std::printf("chat template  none: no chat endpoint\n");
    return true;
  }
  const auto chat_template = text::ChatTemplate::Parse(source);
  if (!chat_template.ok()) {
    std::fprintf(stderr, "modu inspect: chat template: %s\n",
                 std::string(chat_template.status().message()).c_str());
    return false;
  }
  std::printf("chat template  %zu bytes\n", source.size());
  return true;
}

/// The weights as int8 numerics has them: 4-bit codes stay so, wider ones take a byte, each group
/// of 32 has two bytes of scale and, but for Q8_0, two of a minimum or a second scale. A head of
/// Q8_0 has its upper bits and scales once more.
int64_t Int8Bytes(const engine::Checkpoint& checkpoint) {
  using kernels::DType;
  int64_t bytes = 0;
  for (const engine::TensorInfo& tensor : checkpoint.tensors()) {
    const DType type = tensor.dtype;
    if (tensor.shape.size() != 2 || kernels::TraitsOf(type).block_elements == 1) {
      bytes += tensor.bytes;
      continue;
    }
    const bool nibbles = type == DType::kQ4_0 || type == DType::kQ4_1 || type == DType::kQ4K;
    const int64_t group = nibbles ? 16 + 4 : type == DType::kQ8_0 ? 32 + 2 : 32 + 4;
    const bool f16 = type == DType::kQ4_0 || type == DType::kQ4_1;
    const int64_t as_in_file = type == DType::kQ8_0 ? 2 : f16 ? 4 : 8;
    const bool is_head = tensor.shape[0] == checkpoint.config().vocab_size;
    const bool is_multiplied =
        is_head && (checkpoint.config().tie_embeddings || tensor.name == "lm_head.weight");
    const int64_t upper_bits = is_multiplied && type == DType::kQ8_0 ? 32 * 5 / 8 + 2 : 0;
    bytes +=
        tensor.shape[0] * tensor.shape[1] / 32 * (group + (is_head ? as_in_file : 0) + upper_bits);
  }
  return bytes;
}

/// What phased numerics keep of layers besides, about as in the file.
int64_t LayerBytes(const engine::Checkpoint& checkpoint) {
  int64_t bytes = 0;
  for (const engine::TensorInfo& tensor : checkpoint.tensors()) {
    const bool of_layer = tensor.name.starts_with("model.layers.");
    if (of_layer && kernels::IsBlockQuantised(tensor.dtype)) bytes += tensor.bytes;
  }
  return bytes;
}

void PrintMemory(const engine::ModelConfig& config, int64_t weight_bytes, int64_t int8_bytes,
                 int64_t phased_bytes) {
  using kernels::DType;
  const auto kv_token = [&](DType dtype) {
    return static_cast<double>(engine::KvBytesPerToken(config, dtype));
  };
  std::printf(
      "memory         weights about %.0f MiB, %.0f MiB in int8 and %.0f MiB in phased numerics; "
      "KV %.1f KiB a token in bf16, %.1f KiB in int8 or fp8, %.1f KiB in float32; "
      "a full context %.0f MiB in bf16\n",
      static_cast<double>(weight_bytes) / kMib, static_cast<double>(int8_bytes) / kMib,
      static_cast<double>(phased_bytes) / kMib, kv_token(DType::kBF16) / 1024,
      kv_token(DType::kI8) / 1024, kv_token(DType::kF32) / 1024,
      kv_token(DType::kBF16) * config.max_position / kMib);
}

int Inspect(const std::string& model, bool each_tensor) {
  store::StoreOptions options = store::StoreOptionsFromEnvironment();
  options.say = [](const std::string& text) { std::fprintf(stderr, "%s\n", text.c_str()); };
  const auto path = store::ResolveModel(model, options);
  if (!path.ok()) {
    std::fprintf(stderr, "modu inspect: %s\n", std::string(path.status().message()).c_str());
    return 1;
  }
  const auto checkpoint = engine::OpenCheckpoint(*path);
  if (!checkpoint.ok()) {
    std::fprintf(stderr, "modu inspect: %s\n",
                 std::string(InModel(*path, checkpoint.status()).message()).c_str());
    return 1;
  }
  std::printf("format         %s\n", (*checkpoint)->format().c_str());
  PrintConfig((*checkpoint)->config());
  const int64_t bytes = PrintTensors(**checkpoint, each_tensor);
  PrintMemory((*checkpoint)->config(), bytes, Int8Bytes(**checkpoint),
              Int8Bytes(**checkpoint) + LayerBytes(**checkpoint));
  return PrintText((*checkpoint)->tokenizer_files()) ? 0 : 1;
}

}  // namespace

int RunInspect(int argc, char** argv) {
  std::string model;
  bool each_tensor = false;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    if (argument == "--tensors") {
      each_tensor = true;
    } else if (argument == "--help" || argument == "-h") {
      std::fputs(kUsage, stdout);
      return 0;
    } else if (model.empty() && argv[i][0] != '-') {
      model = argv[i];
    } else {
      std::fprintf(stderr, "modu inspect: unexpected \"%s\"\n%s", argv[i], kUsage);
      return 2;
    }
  }
  if (model.empty()) {
    std::fputs(kUsage, stderr);
    return 2;
  }
  return Inspect(model, each_tensor);
}

}  // namespace modu::cli
