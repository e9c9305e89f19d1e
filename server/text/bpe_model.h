// Byte-pair encoding: pieces into ids by merges of least rank, leftmost first. One engine for
// byte-level vocabularies (symbols are bytes), character ones with byte fallback, and
// SentencePiece's (ranks from scores). Time is linearithmic in a piece, which may be a whole
// document; nothing recurses. Immutable after Build, safe from any thread.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "server/text/vocabulary.h"

namespace modu::text {

struct Merge {
  int32_t left = -1, right = -1;
  uint32_t rank = 0;  // less is earlier
  int32_t id = -1;    // what the two become
};

struct BpeOptions {
  bool bytes = false;          // the model's vocabulary is in raw bytes, and so are the pieces
  bool byte_fallback = false;  // an unknown character becomes its <0xNN> tokens
  bool fuse_unk = false;
  bool ignore_merges = false;  // a piece that is a token stays whole
  int32_t unk_id = -1;         // -1: an unknown character is dropped
  std::string continuing_subword_prefix, end_of_word_suffix;
};

class BpeModel {
 public:
  /// Room for a call's work, so that pieces share allocations; one a thread at a time.
  struct Scratch;

  /// Ids in `banned` (sorted) never come out of running text: control tokens, and added ones that
  /// are no part of the model.
  BpeModel(const Vocabulary* vocabulary, const std::vector<Merge>& merges,
           const std::vector<int32_t>& banned, BpeOptions options);

  /// Appends the piece's ids. Once `ids` is longer than `max_ids` the rest may be left out.
  void Encode(std::string_view piece, size_t max_ids, Scratch* scratch,
              std::vector<int32_t>* ids) const;
  /// What is not text at all (ill-formed UTF-8): bytes as byte tokens, merged where the vocabulary
  /// is in bytes.
  void EncodeBytes(std::string_view bytes, Scratch* scratch, std::vector<int32_t>* ids) const;

  struct Scratch {
    explicit Scratch(size_t text_size);
    struct CacheEntry {
      uint64_t hash = 0;
      std::array<char, 24> piece;
      uint8_t size = 0, num_ids = 0;
      std::array<int32_t, 8> ids;
    };
    std::vector<CacheEntry> cache;  // direct-mapped, by piece; empty for short texts
    std::vector<int32_t> symbols;
    std::vector<uint32_t> ranks;
    std::vector<int32_t> previous, next;
    std::vector<uint64_t> heap;
  };

 private:
  struct PairSlot {
    uint64_t key = UINT64_MAX;
    uint32_t rank = UINT32_MAX;
    int32_t id = -1;
  };
  const PairSlot& FindPair(int32_t left, int32_t right) const;
  uint32_t RankOf(int32_t left, int32_t right) const { return FindPair(left, right).rank; }
  int32_t FindAllowed(std::string_view spelling) const;
  int32_t CharId(std::string_view character, bool first, bool last) const;
  void Symbols(std::string_view piece, std::vector<int32_t>* symbols) const;
  bool MergesStayInWords(const std::vector<Merge>& merges) const;
  void EncodeCached(std::string_view piece, Scratch* scratch, std::vector<int32_t>* ids) const;
  void EncodeUncached(std::string_view piece, Scratch* scratch, std::vector<int32_t>* ids) const;
  void MergeShort(Scratch* scratch) const;
  void MergeLong(Scratch* scratch) const;

  const Vocabulary* vocabulary_;  // outlives the model
  BpeOptions options_;
  std::vector<int32_t> banned_;
  std::vector<PairSlot> pairs_;        // open addressing
  std::array<int32_t, 256> byte_ids_;  // raw bytes, or <0xNN>
  bool words_apart_ = false;           // no merge reaches over the beginning of a word, U+2581
  std::vector<int32_t> char_ids_;      // of the first 65,536 code points
};

}  // namespace modu::text
