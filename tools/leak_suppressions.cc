// See leak_suppressions.h.
#include "tools/leak_suppressions.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/leak_fingerprint.h"
#include "tools/text_table.h"

namespace tidemark {
namespace {

// The file as it stands in the source tree.
constexpr char kDefaultSuppressions[] = {
#include "tools/default_suppressions.inc"
};

using Stack = std::vector<SuppressionFrame>;

// With the allocation function in front, as Valgrind's stacks are.
Stack StackOf(const Leak& leak) {
  Stack stack;
  if (leak.stack.empty()) return stack;
  stack.push_back({leak.allocator, leak.allocator_linkage, "", "libtidemark.so", 0});
  for (const LeakFrame& frame : leak.stack) {
    const std::string_view function = frame.known ? std::string_view(frame.function) : std::string_view();
    stack.push_back({function, "", frame.file, frame.module, frame.line});
  }
  return stack;
}

// What every program has: the frames that no rule may be content with.
bool FitsEveryProgram(const SuppressionRule& rule) {
  if (rule.matches_all) return true;
  const Stack start = {{"malloc", "malloc", "", "libtidemark.so", 0},
                       {"main", "main", "", "\x01", 0},
                       {"__libc_start_call_main", "", "", "/lib/x86_64-linux-gnu/libc.so.6", 0},
                       {"__libc_start_main", "", "", "/lib/x86_64-linux-gnu/libc.so.6", 0},
                       {"_start", "_start", "", "\x01", 0}};
  for (LeakKind kind : kLeakKinds) {
    if (MatchesRule(rule, start, kind)) return true;
  }
  return false;
}

std::string Where(const Suppressions& rules, const SuppressionRule& rule) {
  return fmt::format("{}:{}", rules.file_name(), rule.line);
}

class Application {
 public:
  Application(std::vector<SuppressionSource>* sources, bool allow_wide, LeakVerdict* verdict)
      : sources_(*sources), allow_wide_(allow_wide), verdict_(*verdict) {}

  SuppressionOutcome Run() {
    Choose();
    for (Leak& leak : verdict_.leaks) Match(&leak);
    SuppressHeld();
    for (const Candidate& candidate : rules_) Tell(candidate);
    return std::move(outcome_);
  }

 private:
  struct Candidate {
    const SuppressionSource* source;
    const SuppressionRule* rule;
    uint64_t stacks = 0;  // that it matches, whoever was first
    SuppressionOutcome::Used used;
  };

  void Choose() {
    for (SuppressionSource& source : sources_) {
      for (const std::string& problem : source.rules.problems()) outcome_.warnings.push_back(problem);
      if (source.rules.problem_count() > source.rules.problems().size()) {
        outcome_.warnings.push_back(fmt::format("{}: and {} further lines that cannot be understood",
                                                source.rules.file_name(),
                                                source.rules.problem_count() - source.rules.problems().size()));
      }
      for (const SuppressionRule& rule : source.rules.rules()) {
        const std::string where = Where(source.rules, rule);
        if (!allow_wide_ && FitsEveryProgram(rule)) {
          outcome_.warnings.push_back(
              fmt::format("{}: '{}' matches main or what starts a program, so it would hide every leak: not used; name "
                          "the function "
                          "that loses the memory, or say --allow-wide-suppressions",
                          where, Printable(rule.text)));
          continue;
        }
        rules_.push_back({&source, &rule, 0, {rule.text, where, 0, {}}});
      }
    }
  }

  void Match(Leak* leak) {
    const Stack stack = StackOf(*leak);
    if (stack.empty()) return;
    ++stacks_;
    for (Candidate& candidate : rules_) {
      if (!MatchesRule(*candidate.rule, stack, leak->kind)) continue;
      ++candidate.stacks;
      if (!leak->suppressed_by.empty()) continue;
      leak->suppressed_by = candidate.rule->text;
      leak->suppressed_in = candidate.used.where;
      ++candidate.used.leaks;
      candidate.used.amount += leak->direct;
    }
  }

  // Nothing is left of a structure whose heads are all suppressed.
  void SuppressHeld() {
    for (Leak& leak : verdict_.leaks) {
      if (leak.kind != kLeakIndirect || !leak.suppressed_by.empty() || leak.leaders.empty()) continue;
      const bool all = std::all_of(leak.leaders.begin(), leak.leaders.end(),
                                   [this](size_t leader) { return !verdict_.leaks[leader].suppressed_by.empty(); });
      if (!all) continue;
      leak.suppressed_by = verdict_.leaks[leak.leaders.front()].suppressed_by;
      leak.suppressed_in = verdict_.leaks[leak.leaders.front()].suppressed_in;
      for (Candidate& candidate : rules_) {
        if (candidate.used.where == leak.suppressed_in) candidate.used.amount += leak.direct;
      }
    }
  }

  void Tell(const Candidate& candidate) {
    if (candidate.used.leaks != 0) outcome_.used.push_back(candidate.used);
    if (candidate.source->is_default) return;
    const std::string name = fmt::format("{}: '{}'", candidate.used.where, Printable(candidate.rule->text));
    if (candidate.stacks == 0) {
      outcome_.warnings.push_back(name + " matches nothing: nobody needs it any more, or it never fitted");
    } else if (candidate.stacks * 2 > stacks_ && stacks_ >= kFewStacks) {
      outcome_.warnings.push_back(fmt::format("{} matches {} of {} stacks: more than one leak seems to be meant", name,
                                              candidate.stacks, stacks_));
    }
  }

  static constexpr uint64_t kFewStacks = 4;  // with fewer, half of them says nothing
  std::vector<SuppressionSource>& sources_;
  const bool allow_wide_;
  LeakVerdict& verdict_;
  std::vector<Candidate> rules_;
  uint64_t stacks_ = 0;
  SuppressionOutcome outcome_;
};

}  // namespace

SuppressionOutcome ApplySuppressions(std::vector<SuppressionSource>* sources, bool allow_wide, LeakVerdict* verdict) {
  return Application(sources, allow_wide, verdict).Run();
}

std::string SuggestedRule(const Leak& leak) {
  for (const LeakFrame& frame : leak.stack) {
    if (!frame.known || IsRuntimeFrame(frame) || frame.function == "main") continue;
    // Line ends cannot be, stars stand for themselves well enough.
    if (frame.function.find_first_of("\n\r") != std::string::npos) continue;
    return "leak:^" + frame.function + "$";
  }
  return leak.stack.empty() ? "" : ValgrindEntry(leak);
}

std::string ValgrindEntry(const Leak& leak) {
  if (leak.stack.empty()) return "";
  constexpr size_t kFrames = 5;
  std::string entry = fmt::format("{{\n   leak {}\n   Memcheck:Leak\n   match-leak-kinds: {}\n   fun:{}\n",
                                  leak.fingerprint, WordOf(leak.kind), leak.allocator_linkage);
  size_t frames = 0;
  for (const LeakFrame& frame : leak.stack) {
    if (++frames > kFrames) break;
    if (frame.known && frame.function.find_first_of("\n\r") == std::string::npos) {
      entry += "   fun:" + frame.function + "\n";
    } else {
      entry += "   obj:" + (frame.module.empty() ? std::string("*") : frame.module) + "\n";
    }
  }
  return entry + (leak.stack.size() > kFrames ? "   ...\n}\n" : "}\n");
}

std::string_view DefaultSuppressions() { return {kDefaultSuppressions, sizeof kDefaultSuppressions}; }

}  // namespace tidemark
