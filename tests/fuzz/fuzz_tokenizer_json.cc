// A tokenizer.json of any bytes: loads or says why not, and what loads tokenizes a text and gives
// it back as bytes.
#include "kernels/check.h"
#include "server/text/tokenizer.h"
#include "tests/fuzz/fuzz.h"

using namespace modu;  // NOLINT: one file, one target

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  engine::TokenizerFiles files;
  files.tokenizer_json.assign(reinterpret_cast<const char*>(data), size);
  const auto tokenizer = text::LoadTokenizer(files);
  if (!tokenizer.ok()) {
    MODU_CHECK(!tokenizer.status().message().empty());
    return 0;
  }
  const text::Tokenizer& t = **tokenizer;
  const std::string text = "<s> ab  AB 12 \xEC\x95\x88\xEB\x85\x95 a\xCC\x81\xCC\xA3 \xFF\n";
  for (const bool special : {false, true}) {
    const auto ids = t.Encode(text, {special, special});
    if (!ids.ok()) continue;
    // add_special's ids are the file's word and may lie anywhere; text gives ids of the vocabulary.
    for (const int32_t id : *ids) MODU_CHECK(special || (id >= 0 && id < t.vocab_size()));
    (void)t.Decode(*ids, !special);
  }
  for (int32_t id = -1; id <= t.vocab_size() && id < 64; ++id) {
    (void)t.TokenBytes(id, false);
    (void)t.TokenSpelling(id);
  }
  return 0;
}

std::vector<std::string> FuzzSeeds() {
  return {
      R"({"added_tokens":[{"id":9,"content":"<s>","special":true,"lstrip":true},{"id":10,"content":"AB","single_word":true,"normalized":true}],
"normalizer":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Lowercase"},{"type":"Replace","pattern":{"Regex":"\\s+"},"content":" "}]},
"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Digits","individual_digits":true},{"type":"Split","pattern":{"Regex":"\\p{L}+|[^\\s&&[^a]]"},"behavior":"MergedWithNext","invert":true},{"type":"ByteLevel","add_prefix_space":true,"use_regex":true}]},
"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],"special_tokens":{"<s>":{"id":"<s>","ids":[9],"tokens":["<s>"]}}},
"decoder":{"type":"ByteLevel"},"model":{"type":"BPE","vocab":{"a":0,"b":1,"Ġ":2,"ab":3,"Ġa":4,"1":5,"2":6,"A":7,"B":8},"merges":["a b",["Ġ","a"]],"ignore_merges":true}})",
      R"({"added_tokens":[{"id":0,"content":"<unk>","special":true}],"normalizer":{"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"_"},{"type":"NFKD"},{"type":"StripAccents"},{"type":"Strip","strip_left":true,"strip_right":true},{"type":"Nmt"}]},
"pre_tokenizer":{"type":"Metaspace","replacement":"_","prepend_scheme":"first","split":true},
"decoder":{"type":"Sequence","decoders":[{"type":"Replace","pattern":{"String":"_"},"content":" "},{"type":"ByteFallback"},{"type":"Fuse"},{"type":"Strip","content":" ","start":1,"stop":1}]},
"model":{"type":"BPE","unk_token":"<unk>","fuse_unk":true,"byte_fallback":true,"vocab":{"<unk>":0,"a":1,"b":2,"_":3,"ab":4,"<0xFF>":5,"_ab":6},"merges":["a b","_ ab"]}})",
      R"({"pre_tokenizer":{"type":"Whitespace"},"decoder":{"type":"BPEDecoder","suffix":"</w>"},"model":{"type":"BPE","continuing_subword_prefix":"##","end_of_word_suffix":"</w>","vocab":{"a":0,"##b</w>":1,"ab</w>":2},"merges":[["a","##b</w>"]]}})",
  };
}
