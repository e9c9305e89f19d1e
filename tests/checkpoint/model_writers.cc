#include "tests/checkpoint/model_writers.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <random>

#include "kernels/check.h"
#include "kernels/float_formats.h"

namespace modu::tests {
namespace {

void AppendString(Bytes* out, const std::string& text) {
  Append(out, static_cast<uint64_t>(text.size()));
  *out += text;
}

Bytes Typed(uint32_t type) {
  Bytes out;
  Append(&out, type);
  return out;
}

size_t RoundUp(size_t n, size_t alignment) { return (n + alignment - 1) / alignment * alignment; }

/// What llama.cpp's converter does to q and k: [heads, 2, head_dim/2, cols] -> [heads, head_dim/2,
/// 2, cols].
std::vector<float> PermuteRows(const std::vector<float>& values, int heads, int head_dim) {
  const size_t row = values.size() / static_cast<size_t>(heads * head_dim);
  std::vector<float> out(values.size());
  for (int h = 0; h < heads; ++h) {
    for (int half = 0; half < 2; ++half) {
      for (int j = 0; j < head_dim / 2; ++j) {
        const auto from = static_cast<size_t>(h * head_dim + half * head_dim / 2 + j) * row;
        const auto to = static_cast<size_t>(h * head_dim + 2 * j + half) * row;
        std::copy_n(values.begin() + static_cast<std::ptrdiff_t>(from), row,
                    out.begin() + static_cast<std::ptrdiff_t>(to));
      }
    }
  }
  return out;
}

void Replace(std::string* text, const std::string& from, const std::string& to) {
  if (const size_t at = text->find(from); at != std::string::npos)
    text->replace(at, from.size(), to);
}

std::string GgufName(std::string name) {
  if (name == "model.embed_tokens.weight") return "token_embd.weight";
  if (name == "model.norm.weight") return "output_norm.weight";
  if (name == "lm_head.weight") return "output.weight";
  Replace(&name, "model.layers.", "blk.");
  Replace(&name, "input_layernorm", "attn_norm");
  Replace(&name, "post_attention_layernorm", "ffn_norm");
  Replace(&name, "self_attn.q_proj", "attn_q");
  Replace(&name, "self_attn.k_proj", "attn_k");
  Replace(&name, "self_attn.v_proj", "attn_v");
  Replace(&name, "self_attn.o_proj", "attn_output");
  Replace(&name, "self_attn.q_norm", "attn_q_norm");
  Replace(&name, "self_attn.k_norm", "attn_k_norm");
  Replace(&name, "mlp.gate_proj", "ffn_gate");
  Replace(&name, "mlp.up_proj", "ffn_up");
  Replace(&name, "mlp.down_proj", "ffn_down");
  return name;
}

float Q8Scale(const float* block) {
  float largest = 0;
  for (int i = 0; i < 32; ++i) {
    if (!std::isfinite(block[i])) return std::numeric_limits<float>::infinity();
    largest = std::max(largest, std::fabs(block[i]));
  }
  return kernels::F16ToFloat(kernels::FloatToF16(largest / 127));
}

int Q8Code(float value, float scale) {
  return scale == 0
             ? 0
             : std::min(127, std::max(-127, static_cast<int>(std::nearbyint(value / scale))));
}

}  // namespace

void GgufWriter::Raw(const std::string& key, const Bytes& encoded) {
  AppendString(&metadata_, key);
  metadata_ += encoded;
  ++num_values_;
}

void GgufWriter::Uint32(const std::string& key, uint32_t value) {
  Bytes out = Typed(4);
  Append(&out, value);
  Raw(key, out);
}

void GgufWriter::Float32(const std::string& key, float value) {
  Bytes out = Typed(6);
  Append(&out, value);
  Raw(key, out);
}

void GgufWriter::Bool(const std::string& key, bool value) {
  Bytes out = Typed(7);
  Append(&out, static_cast<uint8_t>(value ? 1 : 0));
  Raw(key, out);
}

void GgufWriter::String(const std::string& key, const std::string& value) {
  Bytes out = Typed(8);
  AppendString(&out, value);
  Raw(key, out);
}

void GgufWriter::Strings(const std::string& key, const std::vector<std::string>& values) {
  Bytes out = Typed(9) + Typed(8);
  Append(&out, static_cast<uint64_t>(values.size()));
  for (const std::string& value : values) AppendString(&out, value);
  Raw(key, out);
}

void GgufWriter::Floats(const std::string& key, const std::vector<float>& values) {
  Bytes out = Typed(9) + Typed(6);
  Append(&out, static_cast<uint64_t>(values.size()));
  for (float value : values) Append(&out, value);
  Raw(key, out);
}

void GgufWriter::Int32s(const std::string& key, const std::vector<int32_t>& values) {
  Bytes out = Typed(9) + Typed(5);
  Append(&out, static_cast<uint64_t>(values.size()));
  for (int32_t value : values) Append(&out, value);
  Raw(key, out);
}

void GgufWriter::Tensor(const std::string& name, const std::vector<int64_t>& shape,
                        uint32_t ggml_type, Bytes data) {
  tensors_.push_back({name, shape, ggml_type, std::move(data)});
}

Bytes GgufWriter::Header() const {
  Bytes out = "GGUF";
  Append(&out, version);
  Append(&out, static_cast<uint64_t>(tensors_.size()));
  Append(&out, num_values_);
  out += metadata_;
  uint64_t offset = 0;
  for (const Entry& tensor : tensors_) {
    AppendString(&out, tensor.name);
    Append(&out, static_cast<uint32_t>(tensor.shape.size()));
    for (auto it = tensor.shape.rbegin(); it != tensor.shape.rend(); ++it)
      Append(&out, static_cast<uint64_t>(*it));
    Append(&out, tensor.type);
    Append(&out, offset);
    offset += RoundUp(tensor.data.size(), alignment);
  }
  return out;
}

size_t GgufWriter::header_bytes() const { return Header().size(); }

Bytes GgufWriter::Finish() const {
  Bytes out = Header();
  for (const Entry& tensor : tensors_) {
    out.resize(RoundUp(out.size(), alignment));
    out += tensor.data;
  }
  return out;
}

SmallModel MakeSmallModel(const std::string& architecture, uint32_t seed, const SmallModel& sizes) {
  SmallModel m = sizes;
  m.architecture = architecture;
  m.qkv_bias = architecture == "qwen2" || m.all_biases;
  m.qk_norm = architecture == "qwen3";
  m.tied = architecture != "llama";
  std::mt19937 random(seed);
  const auto add = [&](const std::string& name, std::vector<int64_t> shape, float mean,
                       float spread) {
    std::normal_distribution<float> normal(mean, spread);
    NamedTensor tensor{name, std::move(shape), {}};
    int64_t n = 1;
    for (int64_t dim : tensor.shape) n *= dim;
    for (int64_t i = 0; i < n; ++i) tensor.values.push_back(normal(random));
    m.tensors.push_back(std::move(tensor));
  };
  const int q = m.heads * m.head_dim, kv = m.kv_heads * m.head_dim;
  add("model.embed_tokens.weight", {m.vocab, m.hidden}, 0, 1);
  for (int i = 0; i < m.layers; ++i) {
    const std::string layer = "model.layers." + std::to_string(i) + ".";
    add(layer + "input_layernorm.weight", {m.hidden}, 1, 0.1f);
    add(layer + "self_attn.q_proj.weight", {q, m.hidden}, 0, 0.2f);
    add(layer + "self_attn.k_proj.weight", {kv, m.hidden}, 0, 0.2f);
    add(layer + "self_attn.v_proj.weight", {kv, m.hidden}, 0, 0.2f);
    if (m.qkv_bias) {
      add(layer + "self_attn.q_proj.bias", {q}, 0, 0.3f);
      add(layer + "self_attn.k_proj.bias", {kv}, 0, 0.3f);
      add(layer + "self_attn.v_proj.bias", {kv}, 0, 0.3f);
    }
    if (m.qk_norm) {
      add(layer + "self_attn.q_norm.weight", {m.head_dim}, 1, 0.1f);
      add(layer + "self_attn.k_norm.weight", {m.head_dim}, 1, 0.1f);
    }
    add(layer + "self_attn.o_proj.weight", {m.hidden, q}, 0, 0.1f);
    if (m.all_biases) {
      add(layer + "self_attn.o_proj.bias", {m.hidden}, 0, 0.3f);
      add(layer + "mlp.gate_proj.bias", {m.ffn}, 0, 0.3f);
      add(layer + "mlp.up_proj.bias", {m.ffn}, 0, 0.3f);
      add(layer + "mlp.down_proj.bias", {m.hidden}, 0, 0.3f);
    }
    add(layer + "post_attention_layernorm.weight", {m.hidden}, 1, 0.1f);
    add(layer + "mlp.gate_proj.weight", {m.ffn, m.hidden}, 0, 0.2f);
    add(layer + "mlp.up_proj.weight", {m.ffn, m.hidden}, 0, 0.2f);
    add(layer + "mlp.down_proj.weight", {m.hidden, m.ffn}, 0, 0.1f);
  }
  add("model.norm.weight", {m.hidden}, 1, 0.1f);
  if (!m.tied) add("lm_head.weight", {m.vocab, m.hidden}, 0, 0.2f);
  return m;
}

void RoundToQ8_0(SmallModel* model) {
  for (NamedTensor& tensor : model->tensors) {
    if (tensor.shape.size() != 2) continue;
    for (size_t i = 0; i < tensor.values.size(); i += 32) {
      const float scale = Q8Scale(&tensor.values[i]);
      for (size_t j = i; j < i + 32; ++j)
        tensor.values[j] = static_cast<float>(Q8Code(tensor.values[j], scale)) * scale;
    }
  }
}

Bytes EncodeF32(const std::vector<float>& values) {
  Bytes out;
  for (float value : values) Append(&out, value);
  return out;
}

Bytes EncodeQ8_0(const std::vector<float>& values) {
  Bytes out;
  for (size_t i = 0; i < values.size(); i += 32) {
    const float scale = Q8Scale(&values[i]);
    Append(&out, kernels::FloatToF16(scale));
    for (size_t j = i; j < i + 32; ++j) Append(&out, static_cast<int8_t>(Q8Code(values[j], scale)));
  }
  return out;
}

namespace {

void AddMetadata(const SmallModel& m, GgufWriter* writer) {
  GgufWriter& out = *writer;
  const std::string arch = m.architecture + ".";
  out.String("general.architecture", m.architecture);
  out.String("general.name", "small");
  out.Uint32(arch + "block_count", static_cast<uint32_t>(m.layers));
  out.Uint32(arch + "context_length", 512);
  out.Uint32(arch + "embedding_length", static_cast<uint32_t>(m.hidden));
  out.Uint32(arch + "feed_forward_length", static_cast<uint32_t>(m.ffn));
  out.Uint32(arch + "attention.head_count", static_cast<uint32_t>(m.heads));
  out.Uint32(arch + "attention.head_count_kv", static_cast<uint32_t>(m.kv_heads));
  out.Uint32(arch + "attention.key_length", static_cast<uint32_t>(m.head_dim));
  out.Float32(arch + "attention.layer_norm_rms_epsilon", 1e-5f);
  out.Float32(arch + "rope.freq_base", 10000.0f);
}

void AddTensor(const SmallModel& m, const NamedTensor& tensor, bool matrices_q8_0,
               GgufWriter* out) {
  const bool matrix = tensor.shape.size() == 2;
  std::vector<float> values = tensor.values;
  if (m.architecture == "llama" && tensor.name.find("q_proj") != std::string::npos) {
    values = PermuteRows(values, m.heads, m.head_dim);
  }
  if (m.architecture == "llama" && tensor.name.find("k_proj") != std::string::npos) {
    values = PermuteRows(values, m.kv_heads, m.head_dim);
  }
  const bool q8 = matrix && matrices_q8_0;
  out->Tensor(GgufName(tensor.name), tensor.shape, q8 ? 8 : 0,
              q8 ? EncodeQ8_0(values) : EncodeF32(values));
}

}  // namespace

GgufWriter ToGguf(const SmallModel& m, bool matrices_q8_0) {
  GgufWriter out;
  AddMetadata(m, &out);
  for (const NamedTensor& tensor : m.tensors) AddTensor(m, tensor, matrices_q8_0, &out);
  return out;
}

std::vector<GgufWriter> ToGgufParts(const SmallModel& m, size_t count) {
  std::vector<GgufWriter> parts(count);
  AddMetadata(m, &parts[0]);
  for (size_t i = 0; i < m.tensors.size(); ++i) {
    AddTensor(m, m.tensors[i], false, &parts[i * count / m.tensors.size()]);
  }
  return parts;
}

std::string ConfigJson(const SmallModel& m) {
  const auto field = [](const std::string& key, int value) {
    return "\"" + key + "\": " + std::to_string(value) + ", ";
  };
  const std::string biases = m.all_biases ? "\"attention_bias\": true, \"mlp_bias\": true, " : "";
  return "{\"model_type\": \"" + m.architecture + "\", " + m.more_config + biases +
         field("hidden_size", m.hidden) + field("intermediate_size", m.ffn) +
         field("num_hidden_layers", m.layers) + field("num_attention_heads", m.heads) +
         field("num_key_value_heads", m.kv_heads) + field("head_dim", m.head_dim) +
         field("vocab_size", m.vocab) + field("max_position_embeddings", 512) +
         "\"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, \"tie_word_embeddings\": " +
         (m.tied ? "true" : "false") + "}";
}

Bytes RawSafetensors(const std::string& header, const Bytes& data) {
  Bytes out;
  Append(&out, static_cast<uint64_t>(header.size()));
  return out + header + data;
}

Bytes ToSafetensors(const std::vector<SafetensorsPart>& parts) {
  std::string header = "{\"__metadata__\":{\"format\":\"pt\"}";
  Bytes data;
  for (const SafetensorsPart& part : parts) {
    header += ",\"" + part.name + "\":{\"dtype\":\"" + part.dtype + "\",\"shape\":[";
    for (size_t i = 0; i < part.shape.size(); ++i)
      header += (i == 0 ? "" : ",") + std::to_string(part.shape[i]);
    header += "],\"data_offsets\":[" + std::to_string(data.size()) + ",";
    data += part.data;
    header += std::to_string(data.size()) + "]}";
  }
  header += "}";
  while (header.size() % 8 != 0) header += ' ';
  return RawSafetensors(header, data);
}

std::vector<SafetensorsPart> F32Parts(const SmallModel& model) {
  std::vector<SafetensorsPart> parts;
  for (const NamedTensor& tensor : model.tensors)
    parts.push_back({tensor.name, "F32", tensor.shape, EncodeF32(tensor.values)});
  return parts;
}

TempFolder::TempFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "modu-test-XXXXXX").string();
  MODU_CHECK(::mkdtemp(pattern.data()) != nullptr);
  path_ = pattern;
}

TempFolder::~TempFolder() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
}

std::string TempFolder::Path(const std::string& name) const {
  return name.empty() ? path_.string() : (path_ / name).string();
}

void TempFolder::Write(const std::string& name, const std::string& content) const {
  std::filesystem::create_directories((path_ / name).parent_path());
  std::ofstream(path_ / name, std::ios::binary) << content;
}

engine::InputFile MemoryFile(const Bytes& bytes, const std::string& name) {
  const int fd = ::memfd_create("modu-test", MFD_CLOEXEC);
  MODU_CHECK(fd >= 0);
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::write(fd, bytes.data() + done, bytes.size() - done);
    MODU_CHECK(n > 0);
    done += static_cast<size_t>(n);
  }
  auto file = engine::InputFile::Adopt(fd, name);
  MODU_CHECK(file.ok());
  return *std::move(file);
}

std::vector<engine::InputFile> OneMemoryFile(const Bytes& bytes, const std::string& name) {
  std::vector<engine::InputFile> files;
  files.push_back(MemoryFile(bytes, name));
  return files;
}

}  // namespace modu::tests
