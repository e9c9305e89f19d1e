// The GGUF reader: opens the bytes as a model and as a tokenizer, and reads every tensor of what
// opens.
#include "engine/checkpoint/gguf_checkpoint.h"
#include "kernels/check.h"
#include "tests/checkpoint/model_writers.h"
#include "tests/fuzz/fuzz.h"

using namespace modu;  // NOLINT: one file, one target

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  auto opened = engine::OpenGgufCheckpoint(tests::OneMemoryFile(bytes, "fuzz.gguf"));
  if (opened.ok()) {
    for (const engine::TensorInfo& info : (*opened)->tensors()) {
      // A tensor that the header promises lies in the file.
      MODU_CHECK(info.bytes >= 0 && static_cast<uint64_t>(info.bytes) <= size);
      std::vector<std::byte> out(static_cast<size_t>(info.bytes));
      MODU_CHECK((*opened)->Read(info, out.data()).ok());
    }
  } else {
    MODU_CHECK(!opened.status().message().empty());
  }
  (void)engine::ReadGgufTokenizer(tests::MemoryFile(bytes, "fuzz.gguf"));
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
  std::vector<std::string> seeds;
  for (const char* architecture : {"llama", "qwen2", "qwen3"}) {
    tests::GgufWriter writer = tests::ToGguf(Tiny(architecture), architecture[0] == 'l');
    writer.Strings("tokenizer.ggml.tokens", {"a", "b", "<s>"});
    writer.Strings("tokenizer.ggml.merges", {"a b"});
    writer.Floats("tokenizer.ggml.scores", {0, 1, 2});
    writer.Int32s("tokenizer.ggml.token_type", {1, 1, 3});
    writer.Uint32("tokenizer.ggml.eos_token_id", 2);
    writer.Bool("tokenizer.ggml.add_bos_token", true);
    writer.String("tokenizer.chat_template", "{{ messages }}");
    writer.Uint32("general.alignment", 32);
    seeds.push_back(writer.Finish());
  }
  return seeds;
}
