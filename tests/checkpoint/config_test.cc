// config.json in both spellings, RoPE scaling against the papers' formulas written a second time,
// refusals by name, and the chat template's many homes.
#include <cmath>
#include <string>

#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/hf_config.h"
#include "engine/checkpoint/rope_scaling.h"
#include "engine/checkpoint/tokenizer_material.h"
#include "tests/catch.h"
#include "tests/checkpoint/model_writers.h"
#include "tests/shared_data.h"

namespace modu::engine {
namespace {

/// A config with extra fields in front; later duplicates lose nothing here because each field is
/// named once.
std::string Config(const std::string& extra, const std::string& type = "llama") {
  return "{" + extra + (extra.empty() ? "" : ",") + "\"model_type\":\"" + type +
         "\",\"hidden_size\":64,\"intermediate_size\":128,\"num_hidden_layers\":4,\"num_attention_"
         "heads\":4,"
         "\"vocab_size\":512,\"max_position_embeddings\":4096}";
}

ModelConfig Read(const std::string& config, const std::string& generation = "") {
  auto read = ConfigFromJson(config, generation);
  INFO(read.status().ToString());
  REQUIRE(read.ok());
  return *std::move(read);
}

void Refused(const std::string& config, const std::string& what,
             const std::string& generation = "") {
  auto read = ConfigFromJson(config, generation);
  INFO(config);
  REQUIRE_FALSE(read.ok());
  INFO(read.status().ToString());
  CHECK(std::string(read.status().message()).find(what) != std::string::npos);
}

TEST_CASE("defaults of what a config leaves out") {
  const ModelConfig c = Read(Config(""));
  CHECK(c.num_kv_heads == 4);
  CHECK(c.head_dim == 16);
  CHECK(c.rope.rotary_dim == 16);
  CHECK(c.rope.theta == 10000.0f);
  CHECK(c.norm_eps == 1e-6f);
  CHECK_FALSE(c.tie_embeddings);
  CHECK(c.sliding_window == 0);
  CHECK(c.eos_ids.empty());
  CHECK(c.bos_id == -1);
}

TEST_CASE("families differ where they should") {
  CHECK(Read(Config("", "qwen2")).qkv_bias);
  CHECK_FALSE(Read(Config("", "qwen2")).output_bias);
  CHECK(Read(Config("", "qwen3")).qk_norm);
  CHECK_FALSE(Read(Config("", "qwen3")).qkv_bias);
  CHECK(Read(Config("\"attention_bias\":true")).qkv_bias);
  CHECK(Read(Config("\"attention_bias\":true")).output_bias);
  CHECK(Read(Config("\"sliding_window\":16", "mistral")).sliding_window == 16);
  CHECK(Read(Config("\"sliding_window\":null", "mistral")).sliding_window == 0);
  CHECK(
      Read(Config("\"sliding_window\":16,\"use_sliding_window\":false", "qwen2")).sliding_window ==
      0);
  CHECK(Read(Config("\"sliding_window\":16,\"use_sliding_window\":true,\"max_window_layers\":0",
                    "qwen2"))
            .sliding_window == 16);
  CHECK(Read(Config("\"sliding_window\":16,\"use_sliding_window\":true,\"max_window_layers\":28",
                    "qwen2"))
            .sliding_window == 0);
  const ModelConfig late = Read(
      Config("\"sliding_window\":16,\"use_sliding_window\":true,\"max_window_layers\":1", "qwen2"));
  CHECK(late.sliding_window == 0);
  CHECK(late.layer_windows == std::vector<int32_t>{0, 16, 16, 16});
  const auto kinds = [](const std::string& first, const std::string& others) {
    return "\"sliding_window\":16,\"layer_types\":[\"" + first + "\",\"" + others + "\",\"" +
           others + "\",\"" + others + "\"]";
  };
  const std::string sliding = "sliding_attention", full = "full_attention";
  const ModelConfig named = Read(Config(kinds(sliding, full), "qwen3"));
  CHECK(named.layer_windows == std::vector<int32_t>{16, 0, 0, 0});
  CHECK(named.window(0) == 16);
  CHECK(named.window(1) == 0);
  CHECK(Read(Config(kinds(sliding, sliding), "mistral")).sliding_window == 16);
  CHECK(Read(Config(kinds(full, full), "qwen3")).sliding_window == 0);
  CHECK(Read(Config("\"use_sliding_window\":false," + kinds(sliding, full), "qwen3"))
            .layer_windows.empty());
  Refused(Config(kinds(full, "linear_attention"), "qwen3"), "layer_types");
  CHECK(Read(Config("\"mlp_bias\":true")).mlp_bias);
  CHECK_FALSE(Read(Config("\"mlp_bias\":true", "qwen2")).mlp_bias);
  Refused(Config("\"sliding_window\":16,\"layer_types\":[\"full_attention\"]", "qwen3"),
          "layer_types");
}

TEST_CASE("both spellings of RoPE give the same frequencies") {
  const std::string scaling =
      "\"factor\":8.0,\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,\"original_max_position_"
      "embeddings\":64";
  const ModelConfig now = Read(Config(
      "\"rope_parameters\":{\"rope_type\":\"llama3\",\"rope_theta\":500000.0," + scaling + "}"));
  const ModelConfig before = Read(Config(
      "\"rope_theta\":500000.0,\"rope_scaling\":{\"rope_type\":\"llama3\"," + scaling + "}"));
  const ModelConfig oldest = Read(
      Config("\"rope_theta\":500000.0,\"rope_scaling\":{\"type\":\"llama3\"," + scaling + "}"));
  CHECK(now.rope.inv_freq == before.rope.inv_freq);
  CHECK(now.rope.inv_freq == oldest.rope.inv_freq);
  CHECK(now.rope.inv_freq != Read(Config("\"rope_theta\":500000.0")).rope.inv_freq);
  CHECK(Read(Config("\"partial_rotary_factor\":0.5")).rope.rotary_dim == 8);
  CHECK(Read(Config("\"rope_parameters\":{\"partial_rotary_factor\":0.25}")).rope.rotary_dim == 4);
}

TEST_CASE("linear and dynamic") {
  const ModelConfig plain = Read(Config(""));
  const ModelConfig linear = Read(Config("\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}"));
  for (size_t i = 0; i < plain.rope.inv_freq.size(); ++i) {
    CHECK(plain.rope.inv_freq[i] == Approx(std::pow(10000.0, -static_cast<double>(i) / 8)));
    CHECK(linear.rope.inv_freq[i] == Approx(plain.rope.inv_freq[i] / 4));
  }
  CHECK(Read(Config("\"rope_scaling\":{\"type\":\"dynamic\",\"factor\":4}")).rope.inv_freq ==
        plain.rope.inv_freq);
}

TEST_CASE("llama3: three bands by wavelength") {
  RopeConfig rope;
  rope.theta = 500000.0f;
  rope.rotary_dim = 128;
  RopeScaling scaling;
  scaling.type = "llama3";
  scaling.factor = 8;
  scaling.original_max_position = 8192;
  REQUIRE(ApplyRopeScaling(scaling, &rope).ok());
  int kept = 0, divided = 0, between = 0;
  for (size_t i = 0; i < 64; ++i) {
    const double f = std::pow(500000.0, -static_cast<double>(i) / 64),
                 turns = 8192 * f / (2 * M_PI);
    if (turns > 4) {
      CHECK(rope.inv_freq[i] == Approx(f));
      ++kept;
    } else if (turns < 1) {
      CHECK(rope.inv_freq[i] == Approx(f / 8));
      ++divided;
    } else {
      const double smooth = (turns - 1) / 3;
      CHECK(rope.inv_freq[i] == Approx(f / 8 * (1 - smooth) + f * smooth));
      ++between;
    }
  }
  CHECK(kept > 0);
  CHECK(divided > 0);
  CHECK(between > 0);
}

TEST_CASE("yarn: a ramp between two dimensions, and a magnitude") {
  const ModelConfig c = Read(
      Config("\"head_dim\":128,\"rope_theta\":1000000.0,\"rope_scaling\":{\"rope_type\":\"yarn\","
             "\"factor\":4.0,\"original_max_position_embeddings\":32768}",
             "qwen2"));
  CHECK(c.max_position == 131072);
  CHECK(c.rope.attention_scale == Approx(0.1 * std::log(4.0) + 1));
  // beta_fast 32 and beta_slow 1 turns within 32768 tokens; by hand: dims 23.58 -> 23 and 39.64
  // -> 40.
  const auto dim = [](double turns) {
    return 128 * std::log(32768 / (turns * 2 * M_PI)) / (2 * std::log(1e6));
  };
  CHECK(dim(32) == Approx(23.58).margin(0.05));
  CHECK(dim(1) == Approx(39.64).margin(0.05));
  for (size_t i = 0; i < 64; ++i) {
    const double f = std::pow(1e6, -static_cast<double>(i) / 64);
    const double ramp = i <= 23 ? 0 : i >= 40 ? 1 : (static_cast<double>(i) - 23) / 17;
    CHECK(c.rope.inv_freq[i] == Approx(f * (1 - ramp) + f / 4 * ramp));
  }
  const auto magnitude = [](const std::string& extra) {
    return Read(Config("\"rope_scaling\":{\"type\":\"yarn\",\"factor\":40,\"original_max_position_"
                       "embeddings\":4096," +
                       extra + "}"))
        .rope.attention_scale;
  };
  CHECK(magnitude("\"attention_factor\":1.25") == 1.25f);
  CHECK(magnitude("\"mscale\":0.707,\"mscale_all_dim\":1.0") ==
        Approx((0.1 * 0.707 * std::log(40.0) + 1) / (0.1 * std::log(40.0) + 1)));
}

TEST_CASE("eos ids are the union of both files") {
  const ModelConfig c = Read(
      Config("\"eos_token_id\":7,\"bos_token_id\":1,\"pad_token_id\":-1"),
      "{\"eos_token_id\":[5,7,9],\"top_p\":0.8,\"repetition_penalty\":1.05,\"max_new_tokens\":99}");
  CHECK(c.eos_ids == std::vector<int32_t>{5, 7, 9});
  CHECK(c.bos_id == 1);
  CHECK(c.pad_id == -1);
  CHECK(c.generation.top_p == 0.8f);
  CHECK(c.generation.repetition_penalty == 1.05f);
  CHECK(c.generation.max_new_tokens == 99);
  Refused(Config("\"eos_token_id\":-2"), "eos_token_id");
  Refused(Config("\"eos_token_id\":\"x\""), "eos_token_id");
  Refused(Config(""), "temperature", "{\"temperature\":-1}");
  Refused(Config(""), "top_p", "{\"top_p\":1.5}");
  Refused(Config(""), "generation_config.json", "[1]");
}

TEST_CASE("refusals name file and field") {
  Refused("", "config.json");
  Refused("[]", "config.json");
  Refused("{\"a\":" + std::string(5000, '[') + std::string(5000, ']') + "}", "deeper");
  Refused("{}", "model_type");
  Refused(Config("", "mamba"), "mamba");
  Refused(Config("\"hidden_act\":\"gelu\""), "hidden_act");
  Refused(Config("\"tie_word_embeddings\":1"), "tie_word_embeddings");
  Refused(Config("\"head_dim\":0"), "head_dim");
  Refused(Config("\"num_key_value_heads\":5"), "num_key_value_heads");
  Refused(Config("\"num_key_value_heads\":2.5"), "num_key_value_heads");
  Refused(Config("\"rms_norm_eps\":\"x\""), "rms_norm_eps");
  Refused(Config("\"rope_scaling\":{\"type\":\"longrope\",\"factor\":2}"), "longrope");
  Refused(Config("\"rope_scaling\":{\"type\":\"linear\"}"), "factor");
  Refused(Config("\"rope_scaling\":{\"type\":\"linear\",\"factor\":0}"), "factor");
  Refused(Config("\"rope_theta\":0"), "rope_theta");
  Refused(Config("\"rope_scaling\":[1]"), "rope_parameters");
  std::string no_layers = Config("");
  no_layers.replace(no_layers.find("num_hidden_layers"), 17, "num_hidden_layerz");
  Refused(no_layers, "num_hidden_layers");
  for (const char* size : {"0", "-1", "1e9", "99999999999999999999", "null"}) {
    std::string config = Config("");
    config.replace(config.find("\"hidden_size\":64") + 14, 2, size);
    Refused(config, "hidden_size");
  }
}

TEST_CASE("a NUL ends no file of JSON") {
  const std::string nul(1, '\0');
  for (const std::string& rest : {nul, nul + "x", nul + "{}", "\n" + nul}) {
    Refused(Config("") + rest, "config.json");
    Refused(Config(""), "generation_config.json", "{}" + rest);
    CHECK_FALSE(CountTokenizerIds("{}" + rest).ok());
  }
  CHECK(CountTokenizerIds("{}\n").ok());
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json"}) {
    // Even where the template is elsewhere, so that nothing of the file seems to be needed.
    const tests::TempFolder folder;
    folder.Write("chat_template.jinja", "x");
    folder.Write(name, "{}");
    CHECK(ReadTokenizerFiles(folder.Path()).ok());
    folder.Write(name, "{}" + nul);
    const auto files = ReadTokenizerFiles(folder.Path());
    REQUIRE_FALSE(files.ok());
    CHECK(std::string(files.status().message()).find(name) == 0);
  }
}

TEST_CASE("quantised checkpoints: FP8 with tensor or channel scales, the rest by name") {
  const auto with = [](const std::string& quantization) {
    return Config("\"quantization_config\":" + quantization);
  };
  const auto group = [](const std::string& weights) {
    return "{\"quant_method\":\"compressed-tensors\",\"format\":\"float-quantized\",\"config_"
           "groups\":{\"group_0\":{\"weights\":" +
           weights + "}}}";
  };
  Read(with(group("{\"num_bits\":8,\"type\":\"float\",\"strategy\":\"channel\"}")));
  Read(with(group("{\"num_bits\":8,\"type\":\"float\",\"strategy\":\"tensor\"}")));
  Refused(with(group("{\"num_bits\":8,\"type\":\"float\",\"strategy\":\"block\"}")), "block");
  Refused(with(group("{\"num_bits\":4,\"type\":\"int\",\"strategy\":\"group\"}")), "4-bit");
  Read(with("{\"quant_method\":\"fp8\"}"));
  Refused(with("{\"quant_method\":\"fp8\",\"weight_block_size\":[128,128]}"), "weight_block_size");
  Refused(with("{\"quant_method\":\"awq\",\"bits\":4}"), "awq");
  Refused(with("{\"quant_method\":\"gptq\"}"), "gptq");
  Read(with("{\"quant_method\":\"modelopt\",\"quant_algo\":\"FP8\"}"));
  Refused(with("{\"quant_method\":\"modelopt\",\"quant_algo\":\"NVFP4\"}"), "NVFP4");
}

TEST_CASE("real configs are read or refused by name") {
  const auto root = tests::SharedData("models");
  if (!tests::HaveSharedData(root)) return;
  int read = 0, refused = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(root)) {
    if (entry.path().filename() != "config.json") continue;
    auto config = ConfigFromJson(tests::ReadWholeFile(entry.path()), "");
    INFO(entry.path().string() << ": " << config.status().ToString());
    if (config.ok()) {
      ++read;
      CHECK(config->hidden_size > 0);
    } else {
      ++refused;
      CHECK(config.status().code() == absl::StatusCode::kUnimplemented);
    }
  }
  CHECK(read >= 3);
  CHECK(refused >= 1);
}

