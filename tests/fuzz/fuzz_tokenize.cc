// Any bytes through byte-level tokenizers that promise to give them back, and the hand-written
// splitters over them.
#include "kernels/check.h"
#include "server/text/byte_alphabet.h"
#include "server/text/splitters.h"
#include "server/text/tokenizer.h"
#include "server/text/unicode.h"
#include "server/text/unicode_normal.h"
#include "tests/fuzz/fuzz.h"

using namespace modu;  // NOLINT: one file, one target

namespace {

std::unique_ptr<text::Tokenizer> MakeTokenizer(const std::string& model, const std::string& pre) {
  engine::TokenizerFiles files;
  files.from_gguf = true;
  files.model = model;
  files.pre = pre;
  files.tokens = {"<unk>", "<s>"};
  files.token_types = {2, 3};
  for (int b = 0; b < 256; ++b) {
    char spelling[8];
    std::snprintf(spelling, sizeof(spelling), "<0x%02X>", b);
    files.tokens.push_back(model == "llama" ? spelling : text::ByteCharacter(b));
    files.token_types.push_back(model == "llama" ? 6 : 1);
  }
  const auto add = [&](const std::string& left, const std::string& right) {
    files.merges.push_back(text::ToByteAlphabet(left) + " " + text::ToByteAlphabet(right));
    files.tokens.push_back(model == "llama" ? left + right : text::ToByteAlphabet(left + right));
    files.token_types.push_back(1);
  };
  add("a", "b");
  add("ab", "ab");
  add(" ", "a");
  add("\xEC", "\x95");
  add("\n", "\n");
  if (model == "llama") {
    files.tokens.push_back("\xE2\x96\x81");
    files.token_types.push_back(1);
  }
  files.scores.assign(files.tokens.size(), 0);
  files.unk_id = 0;
  files.add_space_prefix = false;
  auto tokenizer = text::LoadTokenizer(files);
  MODU_CHECK(tokenizer.ok());
  return *std::move(tokenizer);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto* tokenizers = new std::vector<std::unique_ptr<text::Tokenizer>>([] {
    std::vector<std::unique_ptr<text::Tokenizer>> all;
    for (const char* pre :
         {"gpt-2", "llama-bpe", "smollm", "solar-open", "kanana2", "hyperclovax"}) {
      all.push_back(MakeTokenizer("gpt2", pre));
    }
    all.push_back(MakeTokenizer("llama", ""));
    return all;
  }());
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  for (const auto& t : *tokenizers) {
    const auto ids = t->Encode(bytes, {});
    MODU_CHECK(ids.ok());
    std::string back;
    for (const int32_t id : *ids) {
      MODU_CHECK(!t->IsControl(id));
      back += t->TokenBytes(id);
    }
    // SentencePiece writes a space as U+2581, and reads that as a space.
    if (t->kind() == "byte-level BPE" || bytes.find("\xE2\x96\x81") == std::string::npos) {
      MODU_CHECK(back == bytes);
    }
  }
  const std::string valid = text::Utf8Lossy(bytes);
  for (const char* expression : {text::kKExaoneRegex, text::kO200kRegex}) {
    std::vector<text::Span> spans;
    text::FindSplitter(expression)(valid, &spans);
    size_t pos = 0;
    for (const text::Span& s : spans) {
      MODU_CHECK(s.begin == pos && s.end > pos);
      pos = s.end;
    }
    MODU_CHECK(pos == valid.size());
  }
  for (const auto form : {text::NormalForm::kNfc, text::NormalForm::kNfkd}) {
    const std::string once = text::Normalized(valid, form);
    MODU_CHECK(text::Normalized(once, form) == once);
  }
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  return {"abab ab\n\n 123 it's", "\xEC\x95\x88\xEB\x85\x95 <s> a\xCC\x81\xCC\xA3",
          "\xFF\xC0\xED\xA0\x80 x", "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB  ABCdef/\r\n"};
}
