// Reading suppression files line by line, and matching stacks; see suppressions.h.
//
// Rules follow Valgrind's manual ("Suppressing errors", "Writing suppression files") and LeakSanitizer's documentation.
// Where both leave a choice, the one is taken that hides less. Must not: go on with half an entry.
#include "tools/suppressions.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

namespace tidemark {
namespace {

constexpr size_t kMaxRules = 100'000;
constexpr size_t kMaxLocationsOfEntry = 500;
constexpr size_t kMaxLocations = 1'000'000;
constexpr size_t kMaxProblems = 100;
constexpr size_t kMaxQuotedBytes = 60;

// What other sanitizers have in such files: one file may serve several of them.
constexpr std::string_view kOtherSanitizers[] = {"race",
                                                 "race_top",
                                                 "mutex",
                                                 "thread",
                                                 "signal",
                                                 "called_from_lib",
                                                 "deadlock",  // ThreadSanitizer
                                                 "interceptor_name",
                                                 "interceptor_via_fun",
                                                 "interceptor_via_lib",
                                                 "odr_violation",
                                                 "alloc_dealloc_mismatch",  // AddressSanitizer
                                                 "vptr_check",
                                                 "alignment",
                                                 "array-bounds",
                                                 "bool",
                                                 "bounds",
                                                 "builtin",
                                                 "enum",
                                                 "float-cast-overflow",
                                                 "float-divide-by-zero",
                                                 "function",
                                                 "implicit-bitfield-conversion",
                                                 "implicit-conversion",
                                                 "implicit-integer-sign-change",
                                                 "implicit-integer-truncation",
                                                 "implicit-signed-integer-truncation",
                                                 "implicit-unsigned-integer-truncation",
                                                 "integer",
                                                 "integer-divide-by-zero",
                                                 "local-bounds",
                                                 "nonnull-attribute",
                                                 "null",
                                                 "nullability",
                                                 "nullability-arg",
                                                 "nullability-assign",
                                                 "nullability-return",
                                                 "object-size",
                                                 "pointer-overflow",
                                                 "return",
                                                 "returns-nonnull-attribute",
                                                 "shift",
                                                 "shift-base",
                                                 "shift-exponent",
                                                 "signed-integer-overflow",
                                                 "undefined",
                                                 "unreachable",
                                                 "unsigned-integer-overflow",
                                                 "unsigned-shift-base",
                                                 "vla-bound",
                                                 "vptr"};  // UndefinedBehaviorSanitizer

constexpr std::string_view kBlanks = " \t\r\v\f";

std::string_view Trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

// For messages: short, and nothing that a terminal could take for a command.
std::string Quoted(std::string_view text) {
  std::string quoted = "'";
  for (char c : text.substr(0, kMaxQuotedBytes)) quoted += c >= 0x20 && c < 0x7f ? c : '?';
  return quoted + (text.size() > kMaxQuotedBytes ? "...'" : "'");
}

// The word before the first occurrence of `separator`, which is taken off `rest` with it.
std::string_view CutWord(std::string_view* rest, char separator) {
  const size_t at = std::min(rest->find(separator), rest->size());
  const std::string_view word = rest->substr(0, at);
  rest->remove_prefix(std::min(at + 1, rest->size()));
  return word;
}

// "definite,possible"; nullopt: a word is no kind.
std::optional<uint32_t> LeakKindsOf(std::string_view set) {
  if (set == "all") return kAllLeakKinds;
  if (set == "none") return 0;
  uint32_t kinds = 0;
  if (set.empty() || set.ends_with(',')) return std::nullopt;
  while (!set.empty()) {
    const std::string_view word = Trimmed(CutWord(&set, ','));
    if (word == "definite") {
      kinds |= kLeakDefinite;
    } else if (word == "indirect") {
      kinds |= kLeakIndirect;
    } else if (word == "possible") {
      kinds |= kLeakPossible;
    } else if (word == "reachable") {
      kinds |= kLeakReachable;
    } else {
      return std::nullopt;
    }
  }
  return kinds;
}

}  // namespace

class SuppressionParser {
 public:
  SuppressionParser(std::string_view text, const std::string& file_name) : rest_(text) {
    constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";
    if (rest_.starts_with(kByteOrderMark)) rest_.remove_prefix(kByteOrderMark.size());
    result_.file_name_ = file_name;
  }

