#include "engine/checkpoint/gguf_checkpoint.h"

#include <cstring>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/checkpoint/gguf_config.h"
#include "engine/checkpoint/gguf_reader.h"
#include "engine/checkpoint/tensor_plan.h"

namespace modu::engine {
namespace {

/// Rows of a head: [2i, 2i+1] pairs of the rotated part go back to [i, i + rotary_dim/2]. In place.
void UnpermuteRows(std::byte* data, int64_t num_rows, int64_t row_bytes, int head_dim,
                   int rotary_dim) {
  const int half = rotary_dim / 2;
  std::vector<std::byte> head(static_cast<size_t>(rotary_dim * row_bytes));
  for (int64_t first = 0; first < num_rows; first += head_dim) {
    std::byte* rows = data + first * row_bytes;
    std::memcpy(head.data(), rows, head.size());
    for (int i = 0; i < rotary_dim; ++i) {
      const int from = i < half ? 2 * i : 2 * (i - half) + 1;
      std::memcpy(rows + i * row_bytes, head.data() + from * row_bytes,
                  static_cast<size_t>(row_bytes));
    }
  }
}

class GgufCheckpoint final : public Checkpoint {
 public:
  GgufCheckpoint(InputFile file, ModelConfig config, TokenizerFiles tokenizer,
                 const GgufContents& contents)
      : file_(std::move(file)),
        config_(std::move(config)),
        tokenizer_(std::move(tokenizer)),
        version_(contents.version),
        rotary_pairs_(config_.architecture == "llama") {
    for (const GgufTensor& tensor : contents.tensors) {
      tensors_.push_back({HuggingFaceName(tensor.name), tensor.dtype, tensor.shape, tensor.bytes});
      offsets_.push_back(tensor.offset);
    }
  }

  const ModelConfig& config() const override { return config_; }
  const TokenizerFiles& tokenizer_files() const override { return tokenizer_; }
  const std::vector<TensorInfo>& tensors() const override { return tensors_; }
  std::string format() const override { return absl::StrCat("GGUF v", version_); }

  absl::Status Read(const TensorInfo& info, std::byte* out) const override {
    for (size_t i = 0; i < tensors_.size(); ++i) {
      if (tensors_[i].name != info.name) continue;
      absl::Status status = file_.ReadAt(offsets_[i], out, static_cast<size_t>(tensors_[i].bytes));
      if (status.ok() && rotary_pairs_ && IsRotated(info.name)) {
        const int64_t rows = tensors_[i].shape[0];
        UnpermuteRows(out, rows, tensors_[i].bytes / rows, config_.head_dim,
                      config_.rope.rotary_dim);
      }
      return status;
    }
    return absl::NotFoundError(absl::StrCat(file_.name(), ": no tensor ", info.name));
  }

 private:
  static bool IsRotated(const std::string& name) {
    return absl::StrContains(name, ".self_attn.q_proj.") ||
           absl::StrContains(name, ".self_attn.k_proj.");
  }

  const InputFile file_;
  const ModelConfig config_;
  const TokenizerFiles tokenizer_;
  const uint32_t version_;
  const bool rotary_pairs_;
  std::vector<TensorInfo> tensors_;
  std::vector<uint64_t> offsets_;
};

absl::StatusOr<std::vector<float>> ReadRopeFactors(const InputFile& file,
                                                   const GgufContents& contents) {
  std::vector<float> factors;
  for (const GgufTensor& tensor : contents.tensors) {
    if (tensor.name != "rope_freqs.weight") continue;
    if (tensor.dtype != kernels::DType::kF32 || tensor.bytes > 64 * 1024) {
      return absl::InvalidArgumentError(
          absl::StrCat(file.name(), ": tensor rope_freqs.weight: must be a short F32 vector"));
    }
    factors.resize(static_cast<size_t>(tensor.bytes) / sizeof(float));
    absl::Status status =
        file.ReadAt(tensor.offset, factors.data(), static_cast<size_t>(tensor.bytes));
    if (!status.ok()) return status;
  }
  return factors;
}

absl::Status InFile(const InputFile& file, const absl::Status& status) {
  if (status.ok()) return status;
  return absl::Status(status.code(), absl::StrCat(file.name(), ": ", status.message()));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGgufCheckpoint(InputFile file) {
  auto contents = ReadGguf(file);
  if (!contents.ok()) return contents.status();
  auto parts = contents->metadata.Int("split.count", 0, UINT16_MAX);
  if (!parts.ok()) return parts.status();
  if (parts->value_or(1) > 1) {
    return absl::UnimplementedError(
        absl::StrCat(file.name(), ": is one of ", **parts, " parts; merge them into one file"));
  }
  auto rope_factors = ReadRopeFactors(file, *contents);
  if (!rope_factors.ok()) return rope_factors.status();
  auto config = ConfigFromGguf(*contents, *rope_factors);
  if (!config.ok()) return config.status();
  auto tokenizer = TokenizerFromGguf(contents->metadata);
  if (!tokenizer.ok()) return tokenizer.status();
  if (absl::Status status = CheckConfig(*config); !status.ok()) return InFile(file, status);
  const ModelConfig checked = *config;
  const std::string name = file.name();
  auto checkpoint = std::make_unique<GgufCheckpoint>(std::move(file), *std::move(config),
                                                     *std::move(tokenizer), *contents);
  if (absl::Status status = CheckTensors(checked, checkpoint->tensors()); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat(name, ": ", status.message()));
  }
  return checkpoint;
}

absl::StatusOr<TokenizerFiles> ReadGgufTokenizer(const InputFile& file) {
  auto contents = ReadGguf(file);
  if (!contents.ok()) return contents.status();
  return TokenizerFromGguf(contents->metadata);
}

}  // namespace modu::engine
