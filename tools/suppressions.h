// Suppression files: which leaks somebody has decided to live with, as LeakSanitizer and Valgrind write it down.
//
//   leak:PATTERN              LeakSanitizer: matches the function, the source file or the module of any frame
//   {                         Valgrind: frames from the allocation outwards, `...` for any number of them;
//      name                   what follows the last line may be anything
//      Memcheck:Leak
//      match-leak-kinds: definite,possible
//      fun:malloc
//      ...
//      obj:*/libfoo.so*
//      src:parser.c:321
//   }
//
// One file may hold both. What is meant for other tools or other errors is counted and otherwise ignored. A line that
// cannot be understood is a problem with its place and a way out; only its own rule is lost. A rule is never taken for
// more than it says: an entry with one bad line is refused as a whole.
//
// Limits: 100,000 rules, 500 lines an entry and a million in all, NamePattern's for a line. Matching a stack costs at
// most (lines of the rules) * (frames) searches of one name, and usually one comparison a rule and frame.
// Must not: read files, know where a stack comes from.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tools/name_pattern.h"

namespace tidemark {

// As memcheck names them; sets are sums.
enum LeakKind : uint32_t { kLeakDefinite = 1, kLeakIndirect = 2, kLeakPossible = 4, kLeakReachable = 8 };
inline constexpr uint32_t kAllLeakKinds = 15;

// One function of a stack, inlined ones too. What is not known is empty.
struct SuppressionFrame {
  std::string_view function;      // demangled
  std::string_view linkage_name;  // as the linker has it; Valgrind files are written with these. Empty: as function
  std::string_view file;          // source, with or without directories
  std::string_view module;        // path
  uint32_t line = 0;
};

struct SuppressionRule {
  enum class Where : uint8_t { kFunction, kModule, kSource, kAnyFrames, kAnything };
  struct Location {
    Where where = Where::kAnyFrames;
    uint32_t line = 0;  // of the source; 0: any
    NamePattern pattern;
  };

  std::string text;   // "leak:PATTERN", or the name of a Valgrind entry
  uint32_t line = 0;  // of the file, where it begins
  uint32_t kinds = kAllLeakKinds;
  uint64_t uses = 0;                // stacks that Match() has found it for; 0 at the end: nobody needs it any more
  bool matches_all = false;         // it names nothing: only stacks shorter than the rule are safe from it
  std::vector<Location> locations;  // one kAnything for LeakSanitizer's
};

// Whether one rule matches a stack, as below.
bool MatchesRule(const SuppressionRule& rule, std::span<const SuppressionFrame> stack, LeakKind kind);

class Suppressions {
 public:
  // The first rule, in the order of the file, that matches, whose use is counted; null: none does. The stack begins
  // with the allocation function (malloc, operator new ...), as Valgrind's do, and goes outwards.
  const SuppressionRule* Match(std::span<const SuppressionFrame> stack, LeakKind kind);

  const std::string& file_name() const { return file_name_; }
  const std::vector<SuppressionRule>& rules() const { return rules_; }
  // "FILE:LINE: what; what to do", the first 100 of them.
  const std::vector<std::string>& problems() const { return problems_; }
  uint64_t problem_count() const { return problem_count_; }
  // Entries and lines for other tools, or for other errors than leaks.
  uint64_t ignored() const { return ignored_; }

 private:
  friend class SuppressionParser;
  std::string file_name_;
  std::vector<SuppressionRule> rules_;
  std::vector<std::string> problems_;
  uint64_t problem_count_ = 0, ignored_ = 0;
};

// `file_name` is for messages.
Suppressions ParseSuppressions(std::string_view text, const std::string& file_name);

}  // namespace tidemark