TEST_CASE("the chat template's homes, in their order") {
  const tests::TempFolder folder;
  const auto chat_template = [&] {
    auto files = ReadTokenizerFiles(folder.Path());
    INFO(files.status().ToString());
    REQUIRE(files.ok());
    return files->chat_template;
  };
  CHECK(chat_template().empty());
  folder.Write("chat_template.json", "{\"chat_template\":\"legacy\"}");
  CHECK(chat_template() == "legacy");
  folder.Write("tokenizer_config.json", "{\"chat_template\":null}");
  CHECK(chat_template() == "legacy");
  folder.Write("tokenizer_config.json",
               "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"tools\"},{\"name\":"
               "\"default\",\"template\":\"plain\"}]}");
  CHECK(chat_template() == "plain");
  folder.Write("tokenizer_config.json",
               "{\"chat_template\":[{\"name\":\"rag\",\"template\":\"first\"}]}");
  CHECK(chat_template() == "first");
  folder.Write("tokenizer_config.json", "{\"chat_template\":\"string\"}");
  CHECK(chat_template() == "string");
  folder.Write("chat_template.jinja", "{{ jinja }}");
  CHECK(chat_template() == "{{ jinja }}");
  std::filesystem::remove(folder.Path("chat_template.jinja"));
  folder.Write("tokenizer_config.json", "{\"chat_template\":[{\"name\":1}]}");
  CHECK_FALSE(ReadTokenizerFiles(folder.Path()).ok());
  folder.Write("tokenizer_config.json", "{\"chat_template\":" + std::string(100000, '['));
  CHECK_FALSE(ReadTokenizerFiles(folder.Path()).ok());
}

