// GGUF files, sound and broken (reliability rows 84 to 91): every answer is an error that names
// file and key, never a crash and never a large allocation.
#include <cstring>
#include <functional>
#include <string>

#include "engine/checkpoint/gguf_checkpoint.h"
#include "tests/catch.h"
#include "tests/checkpoint/model_writers.h"

namespace modu::engine {
namespace {

using tests::Append;
using tests::Bytes;
using tests::GgufWriter;

absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const Bytes& bytes) {
  return OpenGgufCheckpoint(tests::OneMemoryFile(bytes, "small.gguf"));
}

/// The message of an error that must come; it names the file.
std::string ErrorOf(const Bytes& bytes) {
  auto opened = Open(bytes);
  REQUIRE_FALSE(opened.ok());
  const std::string message(opened.status().message());
  INFO(message);
  REQUIRE(message.find("small.gguf") != std::string::npos);
  REQUIRE(message.size() < 600);
  return message;
}

bool Mentions(const std::string& message, const std::string& what) {
  INFO(message);
  const bool found = message.find(what) != std::string::npos;
  CHECK(found);
  return found;
}

template <typename T>
void Poke(Bytes* bytes, size_t at, T value) {
  REQUIRE(at + sizeof(value) <= bytes->size());
  std::memcpy(bytes->data() + at, &value, sizeof(value));
}

/// Where the value of a metadata key starts (its type).
size_t ValueAt(const Bytes& bytes, const std::string& key) {
  const size_t at = bytes.find(key);
  REQUIRE(at != Bytes::npos);
  return at + key.size();
}

GgufWriter Small() { return tests::ToGguf(tests::MakeSmallModel("llama", 1), false); }

TEST_CASE("a sound GGUF file opens") {
  GgufWriter writer = Small();
  writer.version = GENERATE(2u, 3u);
  writer.Uint32("tokenizer.ggml.bos_token_id", 1);
  writer.Uint32("tokenizer.ggml.eos_token_id", 2);
  writer.Uint32("tokenizer.ggml.eot_token_id", 5);
  writer.Float32("general.sampling.temp", 0.5f);
  auto opened = Open(writer.Finish());
  INFO(opened.status().ToString());
  REQUIRE(opened.ok());
  const ModelConfig& config = (*opened)->config();
  CHECK((*opened)->format() == "GGUF v" + std::to_string(writer.version));
  CHECK(config.architecture == "llama");
  CHECK(config.name == "small");
  CHECK(config.hidden_size == 64);
  CHECK(config.num_kv_heads == 2);
  CHECK(config.vocab_size == 96);
  CHECK(config.tokenizer_vocab_size == 0);
  CHECK(config.max_position == 512);
  CHECK_FALSE(config.tie_embeddings);
  CHECK(config.bos_id == 1);
  CHECK(config.eos_ids == std::vector<int32_t>{2, 5});
  CHECK(config.generation.temperature == 0.5f);
  CHECK(config.generation.top_p == -1);
  const TensorInfo* info = (*opened)->Find("model.layers.1.mlp.down_proj.weight");
  REQUIRE(info != nullptr);
  CHECK(info->shape == std::vector<int64_t>{64, 96});
  CHECK((*opened)->Find("blk.1.ffn_down.weight") == nullptr);
}

TEST_CASE("q and k rows come back in Hugging Face's order") {
  const tests::SmallModel model = tests::MakeSmallModel("llama", 7);
  auto opened = Open(tests::ToGguf(model, false).Finish());
  REQUIRE(opened.ok());
  for (const tests::NamedTensor& tensor : model.tensors) {
    INFO(tensor.name);
    const TensorInfo* info = (*opened)->Find(tensor.name);
    REQUIRE(info != nullptr);
    std::vector<float> values(tensor.values.size());
    REQUIRE(info->bytes == static_cast<int64_t>(values.size() * sizeof(float)));
    REQUIRE((*opened)->Read(*info, reinterpret_cast<std::byte*>(values.data())).ok());
    CHECK(values == tensor.values);
  }
}

TEST_CASE("row 84: a GGUF file cut anywhere in its header") {
  const GgufWriter writer = Small();
  const Bytes whole = writer.Finish();
  for (size_t length = 0; length < writer.header_bytes(); ++length) {
    INFO("length " << length);
    auto opened = Open(whole.substr(0, length));
    REQUIRE_FALSE(opened.ok());
  }
  Mentions(ErrorOf(whole.substr(0, whole.size() - 1)), "end past");
}

TEST_CASE("row 85: magic and version") {
  const Bytes whole = Small().Finish();
  Bytes bytes = whole;
  bytes[0] = 'g';
  Mentions(ErrorOf(bytes), "magic");
  for (uint32_t version : {0u, 1u, 4u, 99u}) {
    bytes = whole;
    Poke(&bytes, 4, version);
    Mentions(ErrorOf(bytes), "version");
  }
  bytes = whole;
  Poke(&bytes, 4, uint32_t{0x03000000});
  Mentions(ErrorOf(bytes), "big-endian");
}

TEST_CASE("row 86: counts that cannot be") {
  const Bytes whole = Small().Finish();
  for (uint64_t count : {uint64_t{1} << 63, ~uint64_t{0}, uint64_t{1} << 40}) {
    Bytes bytes = whole;
    Poke(&bytes, 8, count);
    Mentions(ErrorOf(bytes), "tensor count");
    bytes = whole;
    Poke(&bytes, 16, count);
    Mentions(ErrorOf(bytes), "metadata count");
  }
  Bytes bytes = whole;
  Poke(&bytes, ValueAt(whole, "general.name") + 4, uint64_t{1} << 60);
  Mentions(ErrorOf(bytes), "general.name");
  GgufWriter writer = Small();
  writer.Int32s("some.list", {1, 2, 3});
  bytes = writer.Finish();
  Poke(&bytes, ValueAt(bytes, "some.list") + 8, uint64_t{1} << 60);
  Mentions(ErrorOf(bytes), "some.list");
  bytes = writer.Finish();
  Poke(&bytes, ValueAt(bytes, "some.list") + 4, uint32_t{9});
  Mentions(ErrorOf(bytes), "nested");
  Poke(&bytes, ValueAt(bytes, "some.list") + 4, uint32_t{8});
  Poke(&bytes, ValueAt(bytes, "some.list") + 8, uint64_t{1} << 28);
  Mentions(ErrorOf(bytes), "some.list");
  Poke(&bytes, ValueAt(bytes, "some.list"), uint32_t{13});
  Mentions(ErrorOf(bytes), "unknown value type");
}

TEST_CASE("row 87: tensor dimensions and types") {
  const GgufWriter sound = Small();
  const Bytes whole = sound.Finish();
  // name, dims count (4), dims (8 each), type (4), offset (8)
  const size_t at = whole.find("blk.0.ffn_down.weight") + std::strlen("blk.0.ffn_down.weight");
  const auto with = [&](size_t offset, auto value) {
    Bytes bytes = whole;
    Poke(&bytes, at + offset, value);
    return ErrorOf(bytes);
  };
  Mentions(with(0, uint32_t{5}), "dimensions");
  Mentions(with(0, uint32_t{0}), "dimensions");
  Mentions(with(4, uint64_t{0}), "blk.0.ffn_down.weight");
  Mentions(with(4, uint64_t{1} << 63), "too large");
  Mentions(with(4, uint64_t{1} << 62), "too large");
  Mentions(with(4, uint64_t{1} << 56), "blk.0.ffn_down.weight");
  Mentions(with(20, uint32_t{0xffffffff}), "unknown tensor type");
  Mentions(with(20, uint32_t{999}), "unknown tensor type");
  Mentions(with(20, uint32_t{23}), "IQ4_XS");
  Mentions(with(20, uint32_t{12}), "whole blocks");
  Mentions(with(24, uint64_t{8}), "alignment");
  Mentions(with(24, uint64_t{0}), "overlaps");
  Mentions(with(24, ~uint64_t{31}), "end past");
}

TEST_CASE("row 88: alignment") {
  for (uint32_t alignment : {0u, 3u, 48u, 0x80000000u}) {
    GgufWriter writer = Small();
    writer.Uint32("general.alignment", alignment);
    Mentions(ErrorOf(writer.Finish()), "general.alignment");
  }
  GgufWriter writer = Small();
  writer.String("general.alignment", "32");
  Mentions(ErrorOf(writer.Finish()), "general.alignment");
  GgufWriter sound = Small();
  sound.alignment = 256;
  sound.Uint32("general.alignment", 256);
  CHECK(Open(sound.Finish()).ok());
}

TEST_CASE("row 89: hyperparameters of the wrong type or size") {
  const auto with_uint = [](const std::string& key, uint32_t value) {
    Bytes bytes = Small().Finish();
    Poke(&bytes, ValueAt(bytes, key) + 4, value);
    Mentions(ErrorOf(bytes), key);
  };
  with_uint("llama.block_count", 0);
  with_uint("llama.block_count", 4000000000u);
  with_uint("llama.context_length", 0);
  with_uint("llama.embedding_length", 0);
  with_uint("llama.attention.head_count", 0);
  with_uint("llama.attention.head_count_kv", 0);
  with_uint("llama.attention.head_count_kv", 5);
  with_uint("llama.attention.key_length", 0);
  for (const char* key :
       {"llama.block_count", "llama.context_length", "llama.attention.head_count"}) {
    Bytes bytes = Small().Finish();
    Poke(&bytes, ValueAt(bytes, key), uint32_t{6});  // the same four bytes as a float
    Mentions(ErrorOf(bytes), key);
  }
  Bytes bytes = Small().Finish();
  Poke(&bytes, ValueAt(bytes, "llama.attention.head_count_kv") + 4, uint32_t{3});
  Mentions(ErrorOf(bytes), "divide");
  bytes = Small().Finish();
  Poke(&bytes, ValueAt(bytes, "llama.attention.layer_norm_rms_epsilon") + 4, uint32_t{0x7fc00000});
  Mentions(ErrorOf(bytes), "finite");
  bytes = Small().Finish();
  Poke(&bytes, ValueAt(bytes, "llama.rope.freq_base") + 4, 0.0f);
  Mentions(ErrorOf(bytes), "rope");
}

TEST_CASE("row 90: twice, missing, extra") {
  GgufWriter twice = Small();
  twice.Uint32("llama.block_count", 2);
  Mentions(ErrorOf(twice.Finish()), "occurs twice");
  const tests::SmallModel model = tests::MakeSmallModel("llama", 1);
  GgufWriter doubled = Small();
  doubled.Tensor("output_norm.weight", {64}, 0, Bytes(256, '\0'));
  Mentions(ErrorOf(doubled.Finish()), "occurs twice");
  for (const char* key :
       {"llama.block_count", "general.architecture", "llama.attention.layer_norm_rms_epsilon"}) {
    Bytes bytes = Small().Finish();
    bytes[bytes.find(key)] = 'x';
    Mentions(ErrorOf(bytes), key + 1);
  }
  Bytes bytes = Small().Finish();
  bytes[bytes.find("blk.1.attn_v.weight")] = 'x';
  Mentions(ErrorOf(bytes), "model.layers.1.self_attn.v_proj.weight");
  GgufWriter extra = Small();
  extra.Tensor("some.other", {64}, 0, Bytes(256, '\0'));
  CHECK(Open(extra.Finish()).ok());
}

TEST_CASE("row 91: token ids outside the vocabulary") {
  for (const char* key : {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                          "tokenizer.ggml.padding_token_id", "tokenizer.ggml.eot_token_id"}) {
    for (uint32_t id : {96u, 0xffffffffu}) {
      GgufWriter writer = Small();
      writer.Uint32(key, id);
      Mentions(ErrorOf(writer.Finish()), key);
    }
  }
  GgufWriter writer = Small();
  writer.Strings("tokenizer.ggml.tokens", std::vector<std::string>(97, "t"));
  Mentions(ErrorOf(writer.Finish()), "tokenizer.ggml.tokens");
}

TEST_CASE("what is not served is named") {
  GgufWriter writer;
  writer.String("general.architecture", "mamba");
  Mentions(ErrorOf(writer.Finish()), "mamba");
  GgufWriter experts = Small();
  experts.Uint32("llama.expert_count", 8);
  Mentions(ErrorOf(experts.Finish()), "experts");
  GgufWriter split = Small();
  split.Uint32("split.count", 3);
  Mentions(ErrorOf(split.Finish()), "parts");
  GgufWriter rope = Small();
  rope.String("llama.rope.scaling.type", "longrope");
  Mentions(ErrorOf(rope.Finish()), "longrope");
}

TEST_CASE("llama3's frequency factors divide the frequencies") {
  GgufWriter writer = Small();
  Bytes factors;
  for (int i = 0; i < 8; ++i) Append(&factors, static_cast<float>(i + 1));
  writer.Tensor("rope_freqs.weight", {8}, 0, factors);
  auto opened = Open(writer.Finish());
  INFO(opened.status().ToString());
  REQUIRE(opened.ok());
  for (size_t i = 0; i < 8; ++i) {
    CHECK(
        (*opened)->config().rope.inv_freq[i] ==
        Approx(std::pow(10000.0, -2.0 * static_cast<double>(i) / 16) / static_cast<double>(i + 1)));
  }
  GgufWriter wrong = Small();
  wrong.Tensor("rope_freqs.weight", {4}, 0, factors.substr(0, 16));
  Mentions(ErrorOf(wrong.Finish()), "rope_freqs");
}

TEST_CASE("row 95: a file that shrinks after it was opened is an error, not a signal") {
  const tests::TempFolder folder;
  folder.Write("small.gguf", Small().Finish());
  auto opened = OpenCheckpoint(folder.Path("small.gguf"));
  REQUIRE(opened.ok());
  std::filesystem::resize_file(folder.Path("small.gguf"), 4096);
  const TensorInfo* info = (*opened)->Find("lm_head.weight");
  std::vector<std::byte> bytes(static_cast<size_t>(info->bytes));
  CHECK((*opened)->Read(*info, bytes.data()).code() == absl::StatusCode::kDataLoss);
}

TEST_CASE("the tokenizer's material comes as the file has it") {
  GgufWriter writer;  // no weights, no architecture: a tokenizer file
  writer.String("tokenizer.ggml.model", "gpt2");
  writer.String("tokenizer.ggml.pre", "smollm");
  writer.Strings("tokenizer.ggml.tokens", {"a", "", "\xc4\xa0x"});
  writer.Strings("tokenizer.ggml.merges", {"a b"});
  writer.Floats("tokenizer.ggml.scores", {0, -1, -2.5f});
  writer.Int32s("tokenizer.ggml.token_type", {1, 3, 1});
  writer.Uint32("tokenizer.ggml.unknown_token_id", 2);
  writer.Bool("tokenizer.ggml.add_bos_token", false);
  writer.String("tokenizer.chat_template", "{{ x }}");
  const tests::TempFolder folder;
  folder.Write("t.gguf", writer.Finish());
  for (const std::string& path : {folder.Path("t.gguf"), folder.Path()}) {
    auto files = ReadTokenizerFiles(path);
    INFO(files.status().ToString());
    REQUIRE(files.ok());
    CHECK(files->from_gguf);
    CHECK(files->model == "gpt2");
    CHECK(files->pre == "smollm");
    CHECK(files->tokens == std::vector<std::string>{"a", "", "\xc4\xa0x"});
    CHECK(files->merges == std::vector<std::string>{"a b"});
    CHECK(files->scores == std::vector<float>{0, -1, -2.5f});
    CHECK(files->token_types == std::vector<int32_t>{1, 3, 1});
    CHECK(files->unk_id == 2);
    CHECK(files->bos_id == -1);
    CHECK(files->add_bos == std::optional<bool>(false));
    CHECK_FALSE(files->add_eos.has_value());
    CHECK(files->chat_template == "{{ x }}");
  }
  writer.Floats("tokenizer.ggml.scores2", {0});
  GgufWriter uneven;
  uneven.Strings("tokenizer.ggml.tokens", {"a", "b"});
  uneven.Floats("tokenizer.ggml.scores", {0});
  CHECK_FALSE(ReadGgufTokenizer(tests::MemoryFile(uneven.Finish(), "t.gguf")).ok());
}

TEST_CASE("a model in several files is the model in one") {
  const tests::SmallModel model = tests::MakeSmallModel("llama", 41);
  tests::TempFolder folder;
  const Bytes whole = tests::ToGguf(model, false).Finish();
  folder.Write("whole.gguf", whole);
  const auto name = [](int i, int count = 3) {
    return "parts/small-0000" + std::to_string(i) + "-of-0000" + std::to_string(count) + ".gguf";
  };
  const auto write = [&](uint32_t count, uint32_t total, uint32_t shift) {
    std::vector<GgufWriter> parts = tests::ToGgufParts(model, 3);
    for (uint32_t i = 0; i < 3; ++i) {
      parts[i].Uint32("split.no", (i + shift) % 3);
      parts[i].Uint32("split.count", count);
      parts[i].Uint32("split.tensors.count", total);
      folder.Write(name(static_cast<int>(i) + 1), parts[i].Finish());
    }
  };
  const auto total = static_cast<uint32_t>(model.tensors.size());
  write(3, total, 0);
  auto one = OpenCheckpoint(folder.Path("whole.gguf"));
  REQUIRE(one.ok());
  // By any of its names, and by the folder's.
  for (const std::string& path :
       {folder.Path(name(1)), folder.Path(name(3)), folder.Path("parts")}) {
    auto split = OpenCheckpoint(path);
    INFO(split.status().ToString());
    REQUIRE(split.ok());
    REQUIRE((*split)->tensors().size() == (*one)->tensors().size());
    for (const TensorInfo& info : (*one)->tensors()) {
      const TensorInfo* other = (*split)->Find(info.name);
      REQUIRE(other != nullptr);
      std::vector<std::byte> a(static_cast<size_t>(info.bytes)), b(a.size());
      REQUIRE(other->bytes == info.bytes);
      REQUIRE((*one)->Read(info, a.data()).ok());
      REQUIRE((*split)->Read(*other, b.data()).ok());
      CHECK(a == b);
    }
    CHECK(ReadTokenizerFiles(path)->tokens == (*one)->tokenizer_files().tokens);
  }
  const auto error = [&] {
    auto opened = OpenCheckpoint(folder.Path(name(1)));
    REQUIRE_FALSE(opened.ok());
    return std::string(opened.status().message());
  };
  write(2, total, 0);
  Mentions(error(), "split.count");
  write(3, total + 1, 0);
  Mentions(error(), "split.tensors.count");
  write(3, total, 1);
  Mentions(error(), "split.no");
  write(3, total, 0);
  std::filesystem::remove(folder.Path(name(2)));
  CHECK_FALSE(OpenCheckpoint(folder.Path(name(1))).ok());
  CHECK_FALSE(OpenCheckpoint(folder.Path(name(3))).ok());
  // A name that only looks like a part's.
  CHECK(*GgufParts("x-00001-of-00001.gguf") == std::vector<std::string>{"x-00001-of-00001.gguf"});
  CHECK(GgufParts("x-00003-of-00002.gguf")->size() == 1);
  CHECK(GgufParts("x-0000a-of-00002.gguf")->size() == 1);
  CHECK(GgufParts("-00001-of-00002.gguf")->size() == 1);
  CHECK(GgufParts("x-00001-of-00002.GGUF")->size() == 1);
  CHECK_FALSE(GgufParts("x-00001-of-99999.gguf").ok());
}

}  // namespace
}  // namespace modu::engine