  Suppressions Parse() {
    while (!full_ && (has_next_ || NextLine())) {
      has_next_ = false;
      if (line_.text == "{") {
        ParseEntry();
      } else {
        ParseSanitizerLine();
      }
    }
    return std::move(result_);
  }

 private:
  using Rule = SuppressionRule;
  using Where = SuppressionRule::Where;
  struct Line {
    uint32_t number = 0;
    std::string_view text;  // without the blanks around it
  };
  // Why an entry is refused, and where.
  struct Refusal {
    uint32_t line = 0;
    std::string what;
  };

  // The next line that says something becomes line_. False: the text has ended.
  bool NextLine() {
    while (!rest_.empty()) {
      line_.text = Trimmed(CutWord(&rest_, '\n'));
      ++line_.number;
      if (!line_.text.empty() && line_.text[0] != '#') return true;
    }
    return false;
  }

  void Complain(uint32_t line, const std::string& what) {
    if (++result_.problem_count_ > kMaxProblems) return;
    result_.problems_.push_back(result_.file_name_ + ":" + std::to_string(line) + ": " + what);
  }

  void Keep(Rule rule) {
    locations_ += rule.locations.size();
    if (result_.rules_.size() == kMaxRules || locations_ > kMaxLocations) {
      full_ = true;
      return Complain(rule.line,
                      "the file has more than 100,000 rules or a million frames, and what follows is left "
                      "out; say more with '...' and '*'");
    }
    result_.rules_.push_back(std::move(rule));
  }

  void ParseSanitizerLine() {
    std::string_view pattern = line_.text;
    const std::string_view type = CutWord(&pattern, ':');
    if (type.size() == line_.text.size()) {
      return Complain(line_.number, Quoted(line_.text) +
                                        " is no suppression; write leak:PATTERN, or an entry in "
                                        "braces, each brace in a line of its own");
    }
    if (type == "fun" || type == "obj" || type == "src") {
      return Complain(line_.number, Quoted(line_.text) +
                                        " is a frame outside of an entry; put '{', a name and "
                                        "Memcheck:Leak before it");
    }
    if (type != "leak") {
      const auto* end = std::end(kOtherSanitizers);
      if (std::find(std::begin(kOtherSanitizers), end, type) == end) {
        return Complain(line_.number, Quoted(type) + " is no kind of suppression; leaks are leak:PATTERN");
      }
      ++result_.ignored_;
      return;
    }
    std::string why;
    std::optional<NamePattern> compiled = NamePattern::FromLeakSanitizer(pattern, &why);
    if (!compiled) return Complain(line_.number, "the pattern of " + Quoted(line_.text) + " " + why);
    Rule rule;
    rule.text = std::string(line_.text);
    rule.line = line_.number;
    rule.matches_all = compiled->matches_all();
    rule.locations.push_back({Where::kAnything, 0, std::move(*compiled)});
    Keep(std::move(rule));
  }

  void ParseEntry() {
    const uint32_t begin = line_.number;
    std::vector<Line> lines;
    if (!ReadEntry(&lines)) {
      return Complain(begin, "the entry that begins here has no '}' in a line of its own; add one");
    }
    Refusal refusal{begin, ""};
    std::optional<Rule> rule = EntryOf(lines, &refusal);
    if (rule) {
      rule->line = begin;
      Keep(std::move(*rule));
    } else if (!refusal.what.empty()) {
      Complain(refusal.line, refusal.what + " (the whole entry is left out)");
    } else {
      ++result_.ignored_;
    }
  }

