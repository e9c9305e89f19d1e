#include "engine/checkpoint/gguf_checkpoint.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/checkpoint/gguf_config.h"
#include "engine/checkpoint/gguf_reader.h"
#include "engine/checkpoint/tensor_plan.h"

namespace modu::engine {
namespace {

constexpr int kMaxParts = 512;

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
  /// part_of: for each tensor of `contents`, which of `parts` has it.
  GgufCheckpoint(std::vector<InputFile> parts, std::vector<size_t> part_of, ModelConfig config,
                 TokenizerFiles tokenizer, const GgufContents& contents)
      : parts_(std::move(parts)),
        part_of_(std::move(part_of)),
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
      const InputFile& file = parts_[part_of_[i]];
      absl::Status status = file.ReadAt(offsets_[i], out, static_cast<size_t>(tensors_[i].bytes));
      if (status.ok() && rotary_pairs_ && IsRotated(info.name)) {
        const int64_t rows = tensors_[i].shape[0];
        UnpermuteRows(out, rows, tensors_[i].bytes / rows, config_.head_dim,
                      config_.rope.rotary_dim);
      }
      return status;
    }
    return absl::NotFoundError(absl::StrCat(parts_[0].name(), ": no tensor ", info.name));
  }

 private:
  static bool IsRotated(const std::string& name) {
    return absl::StrContains(name, ".self_attn.q_proj.") ||
           absl::StrContains(name, ".self_attn.k_proj.");
  }

  const std::vector<InputFile> parts_;
  const std::vector<size_t> part_of_;
  const ModelConfig config_;
  const TokenizerFiles tokenizer_;
  const uint32_t version_;
  const bool rotary_pairs_;
  std::vector<TensorInfo> tensors_;
  std::vector<uint64_t> offsets_;
};

absl::StatusOr<std::vector<float>> ReadRopeFactors(const std::vector<InputFile>& parts,
                                                   const std::vector<size_t>& part_of,
                                                   const GgufContents& contents) {
  std::vector<float> factors;
  for (size_t i = 0; i < contents.tensors.size(); ++i) {
    const GgufTensor& tensor = contents.tensors[i];
    const InputFile& file = parts[part_of[i]];
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

/// Part `index` of `count`, as its metadata has to say; a model in one file says nothing.
absl::Status CheckPart(const GgufContents& part, size_t index, size_t count) {
  const auto stated = part.metadata.Int("split.count", 0, UINT16_MAX);
  const auto number = part.metadata.Int("split.no", 0, UINT16_MAX);
  if (!stated.ok()) return stated.status();
  if (!number.ok()) return number.status();
  const auto parts = static_cast<size_t>(std::max<int64_t>(stated->value_or(1), 1));
  if (parts != count) {
    return part.metadata.Error("split.count",
                               absl::StrCat("is ", parts, ", the name says ", count,
                                            " parts (NAME-00001-of-00002.gguf and so on)"));
  }
  if (count > 1 && static_cast<size_t>(number->value_or(-1)) != index) {
    return part.metadata.Error("split.no", absl::StrCat("is not ", index));
  }
  return absl::OkStatus();
}

/// The first part's metadata with the tensors of all.
absl::StatusOr<GgufContents> ReadParts(const std::vector<InputFile>& parts,
                                       std::vector<size_t>* part_of) {
  std::optional<GgufContents> all;
  for (size_t i = 0; i < parts.size(); ++i) {
    auto part = ReadGguf(parts[i]);
    if (!part.ok()) return part.status();
    if (absl::Status status = CheckPart(*part, i, parts.size()); !status.ok()) return status;
    part_of->insert(part_of->end(), part->tensors.size(), i);
    if (!all) {
      all = *std::move(part);
    } else {
      all->tensors.insert(all->tensors.end(), part->tensors.begin(), part->tensors.end());
    }
  }
  const auto total = all->metadata.Int("split.tensors.count", 0, INT32_MAX);
  if (!total.ok()) return total.status();
  if (*total && static_cast<size_t>(**total) != all->tensors.size()) {
    return all->metadata.Error(
        "split.tensors.count",
        absl::StrCat("is ", **total, ", the parts have ", all->tensors.size()));
  }
  return *std::move(all);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> OpenGgufCheckpoint(std::vector<InputFile> parts) {
  std::vector<size_t> part_of;
  auto contents = ReadParts(parts, &part_of);
  if (!contents.ok()) return contents.status();
  const InputFile& file = parts[0];
  auto rope_factors = ReadRopeFactors(parts, part_of, *contents);
  if (!rope_factors.ok()) return rope_factors.status();
  auto config = ConfigFromGguf(*contents, *rope_factors);
  if (!config.ok()) return config.status();
  auto tokenizer = TokenizerFromGguf(contents->metadata);
  if (!tokenizer.ok()) return tokenizer.status();
  if (absl::Status status = CheckConfig(*config); !status.ok()) return InFile(file, status);
  const ModelConfig checked = *config;
  const std::string name = file.name();
  auto checkpoint = std::make_unique<GgufCheckpoint>(
      std::move(parts), std::move(part_of), *std::move(config), *std::move(tokenizer), *contents);
  if (absl::Status status = CheckTensors(checked, checkpoint->tensors()); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat(name, ": ", status.message()));
  }
  return checkpoint;
}

absl::StatusOr<std::vector<std::string>> GgufParts(const std::string& path) {
  constexpr size_t kDigits = 5;
  constexpr std::string_view kOf = "-of-", kSuffix = ".gguf";
  constexpr size_t kTail = 1 + kDigits + kOf.size() + kDigits + kSuffix.size();
  if (path.size() <= kTail) return std::vector<std::string>{path};
  const size_t dash = path.size() - kTail, of = dash + 1 + kDigits;
  const auto number = [&](size_t at) {
    int value = 0;
    for (size_t i = at; i < at + kDigits; ++i) {
      if (path[i] < '0' || path[i] > '9') return -1;
      value = value * 10 + (path[i] - '0');
    }
    return value;
  };
  const int index = number(dash + 1), count = number(of + kOf.size());
  const bool named = path[dash] == '-' && path.compare(of, kOf.size(), kOf) == 0 &&
                     path.compare(path.size() - kSuffix.size(), kSuffix.size(), kSuffix) == 0;
  if (!named || count < 1 || index < 1 || index > count) return std::vector<std::string>{path};
  if (count > kMaxParts) {
    return absl::InvalidArgumentError(
        absl::StrCat("the model is in ", count, " files, at most ", kMaxParts, " are read"));
  }
  std::vector<std::string> parts;
  for (int i = 1; i <= count; ++i) {
    std::string digits = std::to_string(i);
    digits.insert(0, kDigits - digits.size(), '0');
    parts.push_back(path.substr(0, dash + 1) + digits + path.substr(of));
  }
  return parts;
}

absl::StatusOr<TokenizerFiles> ReadGgufTokenizer(const InputFile& file) {
  auto contents = ReadGguf(file);
  if (!contents.ok()) return contents.status();
  return TokenizerFromGguf(contents->metadata);
}

}  // namespace modu::engine
