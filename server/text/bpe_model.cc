#include "server/text/bpe_model.h"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "server/text/unicode.h"

namespace modu::text {
namespace {

constexpr size_t kShortPiece = 40;      // up to here scanning for the least rank beats a heap
constexpr size_t kCacheFrom = 4 << 10;  // texts below this are done before a cache has warmed up
constexpr size_t kCacheEntries = 8 << 10;
constexpr uint32_t kNoRank = UINT32_MAX;
constexpr std::string_view kMetaspace = "\xE2\x96\x81";

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

/// Where, behind `pos`, a U+2581 follows another character; npos: nowhere.
size_t NextWord(std::string_view text, size_t pos) {
  for (size_t at = text.find(kMetaspace, pos + 1); at != std::string_view::npos;
       at = text.find(kMetaspace, at + kMetaspace.size())) {
    const bool behind_another =
        at < kMetaspace.size() ||
        text.substr(at - kMetaspace.size(), kMetaspace.size()) != kMetaspace;
    if (behind_another) return at;
  }
  return std::string_view::npos;
}

size_t PairHash(uint64_t key) {
  key *= 0x9E3779B97F4A7C15ull;
  return key ^ key >> 32;
}

}  // namespace

BpeModel::Scratch::Scratch(size_t text_size) {
  if (text_size >= kCacheFrom) cache.resize(kCacheEntries);
}

BpeModel::BpeModel(const Vocabulary* vocabulary, const std::vector<Merge>& merges,
                   const std::vector<int32_t>& banned, BpeOptions options)
    : vocabulary_(vocabulary), options_(std::move(options)), banned_(banned) {
  size_t capacity = 16;
  while (capacity < merges.size() * 2) capacity *= 2;
  pairs_.resize(capacity);
  for (const Merge& merge : merges) {
    if (std::binary_search(banned_.begin(), banned_.end(), merge.id)) continue;
    const uint64_t key = PairKey(merge.left, merge.right);
    size_t slot = PairHash(key) & (capacity - 1);
    while (pairs_[slot].key != UINT64_MAX && pairs_[slot].key != key) {
      slot = (slot + 1) & (capacity - 1);
    }
    pairs_[slot] = {key, merge.rank, merge.id};  // of equals the last holds
  }

  for (int b = 0; b < 256; ++b) {
    char spelling[8];
    if (options_.bytes) {
      byte_ids_[b] = FindAllowed(std::string(1, static_cast<char>(b)));
    } else {
      std::snprintf(spelling, sizeof(spelling), "<0x%02X>", b);
      byte_ids_[b] = vocabulary_->Find(spelling);
    }
  }
  if (!options_.bytes) {
    char_ids_.assign(0x10000, -1);
    for (int32_t id = 0; id < vocabulary_->size(); ++id) {
      const std::string_view s = vocabulary_->Spelling(id);
      uint32_t c = 0;
      if (s.empty() || s.size() > 3) continue;
      const int length = DecodeUtf8(s.data(), s.data() + s.size(), &c);
      if (length != static_cast<int>(s.size()) || c >= 0x10000) continue;
      char_ids_[c] = FindAllowed(s);
    }
  }
  words_apart_ = MergesStayInWords(merges);
}

bool BpeModel::MergesStayInWords(const std::vector<Merge>& merges) const {
  // The unknown must end at a word's beginning too, so that must be a known character.
  const bool plain = !options_.bytes && !options_.ignore_merges &&
                     options_.continuing_subword_prefix.empty() &&
                     options_.end_of_word_suffix.empty();
  if (!plain || FindAllowed(kMetaspace) < 0) return false;
  for (const Merge& merge : merges) {
    if (NextWord(vocabulary_->Spelling(merge.id), 0) != std::string_view::npos) return false;
  }
  return true;
}

const BpeModel::PairSlot& BpeModel::FindPair(int32_t left, int32_t right) const {
  static const PairSlot kNone;
  const uint64_t key = PairKey(left, right);
  size_t slot = PairHash(key) & (pairs_.size() - 1);
  while (pairs_[slot].key != key) {
    if (pairs_[slot].key == UINT64_MAX) return kNone;
    slot = (slot + 1) & (pairs_.size() - 1);
  }
  return pairs_[slot];
}

int32_t BpeModel::FindAllowed(std::string_view spelling) const {
  const int32_t id = vocabulary_->Find(spelling);
  return std::binary_search(banned_.begin(), banned_.end(), id) ? -1 : id;
}

int32_t BpeModel::CharId(std::string_view character, bool first, bool last) const {
  const bool prefix = !first && !options_.continuing_subword_prefix.empty();
  const bool suffix = last && !options_.end_of_word_suffix.empty();
  if (!prefix && !suffix) {
    int length = 1;
    const uint32_t c = DecodeValid(character.data(), &length);
    return c < 0x10000 ? char_ids_[c] : FindAllowed(character);
  }
  std::string spelling = prefix ? options_.continuing_subword_prefix : "";
  spelling += character;
  if (suffix) spelling += options_.end_of_word_suffix;
  return FindAllowed(spelling);
}

void BpeModel::Symbols(std::string_view piece, std::vector<int32_t>* symbols) const {
  symbols->clear();
  if (options_.bytes) {
    bool unknown = false;
    for (const char c : piece) {
      const int32_t id = byte_ids_[static_cast<uint8_t>(c)];
      const bool fused = id < 0 && unknown && options_.fuse_unk;
      unknown = id < 0;
      if (id >= 0 || (options_.unk_id >= 0 && !fused)) {
        symbols->push_back(id >= 0 ? id : options_.unk_id);
      }
    }
    return;
  }
  // As the reference does it, an unknown character waits, so that the next may fuse with it; byte
  // tokens overtake it.
  bool unknown = false;
  ForEachChar(piece, [&](uint32_t, size_t begin, size_t end) {
    const std::string_view character = piece.substr(begin, end - begin);
    const int32_t id = CharId(character, begin == 0, end == piece.size());
    if (id >= 0) {
      if (unknown) symbols->push_back(options_.unk_id);
      unknown = false;
      symbols->push_back(id);
      return;
    }
    if (options_.byte_fallback) {
      bool all = true;
      for (const char c : character) all = all && byte_ids_[static_cast<uint8_t>(c)] >= 0;
      if (all) {
        for (const char c : character) symbols->push_back(byte_ids_[static_cast<uint8_t>(c)]);
        return;
      }
    }
    if (options_.unk_id < 0) return;
    if (unknown && !options_.fuse_unk) symbols->push_back(options_.unk_id);
    unknown = true;
  });
  if (unknown) symbols->push_back(options_.unk_id);
}

void BpeModel::Encode(std::string_view piece, size_t max_ids, Scratch* scratch,
                      std::vector<int32_t>* ids) const {
  // A whole document may be one piece; where merges stay within words, so may the work.
  for (size_t end = 0; words_apart_ && (end = NextWord(piece, 0)) != std::string_view::npos;) {
    EncodeCached(piece.substr(0, end), scratch, ids);
    if (ids->size() > max_ids) return;
    piece.remove_prefix(end);
  }
  EncodeCached(piece, scratch, ids);
}

void BpeModel::EncodeCached(std::string_view piece, Scratch* scratch,
                            std::vector<int32_t>* ids) const {
  if (piece.empty()) return;
  if (scratch->cache.empty() || piece.size() > sizeof(Scratch::CacheEntry::piece)) {
    EncodeUncached(piece, scratch, ids);
    return;
  }
  const uint64_t hash = HashBytes(piece);
  Scratch::CacheEntry& entry = scratch->cache[hash % kCacheEntries];
  if (entry.hash == hash && entry.size == piece.size() &&
      std::memcmp(entry.piece.data(), piece.data(), piece.size()) == 0) {
    ids->insert(ids->end(), entry.ids.begin(), entry.ids.begin() + entry.num_ids);
    return;
  }
  const size_t old_size = ids->size();
  EncodeUncached(piece, scratch, ids);
  const size_t added = ids->size() - old_size;
  if (added > entry.ids.size()) return;
  entry.hash = hash;
  entry.size = static_cast<uint8_t>(piece.size());
  entry.num_ids = static_cast<uint8_t>(added);
  std::memcpy(entry.piece.data(), piece.data(), piece.size());
  std::copy(ids->end() - static_cast<ptrdiff_t>(added), ids->end(), entry.ids.begin());
}

void BpeModel::EncodeUncached(std::string_view piece, Scratch* scratch,
                              std::vector<int32_t>* ids) const {
  if (options_.ignore_merges) {
    const int32_t whole = FindAllowed(piece);
    if (whole >= 0) {
      ids->push_back(whole);
      return;
    }
  }
  Symbols(piece, &scratch->symbols);
  if (scratch->symbols.size() <= kShortPiece) {
    MergeShort(scratch);
  } else {
    MergeLong(scratch);
  }
  ids->insert(ids->end(), scratch->symbols.begin(), scratch->symbols.end());
}

void BpeModel::EncodeBytes(std::string_view bytes, Scratch* scratch,
                           std::vector<int32_t>* ids) const {
  if (options_.bytes) {
    EncodeUncached(bytes, scratch, ids);
    return;
  }
  for (const char c : bytes) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(c)];
    if (id >= 0 || options_.unk_id >= 0) ids->push_back(id >= 0 ? id : options_.unk_id);
  }
}