  // The lines between the braces, as many as there may be and one more. False: no '}' before the next '{' or the end.
  bool ReadEntry(std::vector<Line>* lines) {
    while (NextLine()) {
      if (line_.text == "}") return true;
      if (line_.text == "{") {
        has_next_ = true;
        return false;
      }
      if (lines->size() <= kHeadLines + kMaxLocationsOfEntry) lines->push_back(line_);
    }
    return false;
  }

  // nullopt without a refusal: it is about something else than leaks.
  static std::optional<Rule> EntryOf(const std::vector<Line>& lines, Refusal* refusal) {
    if (lines.size() < 2) {
      refusal->what = "the entry that begins here needs a name and, in the next line, a kind such as Memcheck:Leak";
      return std::nullopt;
    }
    Rule rule;
    rule.text = std::string(lines[0].text.substr(0, NamePattern::kMaxBytes));
    std::string_view kind = lines[1].text;
    std::string_view tools = CutWord(&kind, ':');
    if (tools.size() == lines[1].text.size()) {
      *refusal = {lines[1].number, Quoted(lines[1].text) + " is no kind of error; write Memcheck:Leak in this line"};
      return std::nullopt;
    }
    bool memcheck = false;
    while (!tools.empty()) memcheck |= CutWord(&tools, ',') == "Memcheck";
    if (!memcheck || kind != "Leak") return std::nullopt;
    size_t at = 2;
    constexpr std::string_view kKinds = "match-leak-kinds:";
    if (at < lines.size() && lines[at].text.starts_with(kKinds)) {
      const std::optional<uint32_t> kinds = LeakKindsOf(Trimmed(lines[at].text.substr(kKinds.size())));
      if (!kinds) {
        *refusal = {lines[at].number, Quoted(lines[at].text) +
                                          " is no set of leak kinds; write all, none, or some of definite, indirect, "
                                          "possible and reachable with commas between them"};
        return std::nullopt;
      }
      rule.kinds = *kinds;
      ++at;
    }
    if (!ReadLocations(lines, at, &rule, refusal)) return std::nullopt;
    return rule;
  }

  static bool ReadLocations(const std::vector<Line>& lines, size_t at, Rule* rule, Refusal* refusal) {
    rule->matches_all = true;
    bool names_any = false;
    for (; at < lines.size(); ++at) {
      refusal->line = lines[at].number;
      if (rule->locations.size() == kMaxLocationsOfEntry) {
        refusal->what = "an entry has at most 500 lines of frames; write '...' for some of them";
        return false;
      }
      Rule::Location location;
      if (!ReadLocation(lines[at].text, &location, &refusal->what)) return false;
      const bool any = location.where == Where::kAnyFrames;
      names_any |= !any;
      // Where the source is not known, src:* does not match.
      if (!any && (location.where == Where::kSource || !location.pattern.matches_all())) rule->matches_all = false;
      rule->locations.push_back(std::move(location));
    }
    if (names_any) return true;
    refusal->what = "the entry names no frame; add a line that begins with fun:, obj: or src:";
    return false;
  }

  static bool ReadLocation(std::string_view line, Rule::Location* location, std::string* refusal) {
    if (line == "...") return true;
    std::string_view name = line;
    const std::string_view type = CutWord(&name, ':');
    if (type == "fun") {
      location->where = Where::kFunction;
    } else if (type == "obj") {
      location->where = Where::kModule;
    } else if (type == "src") {
      location->where = Where::kSource;
    } else {
      *refusal = Quoted(line) + " is no frame; frames begin with fun:, obj: or src:, or are '...'";
      return false;
    }
    if (const size_t colon = name.rfind(':'); location->where == Where::kSource && colon != std::string_view::npos) {
      const std::string_view number = name.substr(colon + 1);
      const auto parsed = std::from_chars(number.data(), number.data() + number.size(), location->line);
      if (parsed.ec != std::errc() || parsed.ptr != number.data() + number.size() || location->line == 0) {
        *refusal = Quoted(line) + " ends in no line number; write src:FILE or src:FILE:LINE";
        return false;
      }
      name = name.substr(0, colon);
    }
    std::string why;
    std::optional<NamePattern> pattern = NamePattern::FromValgrind(name, &why);
    if (!pattern) {
      *refusal = "the pattern of " + Quoted(line) + " " + why;
      return false;
    }
    location->pattern = std::move(*pattern);
    return true;
  }

