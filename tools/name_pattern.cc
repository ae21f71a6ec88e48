// Splitting a pattern at its stars, and looking for the pieces from left to right; see name_pattern.h.
// Must not: take a byte of a name for more than a byte; names are not always UTF-8.
#include "tools/name_pattern.h"

#include <string.h>

#include <algorithm>

namespace tidemark {

bool NamePattern::Piece::FitsAt(std::string_view name, size_t at) const {
  if (!has_any) return name.compare(at, text.size(), text) == 0;
  return std::equal(text.begin(), text.end(), name.begin() + static_cast<std::ptrdiff_t>(at),
                    [](char wanted, char found) { return wanted == '?' || wanted == found; });
}

// The first place in [from, to) where all of the piece fits; npos: there is none.
size_t NamePattern::Piece::FindIn(std::string_view name, size_t from, size_t to) const {
  if (to - from < text.size()) return std::string_view::npos;
  if (!has_any) {
    // Not string_view::find, which is quadratic: glibc's memmem is linear for long needles.
    const void* found = memmem(name.data() + from, to - from, text.data(), text.size());
    return found == nullptr ? std::string_view::npos
                            : static_cast<size_t>(static_cast<const char*>(found) - name.data());
  }
  for (size_t at = from; at + text.size() <= to; ++at) {
    if (FitsAt(name, at)) return at;
  }
  return std::string_view::npos;
}

void NamePattern::Split(std::string_view text, bool has_any) {
  for (size_t begin = 0; begin <= text.size();) {
    const size_t star = std::min(text.find('*', begin), text.size());
    if (star != begin) {
      const std::string_view piece = text.substr(begin, star - begin);
      pieces_.push_back({std::string(piece), has_any && piece.find('?') != std::string_view::npos});
    }
    begin = star + 1;
  }
}

std::optional<NamePattern> NamePattern::FromLeakSanitizer(std::string_view text, std::string* why) {
  NamePattern pattern;
  if (text.size() > kMaxBytes) {
    *why = "is longer than 65,535 bytes; shorten it with '*'";
    return std::nullopt;
  }
  if (text.starts_with('^')) {
    pattern.at_start_ = true;
    text.remove_prefix(1);
  }
  if (text.ends_with('$')) {
    pattern.at_end_ = true;
    text.remove_suffix(1);
  }
  if (text.empty()) {
    *why = "names nothing; write part of a function, source file or module";
    return std::nullopt;
  }
  // LeakSanitizer ends the pattern there and forgets the rest.
  if (text.find('$') != std::string_view::npos) {
    *why = "has a '$' that is not its last character, and '$' is the end of a name; write '*' for it";
    return std::nullopt;
  }
  pattern.at_start_ = pattern.at_start_ && !text.starts_with('*');
  pattern.at_end_ = pattern.at_end_ && !text.ends_with('*');
  pattern.Split(text, false);
  return pattern;
}

std::optional<NamePattern> NamePattern::FromValgrind(std::string_view text, std::string* why) {
  NamePattern pattern;
  if (text.size() > kMaxBytes) {
    *why = "is longer than 65,535 bytes; shorten it with '*'";
    return std::nullopt;
  }
  if (text.empty()) {
    *why = "names nothing; write a name, or '...' for any frames";
    return std::nullopt;
  }
  pattern.at_start_ = !text.starts_with('*');
  pattern.at_end_ = !text.ends_with('*');
  pattern.Split(text, true);
  for (const Piece& piece : pattern.pieces_) {
    if (piece.has_any && piece.text.size() > kMaxPieceWithAny) {
      *why = "has a '?' in more than 256 characters without '*'; write '*' for it";
      return std::nullopt;
    }
  }
  return pattern;
}

bool NamePattern::Matches(std::string_view name) const {
  if (pieces_.empty()) return true;
  size_t first = 0, last = pieces_.size(), from = 0, to = name.size();
  if (at_start_) {
    const Piece& piece = pieces_.front();
    if (piece.text.size() > name.size() || !piece.FitsAt(name, 0)) return false;
    from = piece.text.size();
    first = 1;
    // One piece at both ends: the whole name.
    if (at_end_ && last == 1) return from == to;
  }
  if (at_end_) {
    const Piece& piece = pieces_.back();
    if (piece.text.size() > to - from || !piece.FitsAt(name, to - piece.text.size())) return false;
    to -= piece.text.size();
    --last;
  }
  for (size_t i = first; i < last; ++i) {
    const size_t at = pieces_[i].FindIn(name, from, to);
    if (at == std::string_view::npos) return false;
    from = at + pieces_[i].text.size();
  }
  return true;
}

}  // namespace tidemark