void BpeModel::MergeShort(Scratch* scratch) const {
  std::vector<int32_t>& symbols = scratch->symbols;
  std::vector<uint32_t>& ranks = scratch->ranks;  // [i]: of symbols i and i+1
  if (symbols.size() < 2) return;
  ranks.resize(symbols.size() - 1);
  for (size_t i = 0; i + 1 < symbols.size(); ++i) ranks[i] = RankOf(symbols[i], symbols[i + 1]);
  while (!ranks.empty()) {
    size_t best = 0;
    for (size_t i = 1; i < ranks.size(); ++i) {
      if (ranks[i] < ranks[best]) best = i;
    }
    if (ranks[best] == kNoRank) return;
    symbols[best] = FindPair(symbols[best], symbols[best + 1]).id;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
    ranks.erase(ranks.begin() + static_cast<ptrdiff_t>(best));
    if (best > 0) ranks[best - 1] = RankOf(symbols[best - 1], symbols[best]);
    if (best < ranks.size()) ranks[best] = RankOf(symbols[best], symbols[best + 1]);
  }
}

void BpeModel::MergeLong(Scratch* scratch) const {
  // A linked list of symbols and a heap of (rank, position). A pair that has changed since it was
  // pushed has another rank or none; its entry is skipped when it comes up.
  std::vector<int32_t>& symbols = scratch->symbols;
  std::vector<int32_t>& previous = scratch->previous;
  std::vector<int32_t>& next = scratch->next;
  std::vector<uint32_t>& ranks = scratch->ranks;  // of a symbol and its next
  std::vector<uint64_t>& heap = scratch->heap;
  const auto n = static_cast<int32_t>(symbols.size());
  previous.resize(n);
  next.resize(n);
  ranks.resize(n);
  heap.clear();
  const auto later = [](uint64_t a, uint64_t b) { return a > b; };
  for (int32_t i = 0; i < n; ++i) {
    previous[i] = i - 1;
    next[i] = i + 1 < n ? i + 1 : -1;
    ranks[i] = i + 1 < n ? RankOf(symbols[i], symbols[i + 1]) : kNoRank;
    if (ranks[i] != kNoRank) heap.push_back(PairKey(static_cast<int32_t>(ranks[i]), i));
  }
  std::make_heap(heap.begin(), heap.end(), later);
  const auto update = [&](int32_t i) {
    ranks[i] = next[i] < 0 ? kNoRank : RankOf(symbols[i], symbols[next[i]]);
    if (ranks[i] == kNoRank) return;
    heap.push_back(PairKey(static_cast<int32_t>(ranks[i]), i));
    std::push_heap(heap.begin(), heap.end(), later);
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const uint64_t top = heap.back();
    heap.pop_back();
    const auto i = static_cast<int32_t>(top & UINT32_MAX);
    if (symbols[i] < 0 || ranks[i] != top >> 32) continue;
    const int32_t right = next[i];
    symbols[i] = FindPair(symbols[i], symbols[right]).id;
    symbols[right] = -1;
    ranks[right] = kNoRank;
    next[i] = next[right];
    if (next[i] >= 0) previous[next[i]] = i;
    update(i);
    if (previous[i] >= 0) update(previous[i]);
  }
  symbols.erase(std::remove(symbols.begin(), symbols.end(), -1), symbols.end());
}

}  // namespace modu::text