TEST_CASE("a tokenizer.json alone, and how many ids it has") {
  const tests::TempFolder folder;
  const std::string bpe =
      "{\"added_tokens\":[{\"id\":9,\"content\":\"<x>\",\"special\":true}],\"post_processor\":{"
      "\"ids\":[400]},"
      "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":7},\"merges\":[[\"a\",\"b\"]],"
      "\"other\":{\"id\":500}}}";
  folder.Write("tokenizer.json", bpe);
  for (const std::string& path : {folder.Path("tokenizer.json"), folder.Path()}) {
    auto files = ReadTokenizerFiles(path);
    REQUIRE(files.ok());
    CHECK_FALSE(files->from_gguf);
    CHECK(files->tokenizer_json == bpe);
  }
  CHECK(*CountTokenizerIds(bpe) == 10);
  CHECK(*CountTokenizerIds("") == 0);
  CHECK(*CountTokenizerIds("{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"<unk>\",0.0],[\"a\",-1."
                           "5],[\"b\",-2]]}}") == 3);
  CHECK_FALSE(CountTokenizerIds("{\"model\":{\"vocab\":{\"a\":99999999}}}").ok());
  CHECK_FALSE(CountTokenizerIds("{\"model\":").ok());
  CHECK_FALSE(CountTokenizerIds(std::string(100000, '[')).ok());
  CHECK_FALSE(CountTokenizerIds("{\"model\":{\"vocab\":{\"a\":18446744073709551615}}}").ok());
}

}  // namespace
}  // namespace modu::engine
