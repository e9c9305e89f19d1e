// Writes small models as GGUF and as safetensors, byte by byte from the formats' specifications and
// independent of the readers under test, so that every machine has models to load, sound ones and
// broken ones.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "engine/checkpoint/input_file.h"

namespace modu::tests {

using Bytes = std::string;

template <typename T>
void Append(Bytes* out, T value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

/// GGUF in the making. Metadata and tensors come out in the order they were added.
class GgufWriter {
 public:
  uint32_t version = 3;
  uint32_t alignment = 32;

  void Uint32(const std::string& key, uint32_t value);
  void Float32(const std::string& key, float value);
  void Bool(const std::string& key, bool value);
  void String(const std::string& key, const std::string& value);
  void Strings(const std::string& key, const std::vector<std::string>& values);
  void Floats(const std::string& key, const std::vector<float>& values);
  void Int32s(const std::string& key, const std::vector<int32_t>& values);
  /// Any value, already encoded: type (4 bytes) and payload.
  void Raw(const std::string& key, const Bytes& encoded);
  /// shape: outermost first; the file gets it reversed.
  void Tensor(const std::string& name, const std::vector<int64_t>& shape, uint32_t ggml_type,
              Bytes data);
  Bytes Finish() const;
  /// Bytes before the tensor data.
  size_t header_bytes() const;

 private:
  struct Entry {
    std::string name;
    std::vector<int64_t> shape;
    uint32_t type;
    Bytes data;
  };
  Bytes Header() const;
  uint64_t num_values_ = 0;
  Bytes metadata_;
  std::vector<Entry> tensors_;
};

/// A named float tensor of a model in Hugging Face's spelling and order.
struct NamedTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::vector<float> values;
};

struct SmallModel {
  std::string architecture = "llama";
  int hidden = 64, ffn = 96, layers = 2, heads = 4, kv_heads = 2, head_dim = 16, vocab = 96;
  bool tied = false, qkv_bias = false, qk_norm = false;
  bool all_biases = false;  // llama's attention_bias and mlp_bias
  std::string more_config;  // further members of config.json, each with a comma behind it
  std::vector<NamedTensor> tensors;
};

/// Random weights of sensible size; the same seed gives the same model.
SmallModel MakeSmallModel(const std::string& architecture, uint32_t seed,
                          const SmallModel& sizes = {});
/// Rounds each matrix to what Q8_0 can hold (block of 32: f16 scale, int8 codes).
void RoundToQ8_0(SmallModel* model);

Bytes EncodeF32(const std::vector<float>& values);
Bytes EncodeQ8_0(const std::vector<float>& values);

/// matrices_q8_0: matrices as Q8_0, else F32. q and k rows are permuted where the architecture is
/// llama.
GgufWriter ToGguf(const SmallModel& model, bool matrices_q8_0);
/// As F32 in `count` files; the first has the metadata. split.* keys are the caller's.
std::vector<GgufWriter> ToGgufParts(const SmallModel& model, size_t count);
std::string ConfigJson(const SmallModel& model);

/// One entry of a safetensors file.
struct SafetensorsPart {
  std::string name, dtype;
  std::vector<int64_t> shape;
  Bytes data;
};
Bytes ToSafetensors(const std::vector<SafetensorsPart>& parts);
std::vector<SafetensorsPart> F32Parts(const SmallModel& model);
/// Length, header text, data: for broken headers.
Bytes RawSafetensors(const std::string& header, const Bytes& data);

/// A temporary folder, removed with the object.
class TempFolder {
 public:
  TempFolder();
  ~TempFolder();
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  std::string Path(const std::string& name = "") const;
  void Write(const std::string& name, const std::string& content) const;

 private:
  std::filesystem::path path_;
};

/// The bytes as an open file in memory.
engine::InputFile MemoryFile(const Bytes& bytes, const std::string& name);
std::vector<engine::InputFile> OneMemoryFile(const Bytes& bytes, const std::string& name);

}  // namespace modu::tests
