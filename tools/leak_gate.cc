// See leak_gate.h.
#include "tools/leak_gate.h"

#include <fmt/format.h>

#include <charconv>

#include "tools/leak_suppressions.h"
#include "tools/text_table.h"

namespace tidemark {
namespace {

std::string Bytes(uint64_t bytes) {
  return bytes < 1024 ? fmt::format("{} bytes", bytes)
                      : fmt::format("{} bytes ({})", HumanCount(bytes), HumanBytes(static_cast<double>(bytes)));
}

bool Exceeds(const Amount& amount, uint64_t budget) { return amount.Interval95().low > static_cast<double>(budget); }

std::string Kinds(uint32_t kinds) {
  std::string text;
  for (LeakKind kind : kLeakKinds) {
    if ((kinds & kind) != 0) text += (text.empty() ? "" : " and ") + std::string(TitleOf(kind));
  }
  return text;
}

// What a budget counts: an indirectly lost block is in its leader's sum, unless indirectly lost ones are all it is for.
Usage CountedFor(const Leak& leak, uint32_t kinds) {
  if ((leak.kind & kinds) == 0) return {};
  if (leak.kind == kLeakDefinite) return leak.whole();
  if (leak.kind == kLeakIndirect && (kinds & kLeakDefinite) != 0 && !leak.leaders.empty()) return {};
  return leak.direct;
}

class Judgement {
 public:
  Judgement(const LeakPolicy& policy, LeakVerdict* verdict) : policy_(policy), verdict_(*verdict) {}

  LeakDecision Run() {
    for (Leak& leak : verdict_.leaks) {
      leak.rule = SuggestedRule(leak);
      leak.fails = Counts(leak, policy_.fail_on) && !policy_.has_budgets();
    }
    for (const LeakBudget& budget : policy_.budgets) JudgeBudget(budget);
    JudgeSites();
    JudgeBlocks();
    CountLeaks();
    JudgeUnchecked();
    if (decision_.reasons.empty()) decision_.reasons.push_back(WhyFine());
    return std::move(decision_);
  }

 private:
  bool Counts(const Leak& leak, uint32_t kinds) const {
    if ((leak.kind & kinds) == 0 || !leak.suppressed_by.empty() || leak.baseline == BaselineState::kKnown) return false;
    // Its leader speaks for it.
    return leak.kind != kLeakIndirect || (kinds & kLeakDefinite) == 0 || leak.leaders.empty();
  }

  void Fail(std::string reason) {
    decision_.status = ExitStatus::kFinding;
    decision_.reasons.push_back(std::move(reason));
  }

  void JudgeBudget(const LeakBudget& budget) {
    const uint32_t kinds = budget.kinds != 0 ? budget.kinds : policy_.fail_on;
    Usage sum;
    for (const Leak& leak : verdict_.leaks) {
      if (Counts(leak, kinds)) sum += CountedFor(leak, kinds);
    }
    if (!Exceeds(sum.bytes, budget.bytes)) return;
    Fail(fmt::format("{} {}, and the budget is {}", Bytes(sum.bytes.Rounded()), Kinds(kinds), Bytes(budget.bytes)));
    for (Leak& leak : verdict_.leaks) leak.fails |= Counts(leak, kinds);
  }

  void JudgeSites() {
    if (!policy_.max_per_site) return;
    for (Leak& leak : verdict_.leaks) {
      const Amount bytes = CountedFor(leak, policy_.fail_on).bytes;
      if (!Counts(leak, policy_.fail_on) || !Exceeds(bytes, *policy_.max_per_site)) continue;
      leak.fails = true;
      Fail(fmt::format("{} are lost at {}, and the budget of a place is {}", Bytes(bytes.Rounded()),
                       leak.stack.empty() ? "an unknown place" : Printable(leak.stack.front().function),
                       Bytes(*policy_.max_per_site)));
    }
  }

  void JudgeBlocks() {
    if (!policy_.max_blocks) return;
    Amount blocks;
    for (const Leak& leak : verdict_.leaks) {
      if (Counts(leak, policy_.fail_on)) blocks += CountedFor(leak, policy_.fail_on).blocks;
    }
    if (!Exceeds(blocks, *policy_.max_blocks)) return;
    Fail(fmt::format("{} blocks are {}, and the budget is {}", HumanCount(blocks.Rounded()), Kinds(policy_.fail_on),
                     HumanCount(*policy_.max_blocks)));
    for (Leak& leak : verdict_.leaks) leak.fails |= Counts(leak, policy_.fail_on);
  }

  void CountLeaks() {
    size_t grown = 0;
    for (const Leak& leak : verdict_.leaks) {
      decision_.failing += leak.fails;
      grown += leak.fails && leak.baseline == BaselineState::kGrown;
    }
    if (policy_.has_budgets() || decision_.failing == 0) return;
    Fail(fmt::format("{} {} not allowed{}", HumanCount(decision_.failing),
                     decision_.failing == 1 ? "leak is" : "leaks are",
                     grown != 0 ? fmt::format(" ({} known, but grown)", HumanCount(grown)) : std::string()));
  }

  void JudgeUnchecked() {
    if (verdict_.processes.empty()) {
      decision_.reasons.push_back("no process was recorded, so nothing was checked");
      if (decision_.status == ExitStatus::kOk) decision_.status = ExitStatus::kCouldNotCheck;
    }
    for (const LeakProcess& process : verdict_.processes) {
      if (process.could_not_check.empty()) continue;
      decision_.reasons.push_back(fmt::format("{}{} could not be checked: {}", Printable(process.command),
                                              process.pid != 0 ? fmt::format(" (pid {})", process.pid) : std::string(),
                                              Printable(process.could_not_check)));
      if (policy_.fail_unchecked && decision_.status == ExitStatus::kOk) decision_.status = ExitStatus::kCouldNotCheck;
    }
  }

  std::string WhyFine() const {
    if (policy_.has_budgets()) return "all is within the budgets";
    for (const Leak& leak : verdict_.leaks) {
      if ((leak.kind & policy_.fail_on) != 0) return "every leak is suppressed or in the baseline";
    }
    return "nothing is " + (policy_.fail_on == 0 ? std::string("looked for") : Kinds(policy_.fail_on));
  }

  const LeakPolicy& policy_;
  LeakVerdict& verdict_;
  LeakDecision decision_;
};

}  // namespace

LeakDecision Judge(const LeakPolicy& policy, LeakVerdict* verdict) { return Judgement(policy, verdict).Run(); }

std::optional<LeakBudget> ParseBudget(const std::string& text) {
  LeakBudget budget;
  const char* end = text.data() + text.size();
  auto [rest, error] = std::from_chars(text.data(), end, budget.bytes);
  if (error != std::errc()) return std::nullopt;
  if (rest != end && *rest != ':') {
    const size_t unit = std::string_view("KMG").find(static_cast<char>(*rest & ~0x20));
    const unsigned shift = unit == std::string_view::npos ? 0 : 10 * static_cast<unsigned>(unit + 1);
    if (shift == 0 || budget.bytes << shift >> shift != budget.bytes) return std::nullopt;
    budget.bytes <<= shift;
    ++rest;
  }
  if (rest == end) return budget;
  if (*rest != ':') return std::nullopt;
  const std::optional<uint32_t> kinds = LeakKindSet(std::string_view(rest + 1, static_cast<size_t>(end - rest - 1)));
  if (!kinds || *kinds == 0) return std::nullopt;
  budget.kinds = *kinds;
  return budget;
}

}  // namespace tidemark