  static constexpr size_t kHeadLines = 3;  // name, kind, leak kinds
  std::string_view rest_;
  Line line_;
  bool has_next_ = false;  // line_ is still to be looked at
  bool full_ = false;
  size_t locations_ = 0;
  Suppressions result_;
};

namespace {

using Where = SuppressionRule::Where;

bool MatchesAnything(const NamePattern& pattern, const SuppressionFrame& frame) {
  if (pattern.Matches(frame.module.empty() ? "<unknown module>" : frame.module)) return true;
  if (!frame.function.empty() && pattern.Matches(frame.function)) return true;
  return !frame.file.empty() && pattern.Matches(frame.file);
}

bool MatchesFrame(const SuppressionRule::Location& location, const SuppressionFrame& frame) {
  // What is not known, Valgrind calls ???.
  const auto known = [](std::string_view name) { return name.empty() ? std::string_view("???") : name; };
  switch (location.where) {
    case Where::kFunction:
      return location.pattern.Matches(known(frame.linkage_name.empty() ? frame.function : frame.linkage_name));
    case Where::kModule:
      return location.pattern.Matches(known(frame.module));
    case Where::kSource:
      // Without directories, as in Valgrind: debug information has them apart.
      return !frame.file.empty() && (location.line == 0 || location.line == frame.line) &&
             location.pattern.Matches(frame.file.substr(frame.file.rfind('/') + 1));
    case Where::kAnything:
      return MatchesAnything(location.pattern, frame);
    case Where::kAnyFrames:
      return true;
  }
  return false;
}

// The locations from the allocation outwards; what lies beyond the last one may be anything. As in NamePattern, the
// first place for what follows a `...` is as good as any.
bool MatchesFrames(const std::vector<SuppressionRule::Location>& locations, std::span<const SuppressionFrame> stack) {
  size_t at = 0, frame = 0;
  size_t after_any = SIZE_MAX, tried = 0;  // behind the last `...`: its place, and where in the stack it was tried
  while (at < locations.size()) {
    if (locations[at].where == Where::kAnyFrames) {
      after_any = ++at;
      tried = frame;
    } else if (frame == stack.size()) {
      return false;  // fewer frames are left at any later place
    } else if (MatchesFrame(locations[at], stack[frame])) {
      ++at;
      ++frame;
    } else if (after_any != SIZE_MAX) {
      at = after_any;
      frame = ++tried;
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace

bool MatchesRule(const SuppressionRule& rule, std::span<const SuppressionFrame> stack, LeakKind kind) {
  if ((rule.kinds & kind) == 0) return false;
  const SuppressionRule::Location& first = rule.locations.front();
  if (first.where != Where::kAnything) return MatchesFrames(rule.locations, stack);
  return std::any_of(stack.begin(), stack.end(),
                     [&](const SuppressionFrame& frame) { return MatchesFrame(first, frame); });
}

const SuppressionRule* Suppressions::Match(std::span<const SuppressionFrame> stack, LeakKind kind) {
  for (SuppressionRule& rule : rules_) {
    if (!MatchesRule(rule, stack, kind)) continue;
    ++rule.uses;
    return &rule;
  }
  return nullptr;
}

Suppressions ParseSuppressions(std::string_view text, const std::string& file_name) {
  return SuppressionParser(text, file_name).Parse();
}

}  // namespace tidemark
