// A model folder's untrusted bytes: the safetensors header, and config.json, generation_config.json
// and tokenizer.json as the same bytes.
#include "engine/checkpoint/hf_config.h"
#include "engine/checkpoint/safetensors_reader.h"
#include "engine/checkpoint/tokenizer_material.h"
#include "kernels/check.h"
#include "tests/checkpoint/model_writers.h"
#include "tests/fuzz/fuzz.h"

using namespace modu;  // NOLINT: one file, one target

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  auto entries = engine::ReadSafetensorsHeader(tests::MemoryFile(bytes, "fuzz.safetensors"));
  if (entries.ok()) {
    uint64_t total = 0;
    for (const engine::SafetensorsEntry& entry : *entries) {
      MODU_CHECK(entry.offset <= size && entry.bytes <= size - entry.offset);
      total += entry.bytes;
    }
    MODU_CHECK(total < size);
  }
  (void)engine::ConfigFromJson(bytes, bytes);
  (void)engine::CountTokenizerIds(bytes);
  return 0;
}

namespace {
/// Small enough that many thousand runs a second are possible.
tests::SmallModel Tiny(const char* architecture) {
  tests::SmallModel sizes;
  sizes.hidden = sizes.ffn = 32;
  sizes.layers = sizes.kv_heads = 1;
  sizes.heads = 2;
  sizes.vocab = 4;
  return tests::MakeSmallModel(architecture, 1, sizes);
}
}  // namespace

std::vector<std::string> FuzzSeeds() {
  const tests::SmallModel model = Tiny("qwen3");
  return {tests::ToSafetensors(tests::F32Parts(model)),
          tests::ToSafetensors({{"a", "F8_E4M3", {2, 2}, "abcd"}, {"a_scale", "F32", {}, "abcd"}}),
          tests::ConfigJson(model),
          "{\"model_type\":\"llama\",\"hidden_size\":64,\"intermediate_size\":128,\"num_hidden_"
          "layers\":2,"
          "\"num_attention_heads\":4,\"vocab_size\":99,\"max_position_embeddings\":64,\"eos_token_"
          "id\":[1,2],"
          "\"rope_scaling\":{\"type\":\"yarn\",\"factor\":2.0},\"temperature\":0.5}",
          "{\"added_tokens\":[{\"id\":3}],\"model\":{\"vocab\":{\"a\":0,\"b\":1}}}"};
}
