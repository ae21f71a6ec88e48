// From rows of leak checks to a verdict: grouping, charging, which check counts, estimates, what is allowed, and names
// that outlive a build. Programs that really lose memory are in tests/preload.
#include "tools/leak_verdict.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "tests/unit/fake_trace_reader.h"
#include "tools/leak_baseline.h"
#include "tools/leak_fingerprint.h"
#include "tools/leak_formats.h"
#include "tools/leak_gate.h"
#include "tools/leak_suppressions.h"

namespace tidemark {
namespace {

constexpr uint64_t kProgram = 0x400000;

// Names are "function_<relative pc>".
class NumberSymbolizer : public Symbolizer {
 public:
  uint32_t AddModule(const TraceModule&) override { return 0; }
  const SymbolizedAddress& Resolve(uint32_t, uint64_t relative_pc) override {
    SymbolizedAddress& address = known_[relative_pc];
    if (address.frames.empty()) {
      const std::string name = relative_pc == 0x100 ? "main" : "function_" + std::to_string(relative_pc);
      address.frames = {{name, "/src/a.c", static_cast<uint32_t>(relative_pc), false}};
    }
    return address;
  }
  void Prefetch(uint32_t, const std::vector<uint64_t>&) override {}
  const ModuleSymbols& Status(uint32_t) const override { return status_; }
  void SaveCache() override {}

 private:
  std::map<uint64_t, SymbolizedAddress> known_;
  ModuleSymbols status_{SymbolSource::kDwarf, ""};
};

constexpr uint8_t kReachable = 0, kPossible = 1, kIndirect = 2, kDefinite = 3;

class Verdict : public testing::Test {
 protected:
  Verdict() { Reset(); }
  void Reset() {
    auto reader = std::make_unique<FakeTraceReader>();
    reader_ = reader.get();
    reader_->modules_ = {{kProgram, kProgram + 0x10000, kProgram, 0, "", "/bin/program"}};
    reader_->info_ = {{"leak_check", true}, {"pid", 7}};
    main_ = reader_->Node(0, kProgram + 0x101);
    list_ = reader_->Node(main_, kProgram + 0x201);
    item_ = reader_->Node(main_, kProgram + 0x301);
    trace_.reader = std::move(reader);
  }
  TraceLeaks& Check(LeakTrigger trigger, std::vector<TraceLeakRow> rows) {
    TraceLeaks leaks;
    leaks.whole = true;
    leaks.check.number = static_cast<uint32_t>(reader_->leak_checks_.size() + 1);
    leaks.check.trigger = trigger;
    leaks.check.tsc = UINT64_MAX;
    leaks.rows = std::move(rows);
    reader_->leak_checks_.push_back(std::move(leaks));
    return reader_->leak_checks_.back();
  }
  void AddTo(LeakVerdictBuilder* builder) {
    trace_.symbolizer = std::make_unique<NumberSymbolizer>();
    trace_.model = std::make_unique<HeapModel>(HeapModel::Build(*trace_.reader));
    trace_.names = std::make_unique<FrameNames>(*trace_.reader, trace_.symbolizer.get(), false);
    trace_.facts = FactsOf(*trace_.reader, *trace_.model);
    builder->Add(trace_, "x.tmk");
  }
  LeakVerdict Make(bool inherited = false) {
    LeakVerdictBuilder builder(inherited);
    AddTo(&builder);
    return builder.Take();
  }
  TraceLeakRow Row(uint8_t leak_class, uint32_t node, uint64_t bytes, uint64_t address, uint64_t leader = 0) {
    return {leak_class, 0, 0, node, 1, bytes, address, leader == 0 ? address : leader};
  }

