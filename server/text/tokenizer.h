// Tokenizers: text to ids and ids to bytes. Immutable after load, safe from any thread.
// Kinds: byte-level BPE (with the files' own normalizer and pre-tokenizer chain), SentencePiece BPE
// with byte fallback.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"

namespace modu::text {

struct EncodeOptions {
  bool add_special = false;  // what the file's post-processor or add_bos/add_eos says
  bool parse_special =
      false;           // control tokens spelled in the text become their ids; never for user text
  size_t max_ids = 0;  // more of them are refused, soon after they are there; 0: no limit
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  /// Linearithmic in text size. kInvalidArgument: a regex hit its match limit. kOutOfRange: more
  /// than max_ids. Invalid UTF-8 never fails: its bytes are encoded where the vocabulary can hold
  /// them.
  virtual absl::StatusOr<std::vector<int32_t>> Encode(std::string_view text,
                                                      const EncodeOptions& options) const = 0;
  /// The bytes an id stands for in running text; empty for control tokens when skip_special, and
  /// for unknown ids.
  virtual std::string TokenBytes(int32_t id, bool skip_special = true) const = 0;
  /// The whole text as the reference implementation's decode() gives it (SentencePiece strips its
  /// leading space).
  virtual std::string Decode(const std::vector<int32_t>& ids, bool skip_special = true) const = 0;
  /// The token's own spelling in the vocabulary ("Ġhello"), "" where there is none.
  virtual std::string TokenSpelling(int32_t id) const = 0;
  virtual int32_t TokenToId(std::string_view spelling) const = 0;  // -1: none
  virtual bool IsControl(int32_t id) const = 0;
  virtual int32_t vocab_size() const = 0;
  virtual int32_t bos_id() const = 0;  // -1: none
  virtual int32_t eos_id() const = 0;
  virtual std::string kind() const = 0;  // for listings: "byte-level BPE", "SentencePiece BPE"
};

absl::StatusOr<std::unique_ptr<Tokenizer>> LoadTokenizer(const engine::TokenizerFiles& files);

}  // namespace modu::text
