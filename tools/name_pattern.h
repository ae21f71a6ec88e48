// Patterns over names, as suppression files have them: literal text, `*` for any bytes, `?` for one.
//
// Two dialects that differ in what surrounds the text. LeakSanitizer's matches anywhere in the name unless it begins
// with `^` or ends with `$`, and knows no `?`. Valgrind's matches the whole name.
//
// Matching never goes back: the pieces between the stars have fixed lengths, so the first place where a piece fits is
// as good as any later one. The time is that of searching each piece once, and pieces with `?`, whose search is the
// slow one, are short. Must not: recurse, allocate while matching.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tidemark {

class NamePattern {
 public:
  NamePattern() = default;  // matches everything
  static constexpr size_t kMaxBytes = 65535;
  // Of a piece with `?`: its search takes this many comparisons a byte at worst.
  static constexpr size_t kMaxPieceWithAny = 256;

  // nullopt and *why, the end of a sentence about the pattern, when it is not usable.
  static std::optional<NamePattern> FromLeakSanitizer(std::string_view text, std::string* why);
  static std::optional<NamePattern> FromValgrind(std::string_view text, std::string* why);

  bool Matches(std::string_view name) const;
  // There is no name that it does not match.
  bool matches_all() const { return pieces_.empty(); }

 private:
  struct Piece {
    std::string text;
    bool has_any = false;  // `?` in it stands for any byte
    bool FitsAt(std::string_view name, size_t at) const;
    size_t FindIn(std::string_view name, size_t from, size_t to) const;
  };
  void Split(std::string_view text, bool has_any);

  std::vector<Piece> pieces_;  // none is empty
  bool at_start_ = false;      // the first piece begins the name
  bool at_end_ = false;        // the last piece ends it
};

}  // namespace tidemark