  LoadedTrace trace_;
  FakeTraceReader* reader_;
  uint32_t main_, list_, item_;
};

TEST_F(Verdict, HeldBlocksAreChargedToTheirLeaderAndCountedOnce) {
  Check(LeakTrigger::kExitAfter, {Row(kDefinite, list_, 100, 0x1000),
                                  Row(kIndirect, item_, 40, 0x2000, 0x1000),
                                  Row(kIndirect, item_, 2, 0x3000, 0x1000),
                                  Row(kDefinite, list_, 11, 0x4000),
                                  Row(kPossible, item_, 5, 0x5000),
                                  {kReachable, 4, 0, item_, 3, 300, 0, 0}});
  const LeakVerdict verdict = Make();
  ASSERT_EQ(verdict.leaks.size(), 4u);
  const Leak& list = verdict.leaks[0];
  EXPECT_EQ(list.kind, kLeakDefinite);
  EXPECT_EQ(list.stack.front().function, "function_512");
  EXPECT_EQ(list.direct.bytes.seen, 111u);
  EXPECT_EQ(list.direct.blocks.seen, 2u);
  EXPECT_EQ(list.indirect.bytes.seen, 42u);
  EXPECT_EQ(list.indirect.blocks.seen, 2u);
  ASSERT_EQ(list.structure.size(), 1u);
  EXPECT_EQ(list.structure[0].site, "function_768  a.c:768");
  EXPECT_EQ(verdict.leaks[1].kind, kLeakIndirect);
  EXPECT_EQ(verdict.leaks[1].leaders, std::vector<size_t>{0});
  EXPECT_EQ(verdict.leaks[3].root, RootKind::kGlobal);
  uint64_t sum = 0;
  for (const Usage& total : verdict.totals) sum += total.bytes.seen;
  EXPECT_EQ(sum, 100u + 40 + 2 + 11 + 5 + 300);
  EXPECT_TRUE(verdict.could_check());
}

TEST_F(Verdict, TheLastWholeCheckCountsAndTellsWhatDestructorsLost) {
  reader_->Alloc(0x1000, 10, list_, 1);
  reader_->Alloc(0x2000, 20, item_, 2);
  reader_->threads_ = {{1, 100, 0, "main"}, {2, 101, 0, "worker"}};
  Check(LeakTrigger::kExitBefore, {Row(kDefinite, list_, 10, 0x1000)});
  Check(LeakTrigger::kExitAfter, {Row(kDefinite, list_, 10, 0x1000), Row(kDefinite, 0, 20, 0x2000)});
  Check(LeakTrigger::kUnderscoreExit, {}).check.outcome = LeakOutcome::kUnfinished;
  const LeakVerdict verdict = Make();
  ASSERT_EQ(verdict.leaks.size(), 2u);
  const Leak &late = verdict.leaks[0], &early = verdict.leaks[1];
  EXPECT_EQ(late.stack.front().function, "function_768") << "the event tells the stack that the row does not";
  EXPECT_EQ(late.threads, std::vector<std::string>{"worker (101)"});
  EXPECT_EQ(late.first_ns, 2'000'000);
  EXPECT_EQ(std::pair(late.lost_running, late.lost_at_end), std::pair(uint64_t{0}, uint64_t{1}));
  EXPECT_EQ(std::pair(early.lost_running, early.lost_at_end), std::pair(uint64_t{1}, uint64_t{0}));
  EXPECT_EQ(verdict.processes[0].check->number, 2u);
  ASSERT_EQ(verdict.processes[0].notes.size(), 1u);
  EXPECT_NE(verdict.processes[0].notes[0].find("died in the middle"), std::string::npos);
}

TEST_F(Verdict, WhatCouldNotBeCheckedSaysWhy) {
  EXPECT_NE(Make().processes[0].could_not_check.find("there is no leak check"), std::string::npos);
  reader_->info_ = nlohmann::json::object();
  EXPECT_NE(Make().processes[0].could_not_check.find("--leak-check"), std::string::npos);
  TraceLeaks& leaks = Check(LeakTrigger::kExitAfter, {Row(kDefinite, list_, 10, 0x1000)});
  leaks.whole = false;
  EXPECT_NE(Make().processes[0].could_not_check.find("parts"), std::string::npos);
  reader_->leak_checks_[0].whole = true;
  reader_->leak_checks_[0].check.outcome = LeakOutcome::kNoMaps;
  EXPECT_NE(Make().processes[0].could_not_check.find("mappings"), std::string::npos);
  EXPECT_TRUE(Make().leaks.empty());
  reader_->leak_checks_[0].check.outcome = LeakOutcome::kDone;
  reader_->leak_checks_[0].check.flags = kLeaksBlocksMissing;
  LeakVerdict verdict = Make();
  EXPECT_FALSE(verdict.could_check());
  EXPECT_EQ(verdict.leaks.size(), 1u) << "what is known is shown all the same";
  LeakPolicy policy;
  policy.fail_on = 0;
  EXPECT_EQ(Judge(policy, &verdict).status, ExitStatus::kCouldNotCheck);
  policy.fail_unchecked = false;
  EXPECT_EQ(Judge(policy, &verdict).status, ExitStatus::kOk);
}

TEST_F(Verdict, InheritedBlocksAreTheParents) {
  TraceLeakRow row = Row(kDefinite, list_, 10, 0x1000);
  row.flags = kLeakInherited;
  Check(LeakTrigger::kExitAfter, {row});
  const LeakVerdict without = Make();
  EXPECT_TRUE(without.leaks.empty());
  EXPECT_EQ(without.processes[0].inherited.bytes.seen, 10u);
  const LeakVerdict with = Make(true);
  ASSERT_EQ(with.leaks.size(), 1u);
  EXPECT_TRUE(with.leaks[0].stack.empty()) << "node numbers of another trace mean nothing here";
}

TEST_F(Verdict, ProcessesOfOneRunAreMergedByStack) {
  LeakVerdictBuilder builder(false);
  Check(LeakTrigger::kExitAfter, {Row(kDefinite, list_, 10, 0x1000)});
  AddTo(&builder);
  Reset();
  Check(LeakTrigger::kExitAfter, {Row(kDefinite, list_, 5, 0x1000), Row(kDefinite, item_, 100, 0x2000)});
  AddTo(&builder);
  const LeakVerdict verdict = builder.Take();
  ASSERT_EQ(verdict.leaks.size(), 2u);
  EXPECT_EQ(verdict.leaks[1].direct.bytes.seen, 15u);
  ASSERT_EQ(verdict.leaks[1].processes.size(), 2u);
  EXPECT_EQ(verdict.leaks[1].processes[1].direct.bytes.seen, 5u);
}

TEST_F(Verdict, SamplesAreWeighed) {
  reader_->mode_ = Mode::kSampled;
  reader_->sample_bytes_ = 1000;
  std::vector<TraceLeakRow> rows;
  for (uint64_t i = 0; i < 400; ++i) rows.push_back(Row(kDefinite, list_, 100, 0x1000 + i * 0x100));
  Check(LeakTrigger::kExitAfter, rows);
  LeakVerdict verdict = Make();
  const double expected = 400 * 100 / (1 - std::exp(-0.1));
  EXPECT_NEAR(verdict.leaks[0].direct.bytes.value(), expected, 1);
  const Interval interval = verdict.leaks[0].direct.bytes.Interval95();
  EXPECT_LT(interval.low, expected * 0.95);
  EXPECT_GT(interval.high, expected * 1.05);
  // Beyond a budget is only what is surely so.
  LeakPolicy policy;
  policy.budgets = {{static_cast<uint64_t>(expected * 0.97), 0}};
  EXPECT_EQ(Judge(policy, &verdict).status, ExitStatus::kOk);
  policy.budgets = {{static_cast<uint64_t>(expected * 0.8), 0}};
  EXPECT_EQ(Judge(policy, &verdict).status, ExitStatus::kFinding);
}

TEST_F(Verdict, BudgetsAreForClassesPlacesAndBlocks) {
  Check(LeakTrigger::kExitAfter, {Row(kDefinite, list_, 100, 0x1000), Row(kIndirect, item_, 40, 0x2000, 0x1000),
                                  Row(kPossible, item_, 5000, 0x3000)});
  LeakVerdict verdict = Make();
  const auto status = [&verdict](LeakPolicy policy) { return Judge(policy, &verdict).status; };
  EXPECT_EQ(status({}), ExitStatus::kFinding);
  EXPECT_EQ(status({kLeakDefinite, {{140, 0}}, {}, {}, true}), ExitStatus::kOk);
  EXPECT_EQ(status({kLeakDefinite, {{139, 0}}, {}, {}, true}), ExitStatus::kFinding);
  EXPECT_EQ(status({kLeakDefinite, {{4999, kLeakPossible}}, {}, {}, true}), ExitStatus::kFinding);
  EXPECT_EQ(status({kLeakDefinite, {{5000, kLeakPossible}}, {}, {}, true}), ExitStatus::kOk);
  EXPECT_EQ(status({kLeakDefinite, {{39, kLeakIndirect}}, {}, {}, true}), ExitStatus::kFinding);
  EXPECT_EQ(status({kLeakDefinite, {}, 139, {}, true}), ExitStatus::kFinding);
  EXPECT_EQ(status({kLeakDefinite, {}, 140, {}, true}), ExitStatus::kOk);
  EXPECT_EQ(status({kLeakDefinite, {}, {}, 1, true}), ExitStatus::kFinding) << "two blocks with the one it holds";
  EXPECT_EQ(status({kLeakDefinite, {}, {}, 2, true}), ExitStatus::kOk);
  EXPECT_EQ(status({0, {}, {}, {}, true}), ExitStatus::kOk);
  EXPECT_EQ(ParseBudget("64K")->bytes, 65536u);
  EXPECT_EQ(ParseBudget("1M:possible,definite")->kinds, kLeakPossible | kLeakDefinite);
  for (const char* bad : {"", "x", "1T", "1:", "1:all,", "1K2", "99999999999G", "1:none"}) {
    EXPECT_FALSE(ParseBudget(bad).has_value()) << bad;
  }
}

SuppressionOutcome Suppress(const std::string& text, LeakVerdict* verdict, bool allow_wide = false) {
  std::vector<SuppressionSource> sources;
  sources.push_back({ParseSuppressions(text, "s"), false});
  return ApplySuppressions(&sources, allow_wide, verdict);
}

TEST_F(Verdict, SuppressionsHideStructuresAndTellWhatIsWrongWithThem) {
  Check(LeakTrigger::kExitAfter, {Row(kDefinite, list_, 100, 0x1000), Row(kIndirect, item_, 40, 0x2000, 0x1000),
                                  Row(kDefinite, item_, 7, 0x3000)});
  LeakVerdict verdict = Make();
  SuppressionOutcome outcome = Suppress("leak:^function_512$\nleak:main\nleak:nowhere\nleak:*\n", &verdict);
  EXPECT_EQ(verdict.leaks[0].suppressed_by, "leak:^function_512$");
  EXPECT_EQ(verdict.leaks[0].suppressed_in, "s:1");
  EXPECT_EQ(verdict.leaks[1].suppressed_by, "") << "another definite leak";
  EXPECT_EQ(verdict.leaks[2].kind, kLeakIndirect);
  EXPECT_NE(verdict.leaks[2].suppressed_by, "") << "its only leader is suppressed";
  std::string warnings;
  for (const std::string& warning : outcome.warnings) warnings += warning + "\n";
  EXPECT_NE(warnings.find("s:2: 'leak:main' matches main"), std::string::npos) << warnings;
  EXPECT_NE(warnings.find("s:3: 'leak:nowhere' matches nothing"), std::string::npos) << warnings;
  EXPECT_NE(warnings.find("s:4: 'leak:*' matches main"), std::string::npos) << warnings;
  ASSERT_EQ(outcome.used.size(), 1u);
  EXPECT_EQ(outcome.used[0].amount.bytes.seen, 140u);
  EXPECT_EQ(Judge({}, &verdict).failing, 1u);

  LeakVerdict wide = Make();
  Suppress("leak:main\n", &wide, true);
  EXPECT_EQ(Judge({}, &wide).status, ExitStatus::kOk);
  for (const char* entry : {"fun:malloc\n...\nfun:main\n", "fun:*\n", "...\nobj:*\n"}) {
    LeakVerdict fresh = Make();
    Suppress(std::string("{\nx\nMemcheck:Leak\n") + entry + "}\n", &fresh);
    EXPECT_EQ(Judge({}, &fresh).failing, 2u) << entry;
  }
}

// What is printed as a suppression suppresses that leak and no other.
TEST_F(Verdict, SuggestedRulesWork) {
  Check(LeakTrigger::kExitAfter, {Row(kDefinite, list_, 100, 0x1000), Row(kDefinite, item_, 7, 0x3000)});
  const LeakVerdict verdict = Make();
  for (size_t i = 0; i < 2; ++i) {
    for (const std::string& rule : {SuggestedRule(verdict.leaks[i]), ValgrindEntry(verdict.leaks[i])}) {
      LeakVerdict fresh = Make();
      const SuppressionOutcome outcome = Suppress(rule, &fresh);
      EXPECT_NE(fresh.leaks[i].suppressed_by, "") << rule;
      EXPECT_EQ(fresh.leaks[1 - i].suppressed_by, "") << rule;
      EXPECT_TRUE(outcome.warnings.empty()) << outcome.warnings[0];
    }
  }
}

TEST(DefaultSuppressions, AreSoundAndNotWide) {
  const Suppressions rules = ParseSuppressions(DefaultSuppressions(), "default.supp");
  EXPECT_GT(rules.rules().size(), 20u);
  EXPECT_EQ(rules.problem_count(), 0u) << rules.problems()[0];
  EXPECT_EQ(rules.ignored(), 0u);
  LeakVerdict nothing;
  std::vector<SuppressionSource> sources;
  sources.push_back({rules, true});
  EXPECT_TRUE(ApplySuppressions(&sources, false, &nothing).warnings.empty());
  // A plugin's constructor runs below the loader, and its leaks are its own.
  const SuppressionFrame plugin[] = {{"malloc", "malloc", "", "libtidemark.so", 0},
                                     {"plugin_start", "", "", "/lib/plugin.so", 0},
                                     {"call_init", "", "", "/lib64/ld-linux-x86-64.so.2", 0},
                                     {"dl_open_worker", "", "", "/lib64/ld-linux-x86-64.so.2", 0}};
  for (const SuppressionRule& rule : rules.rules()) EXPECT_FALSE(MatchesRule(rule, plugin, kLeakDefinite)) << rule.text;
  const SuppressionFrame loader[] = {{"calloc", "calloc", "", "libtidemark.so", 0},
                                     {"_dl_new_object", "", "", "/lib64/ld-linux-x86-64.so.2", 0}};
  EXPECT_TRUE(std::any_of(rules.rules().begin(), rules.rules().end(),
                          [&](const SuppressionRule& rule) { return MatchesRule(rule, loader, kLeakDefinite); }));
}

TEST_F(Verdict, BaselineKnowsGrowsExpiresAndKeepsWhatPeopleWrote) {
  Check(LeakTrigger::kExitAfter, {Row(kDefinite, list_, 100, 0x1000), Row(kDefinite, item_, 7, 0x3000)});
  LeakVerdict verdict = Make();
  Result<LeakBaseline> empty =
      LeakBaseline::Parse(R"({"schema":"tidemark.leak-baseline/1","leaks":[]})", "b", "2026-01-01");
  ASSERT_TRUE(empty.ok());
  nlohmann::json file = nlohmann::json::parse(empty->Updated(kLeakDefinite, verdict));
  ASSERT_EQ(file["leaks"].size(), 2u);
  const auto judged = [&](const nlohmann::json& json, double growth = 0) {
    verdict = Make();
    Result<LeakBaseline> baseline = LeakBaseline::Parse(json.dump(), "b", "2026-01-01");
    EXPECT_TRUE(baseline.ok());
    baseline->Compare(kLeakDefinite, growth, &verdict);
    return Judge({}, &verdict).failing;
  };
  EXPECT_EQ(judged(file), 0u);
  nlohmann::json smaller = file;
  smaller["leaks"][0]["bytes"] = 99;
  EXPECT_EQ(judged(smaller), 1u);
  EXPECT_EQ(verdict.leaks[0].baseline, BaselineState::kGrown);
  EXPECT_EQ(judged(smaller, 2), 0u);
  nlohmann::json fuzzy = file;
  fuzzy["leaks"][0]["fingerprint"] = "0000000000000000";
  EXPECT_EQ(judged(fuzzy), 0u);
  fuzzy["leaks"][0]["fuzzy"] = "0000000000000000";
  EXPECT_EQ(judged(fuzzy), 1u);
  nlohmann::json dated = file;
  dated["leaks"][0]["expires"] = "2025-12-31";
  dated["leaks"][1]["expires"] = "2026-01-01";
  EXPECT_EQ(judged(dated), 1u);
  dated["leaks"][1]["owner"] = "somebody";
  dated["leaks"][1]["ticket"] = {{"number", 3}};
  Result<LeakBaseline> baseline = LeakBaseline::Parse(dated.dump(), "b", "2026-01-01");
  ASSERT_TRUE(baseline.ok());
  const nlohmann::json updated = nlohmann::json::parse(baseline->Updated(kLeakDefinite, verdict));
  EXPECT_EQ(updated["leaks"][1]["owner"], "somebody");
  EXPECT_EQ(updated["leaks"][1]["ticket"]["number"], 3);
  EXPECT_FALSE(updated["leaks"][0].contains("expires"));
  for (const char* bad :
       {"", "[]", "{}", R"({"schema":"tidemark.leak-baseline/1"})",
        R"({"schema":"tidemark.leak-baseline/1","leaks":[1]})",
        R"({"schema":"tidemark.leak-baseline/1","leaks":[{"fingerprint":"a"}]})",
        R"({"schema":"tidemark.leak-baseline/1","leaks":[{"fingerprint":"a","class":"b","expires":1}]})"}) {
    const Result<LeakBaseline> refused = LeakBaseline::Parse(bad, "b", "2026-01-01");
    ASSERT_FALSE(refused.ok()) << bad;
    EXPECT_EQ(refused.error().status, ExitStatus::kUnreadable);
  }
}

Leak WithStack(std::vector<LeakFrame> stack) {
  Leak leak;
  leak.stack = std::move(stack);
  std::tie(leak.fingerprint, leak.fuzzy) = FingerprintsOf(leak);
  return leak;
}

TEST(Fingerprints, SurviveWhatABuildChanges) {
  const auto stack = [](const char* libc, uint32_t line, const char* type, const char* caller) {
    return WithStack({{std::string("Grow<") + type + ">(int)", "/lib/libx.so.1.2", "a.cc", line, 1, false, true},
                      {"std::vector<int>::push_back", "/bin/p", "v.h", line, 2, true, true},
                      {"qsort", libc, "", 0, 3, false, true},
                      {"f1", "/bin/p", "", 0, 4, false, true},
                      {"f2", "/bin/p", "", 0, 5, false, true},
                      {"f3", "/bin/p", "", 0, 6, false, true},
                      {"f4", "/bin/p", "", 0, 7, false, true},
                      {caller, "/bin/p", "", 0, 8, false, true},
                      {"__libc_start_main", libc, "", 0, 9, false, true}});
  };
  const Leak leak = stack("/lib/libc.so.6", 10, "int", "main");
  const Leak moved = stack("/lib/libc-2.31.so", 99, "int", "main");
  EXPECT_EQ(leak.fingerprint, moved.fingerprint);
  EXPECT_EQ(leak.fuzzy, moved.fuzzy);
  const Leak other_type = stack("/lib/libc.so.6", 10, "long", "main");
  EXPECT_NE(leak.fingerprint, other_type.fingerprint);
  EXPECT_EQ(leak.fuzzy, other_type.fuzzy);
  const Leak other_caller = stack("/lib/libc.so.6", 10, "int", "run");
  EXPECT_NE(leak.fingerprint, other_caller.fingerprint);
  EXPECT_EQ(leak.fuzzy, other_caller.fuzzy) << "the sixth frame of its own";
  EXPECT_EQ(leak.fingerprint.size(), 16u);
  EXPECT_NE(WithStack({}).fingerprint, leak.fingerprint);
}

TEST(Fingerprints, NamesWithoutWhatChanges) {
  EXPECT_EQ(ModuleStem("/usr/lib/libfoo.so.1.2.3"), "libfoo.so");
  EXPECT_EQ(ModuleStem("libfoo-1.2.so"), "libfoo.so");
  EXPECT_EQ(ModuleStem("/opt/a b/program-2"), "program-2");
  EXPECT_EQ(ModuleStem(""), "");
  EXPECT_EQ(WithoutTemplateArguments("f<int>(std::vector<a<b>>)"), "f<>(std::vector<>)");
  EXPECT_EQ(WithoutTemplateArguments("A<int>::operator<<(int)"), "A<>::operator<<(int)");
  EXPECT_EQ(WithoutTemplateArguments("A::operator->()"), "A::operator->()");
  EXPECT_EQ(WithoutTemplateArguments("A::operator><int>(A<int>)"), "A::operator><>(A<>)");
  EXPECT_EQ(WithoutTemplateArguments("my_operator<int>()"), "my_operator<>()");
  EXPECT_EQ(WithoutTemplateArguments("f<<<"), "f<>");
  EXPECT_EQ(WithoutTemplateArguments(""), "");
}

TEST_F(Verdict, FormatsEscapeWhatTheyAreGiven) {
  Check(LeakTrigger::kExitAfter, {Row(kDefinite, list_, 100, 0x1000)});
  LeakReport report;
  report.verdict = Make();
  LeakFrame& frame = report.verdict.leaks[0].stack[0];
  frame.function = "evil<a&b>::f\n::error::x,\"%\x01\xff";
  frame.file = "/src/odd, name:1%.c";
  report.source_root = "/src";
  report.decision = Judge({}, &report.verdict);
  const std::string github = LeakGithub(report);
  EXPECT_EQ(std::count(github.begin(), github.end(), '\n'), 1) << github;
  EXPECT_NE(github.find("file=odd%2C name%3A1%25.c,line=512"), std::string::npos) << github;
  for (const std::string& text : {LeakSarif(report), LeakJson(report)}) {
    EXPECT_FALSE(nlohmann::json::parse(text, nullptr, false).is_discarded());
  }
  for (const std::string& xml : {LeakJunit(report), LeakMemcheckXml(report)}) {
    EXPECT_EQ(xml.find("evil<"), std::string::npos);
    EXPECT_NE(xml.find("evil&lt;a&amp;b&gt;"), std::string::npos);
    EXPECT_EQ(xml.find('\x01'), std::string::npos);
  }
  const std::string text = LeakText(report, {});
  EXPECT_EQ(text.find('\x01'), std::string::npos);
  EXPECT_EQ(text.find("\n::error"), std::string::npos);
}

TEST_F(Verdict, GithubShowsTenAndTellsTheRest) {
  std::vector<TraceLeakRow> rows;
  for (uint32_t i = 0; i < 30; ++i)
    rows.push_back(Row(kDefinite, reader_->Node(main_, kProgram + 0x1001 + i), 10 + i, 0x1000 + i * 16));
  Check(LeakTrigger::kExitAfter, rows);
  LeakReport report;
  report.verdict = Make();
  report.decision = Judge({}, &report.verdict);
  EXPECT_EQ(report.decision.failing, 30u);
  const std::string github = LeakGithub(report);
  EXPECT_EQ(std::count(github.begin(), github.end(), '\n'), 10);
  EXPECT_NE(github.find("21 more are not shown"), std::string::npos) << github;
}

}  // namespace
}  // namespace tidemark
