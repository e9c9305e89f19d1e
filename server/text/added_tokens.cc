#include "server/text/added_tokens.h"

#include <algorithm>

namespace modu::text {
namespace {

/// The character that ends at `pos`; 0 where there is none or it is ill-formed.
uint32_t CharBefore(std::string_view text, size_t pos) {
  for (size_t length = 1; length <= 4 && length <= pos; ++length) {
    uint32_t c = 0;
    const char* begin = text.data() + pos - length;
    if (DecodeUtf8(begin, text.data() + pos, &c) == static_cast<int>(length)) return c;
  }
  return 0;
}

uint32_t CharAt(std::string_view text, size_t pos, int* length) {
  uint32_t c = 0;
  *length = DecodeUtf8(text.data() + pos, text.data() + text.size(), &c);
  return *length == 0 ? 0 : c;
}

size_t SkipSpacesBack(std::string_view text, size_t pos, size_t floor) {
  while (pos > floor) {
    const uint32_t c = CharBefore(text, pos);
    if (!(FlagsOf(c) & kSpace)) break;
    std::string encoded;
    AppendUtf8(c, &encoded);
    if (pos - floor < encoded.size()) break;
    pos -= encoded.size();
  }
  return pos;
}

size_t SkipSpaces(std::string_view text, size_t pos) {
  while (pos < text.size()) {
    int length = 0;
    if (!(FlagsOf(CharAt(text, pos, &length)) & kSpace) || length == 0) break;
    pos += length;
  }
  return pos;
}

}  // namespace

AddedTokenSet::AddedTokenSet(std::vector<AddedToken> tokens,
                             const std::vector<std::string>& patterns)
    : tokens_(std::move(tokens)), nodes_(1) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    if (patterns[i].empty()) continue;
    int32_t node = 0;
    for (const char c : patterns[i]) {
      const auto byte = static_cast<uint8_t>(c);
      int32_t child = Child(node, byte);
      if (child < 0) {
        child = static_cast<int32_t>(nodes_.size());
        auto& children = nodes_[node].children;
        children.insert(std::lower_bound(children.begin(), children.end(),
                                         std::pair<uint8_t, int32_t>(byte, 0)),
                        {byte, child});
        nodes_.emplace_back();
      }
      node = child;
    }
    if (nodes_[node].token < 0) nodes_[node].token = static_cast<int32_t>(i);
    starts_[static_cast<uint8_t>(patterns[i][0])] = true;
  }
}

int32_t AddedTokenSet::Child(int32_t node, uint8_t byte) const {
  const auto& children = nodes_[node].children;
  const auto it =
      std::lower_bound(children.begin(), children.end(), std::pair<uint8_t, int32_t>(byte, 0));
  return it != children.end() && it->first == byte ? it->second : -1;
}

int32_t AddedTokenSet::MatchAt(std::string_view text, size_t pos, size_t* end) const {
  int32_t node = 0, found = -1;
  for (size_t i = pos; i < text.size(); ++i) {
    node = Child(node, static_cast<uint8_t>(text[i]));
    if (node < 0) break;
    if (nodes_[node].token >= 0) {
      found = nodes_[node].token;
      *end = i + 1;
    }
  }
  return found;
}

std::vector<Section> AddedTokenSet::Split(std::string_view text, bool parse_special) const {
  std::vector<Section> sections;
  size_t done = 0;  // up to here the text is in sections
  for (size_t pos = 0; pos < text.size() && !tokens_.empty();) {
    size_t end = 0;
    if (!starts_[static_cast<uint8_t>(text[pos])]) {
      ++pos;
      continue;
    }
    const int32_t index = MatchAt(text, pos, &end);
    if (index < 0) {
      ++pos;
      continue;
    }
    const AddedToken& token = tokens_[index];
    size_t begin = pos;
    pos = end;  // the search goes on behind it, whether it counts or not
    if (token.special && !parse_special) continue;
    if (token.single_word) {
      int length = 0;
      const bool before = begin > 0 && IsWord(CharBefore(text, begin));
      const bool behind = end < text.size() && IsWord(CharAt(text, end, &length));
      if (before || behind) continue;
    }
    if (token.lstrip) begin = std::max(done, SkipSpacesBack(text, begin, std::min(done, begin)));
    if (token.rstrip) end = SkipSpaces(text, end);
    if (begin >= end) continue;  // an earlier one has taken its spaces, which were all of it
    if (done < begin) sections.push_back({-1, {done, begin}});
    sections.push_back({token.id, {begin, end}});
    done = end;
  }
  if (done < text.size()) sections.push_back({-1, {done, text.size()}});
  return sections;
}

}  // namespace modu::text
