// Safetensors files and model folders, sound and broken (reliability rows 92, 93, 96).
#include <sys/stat.h>

#include <cstring>
#include <filesystem>
#include <string>

#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/safetensors_reader.h"
#include "tests/catch.h"
#include "tests/checkpoint/model_writers.h"

namespace modu::engine {
namespace {
namespace fs = std::filesystem;
using tests::Bytes;

std::string ErrorOf(const Bytes& bytes) {
  auto entries = ReadSafetensorsHeader(tests::MemoryFile(bytes, "m.safetensors"));
  REQUIRE_FALSE(entries.ok());
  const std::string message(entries.status().message());
  INFO(message);
  REQUIRE(message.find("m.safetensors") != std::string::npos);
  return message;
}

bool Mentions(const std::string& message, const std::string& what) {
  INFO(message);
  const bool found = message.find(what) != std::string::npos;
  CHECK(found);
  return found;
}

/// A file whose header claims `length` bytes.
Bytes WithLength(uint64_t length) {
  Bytes bytes = tests::RawSafetensors("{}", "");
  std::memcpy(bytes.data(), &length, sizeof(length));
  return bytes;
}

TEST_CASE("row 92: the header's length") {
  for (uint64_t length : {uint64_t{0}, uint64_t{1}, uint64_t{3}, uint64_t{1} << 63, ~uint64_t{0},
                          (uint64_t{100} << 20) + 1}) {
    Mentions(ErrorOf(WithLength(length)), "header length");
  }
  for (size_t length = 0; length < 8; ++length) ErrorOf(Bytes(length, '\0'));
  CHECK(ReadSafetensorsHeader(tests::MemoryFile(WithLength(2), "m")).ok());
}

TEST_CASE("row 92: a header past 100 MiB in a file that has it") {
  const tests::TempFolder folder;
  folder.Write("big.safetensors", WithLength((uint64_t{100} << 20) + 1));
  fs::resize_file(folder.Path("big.safetensors"), uint64_t{101} << 20);  // sparse
  auto file = InputFile::Open(folder.Path("big.safetensors"));
  REQUIRE(file.ok());
  auto entries = ReadSafetensorsHeader(*file);
  REQUIRE_FALSE(entries.ok());
  Mentions(std::string(entries.status().message()), "header length");
}

TEST_CASE("row 92: 100,000 tensors") {
  std::string header = "{";
  for (int i = 0; i < 100000; ++i) {
    const std::string n = std::to_string(i);
    header += (i == 0 ? "\"t" : ",\"t") + n +
              "\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[" + n + "," +
              std::to_string(i + 1) + "]}";
  }
  Mentions(ErrorOf(tests::RawSafetensors(header + "}", Bytes(100000, 'x'))), "tensors");
}

TEST_CASE("row 93: offsets and shapes") {
  const auto one = [](const std::string& dtype, const std::string& shape,
                      const std::string& offsets) {
    return "\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
  };
  const auto header = [&](const std::string& tensor) {
    return "{\"a\":{\"dtype\":" + tensor + "}";
  };
  const auto error = [&](const std::string& text, size_t data) {
    return ErrorOf(tests::RawSafetensors(text, Bytes(data, 'x')));
  };
  CHECK(
      ReadSafetensorsHeader(
          tests::MemoryFile(tests::RawSafetensors(header(one("F32", "[1]", "[0,4]")), "abcd"), "m"))
          .ok());
  CHECK(
      ReadSafetensorsHeader(
          tests::MemoryFile(tests::RawSafetensors(header(one("F32", "[]", "[0,4]")), "abcd"), "m"))
          .ok());
  Mentions(error(header(one("F32", "[1000000]", "[0,4]")), 4), "shape needs");
  Mentions(error(header(one("F32", "[1]", "[-4,0]")), 4), "negative");
  Mentions(error(header(one("F32", "[1]", "[4,0]")), 4), "reversed");
  Mentions(error(header(one("F32", "[1]", "[4,8]")), 8), "hole");
  Mentions(error(header(one("F32", "[1]", "[0,4]")), 8), "describes");
  Mentions(error(header(one("F32", "[1]", "[0,4]")), 3), "describes");
  Mentions(error(header(one("F32", "[1]", "[0.5,4]")), 4), "integer");
  Mentions(error(header(one("F32", "[1]", "[0,4,8]")), 4), "value");
  Mentions(error(header(one("F32", "[4294967296,4294967296]", "[0,4]")), 4), "too large");
  Mentions(error(header(one("F32", "[9223372036854775808]", "[0,4]")), 4), "too large");
  Mentions(error(header(one("F32", "[99999999999999999999999]", "[0,4]")), 4), "integer");
  Mentions(error(header(one("F32", "[-1]", "[0,4]")), 4), "negative");
  Mentions(error(header(one("F32", "[[1]]", "[0,4]")), 4), "value");
  Mentions(error(header(one("Q9", "[1]", "[0,4]")), 4), "dtype");
  Mentions(error("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4), "lacks");
  Mentions(error("{\"a\":5}", 0), "value");
  Mentions(error("{\"a\":{\"dtype\":{\"x\":1}}}", 0), "deep");
  Mentions(error("{\"a\":{\"dtype\":\"F32\"", 0), "JSON");
  Mentions(error("[]", 0), "JSON");
  Mentions(error("{} x", 0), "JSON");
  Mentions(error(std::string("{}\0 x", 5), 0), "JSON at offset 10");
  Mentions(error(std::string(100000, '['), 0), "JSON");
  Mentions(error("{\"a\":" + std::string(100000, '{'), 0), "JSON");
  const std::string tensor = "{\"dtype\":" + one("U8", "[2]", "[0,2]");
  Mentions(error("{\"a\":" + tensor + ",\"a\":" + tensor + "}", 2), "occurs twice");
  Mentions(error("{\"a\":" + tensor + ",\"b\":{\"dtype\":" + one("U8", "[2]", "[1,3]") + "}", 3),
           "overlaps");
  Mentions(error("{\"a\":" + tensor + ",\"b\":{\"dtype\":" + one("U8", "[2]", "[0,2]") + "}", 2),
           "overlaps");
}

TEST_CASE("row 93: the 75-byte file") {
  const std::string header =
      "{\"x\":{\"dtype\":\"F32\",\"shape\":[1000000],\"data_offsets\":[0,4]}}";
  const Bytes bytes = tests::RawSafetensors(header, "abcd");
  CHECK(bytes.size() < 80);
  Mentions(ErrorOf(bytes), "x");
}

tests::SmallModel Small() { return tests::MakeSmallModel("llama", 2); }

std::string OpenError(const tests::TempFolder& folder) {
  auto opened = OpenCheckpoint(folder.Path());
  REQUIRE_FALSE(opened.ok());
  const std::string message(opened.status().message());
  INFO(message);
  REQUIRE(message.find(folder.Path()) == std::string::npos);  // no paths in messages
  return message;
}

TEST_CASE("a sound folder opens, in one file or in shards, through links") {
  const tests::SmallModel model = Small();
  const auto parts = tests::F32Parts(model);
  const tests::TempFolder folder;
  const bool sharded = GENERATE(false, true);
  const bool links = GENERATE(false, true);
  // A hub cache: the snapshot holds links into blobs.
  const std::string snapshot = links ? "models--org--small/snapshots/abc/" : "";
  const auto put = [&](const std::string& name, const Bytes& content) {
    if (!links) return folder.Write(name, content);
    folder.Write("models--org--small/blobs/" + name, content);
    fs::create_directories(folder.Path(snapshot));
    fs::create_symlink("../../blobs/" + name, folder.Path(snapshot + name));
  };
  put("config.json", tests::ConfigJson(model));
  put("generation_config.json", "{\"eos_token_id\": [3, 2], \"temperature\": 0.6, \"top_k\": 20}");
  if (sharded) {
    const std::vector<tests::SafetensorsPart> first(parts.begin(), parts.begin() + 5),
        second(parts.begin() + 5, parts.end());
    std::string map;
    for (size_t i = 0; i < parts.size(); ++i) {
      map += (i == 0 ? "\"" : ",\"") + parts[i].name + "\":\"" +
             (i < 5 ? "model-00001-of-00002" : "model-00002-of-00002") + ".safetensors\"";
    }
    put("model.safetensors.index.json", "{\"metadata\":{},\"weight_map\":{" + map + "}}");
    put("model-00001-of-00002.safetensors", tests::ToSafetensors(first));
    put("model-00002-of-00002.safetensors", tests::ToSafetensors(second));
  } else {
    put("model.safetensors", tests::ToSafetensors(parts));
  }
  auto opened = OpenCheckpoint(folder.Path(snapshot));
  INFO(opened.status().ToString());
  REQUIRE(opened.ok());
  const ModelConfig& config = (*opened)->config();
  if (links) CHECK(config.name == "org/small");
  CHECK(config.eos_ids == std::vector<int32_t>{3, 2});
  CHECK(config.generation.temperature == 0.6f);
  CHECK(config.generation.top_k == 20);
  CHECK(config.generation.top_p == -1);
  REQUIRE((*opened)->tensors().size() == parts.size());
  for (const tests::NamedTensor& tensor : model.tensors) {
    const TensorInfo* info = (*opened)->Find(tensor.name);
    REQUIRE(info != nullptr);
    std::vector<float> values(tensor.values.size());
    REQUIRE((*opened)->Read(*info, reinterpret_cast<std::byte*>(values.data())).ok());
    CHECK(values == tensor.values);
  }
}

TEST_CASE("row 90 in folders: missing, misplaced and misshapen tensors") {
  const tests::SmallModel model = Small();
  const auto parts = tests::F32Parts(model);
  const tests::TempFolder folder;
  folder.Write("config.json", tests::ConfigJson(model));
  Mentions(OpenError(folder), "safetensors");
  auto without = parts;
  without.erase(without.begin() + 3);
  folder.Write("model.safetensors", tests::ToSafetensors(without));
  Mentions(OpenError(folder), parts[3].name);
  auto misshapen = parts;
  std::swap(misshapen[0].shape[0], misshapen[0].shape[1]);
  folder.Write("model.safetensors", tests::ToSafetensors(misshapen));
  Mentions(OpenError(folder), parts[0].name);
  auto unserved = parts;
  unserved[2].dtype = "I32";
  folder.Write("model.safetensors", tests::ToSafetensors(unserved));
  Mentions(OpenError(folder), "I32");
  auto extra = parts;
  extra.push_back({"model.extra", "I64", {1}, Bytes(8, '\0')});
  folder.Write("model.safetensors", tests::ToSafetensors(extra));
  CHECK(OpenCheckpoint(folder.Path()).ok());
}

TEST_CASE("an index may not point elsewhere") {
  const tests::SmallModel model = Small();
  const tests::TempFolder folder;
  folder.Write("config.json", tests::ConfigJson(model));
  folder.Write("model.safetensors", tests::ToSafetensors(tests::F32Parts(model)));
  for (const char* name : {"../x.safetensors", "/etc/passwd", "sub/x.safetensors",
                           ".hidden.safetensors", "x.bin", ""}) {
    folder.Write("model.safetensors.index.json",
                 std::string("{\"weight_map\":{\"lm_head.weight\":\"") + name + "\"}}");
    Mentions(OpenError(folder), "weight_map");
  }
  folder.Write("model.safetensors.index.json",
               "{\"weight_map\":{\"no.such.tensor\":\"model.safetensors\"}}");
  Mentions(OpenError(folder), "no.such.tensor");
  folder.Write("model.safetensors.index.json",
               "{\"weight_map\":{\"lm_head.weight\":\"gone.safetensors\"}}");
  Mentions(OpenError(folder), "gone.safetensors");
}

TEST_CASE("row 96: what is no regular file") {
  const tests::TempFolder folder;
  REQUIRE(::mkfifo(folder.Path("pipe.gguf").c_str(), 0600) == 0);
  for (const std::string& path :
       {folder.Path("pipe.gguf"), std::string("/dev/zero"), std::string("/dev/null"),
        folder.Path("none.gguf"), folder.Path("pipe.gguf/x"), std::string("a\0b", 3)}) {
    auto opened = OpenCheckpoint(path);
    CHECK_FALSE(opened.ok());
    auto files = ReadTokenizerFiles(path);
    CHECK_FALSE(files.ok());
  }
  auto passwd = OpenCheckpoint("/etc/passwd");
  REQUIRE_FALSE(passwd.ok());
  CHECK(std::string(passwd.status().message()).find("root") == std::string::npos);
  // Inside a folder too: a FIFO where a file should be must not hang.
  for (const char* name : {"config.json", "tokenizer.json", "model.safetensors"}) {
    const tests::TempFolder model;
    model.Write("config.json", tests::ConfigJson(Small()));
    fs::remove(model.Path(name));
    REQUIRE(::mkfifo(model.Path(name).c_str(), 0600) == 0);
    CHECK_FALSE(OpenCheckpoint(model.Path()).ok());
  }
  const tests::TempFolder loop;
  fs::create_symlink("b.gguf", loop.Path("a.gguf"));
  fs::create_symlink("a.gguf", loop.Path("b.gguf"));
  CHECK_FALSE(OpenCheckpoint(loop.Path("a.gguf")).ok());
  CHECK_FALSE(OpenCheckpoint(loop.Path()).ok());
}

}  // namespace
}  // namespace modu::engine
