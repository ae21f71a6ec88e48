// What the views print: names and folding, hotspot tables, flame graphs and exports add up to the model's totals, and
// no name from a foreign file can break a format.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "tests/unit/fake_trace_reader.h"
#include "tools/call_tree.h"
#include "tools/export_folded.h"
#include "tools/export_json.h"
#include "tools/flamegraph_svg.h"
#include "tools/hotspots.h"
#include "tools/output_stream.h"
#include "tools/report_text.h"
#include "tools/text_table.h"

namespace tidemark {
namespace {

constexpr uint64_t kProgram = 0x400000, kLibrary = 0x7f0000000000;

class FakeSymbolizer : public Symbolizer {
 public:
  uint32_t AddModule(const TraceModule& module) override {
    return ids_.try_emplace(module.path, static_cast<uint32_t>(ids_.size())).first->second;
  }
  const SymbolizedAddress& Resolve(uint32_t module, uint64_t relative_pc) override {
    return known_[{module, relative_pc}];
  }
  void Prefetch(uint32_t, const std::vector<uint64_t>&) override {}
  const ModuleSymbols& Status(uint32_t) const override { return status_; }
  void SaveCache() override {}

  std::map<std::pair<uint32_t, uint64_t>, SymbolizedAddress> known_;

 private:
  std::map<std::string, uint32_t> ids_;
  ModuleSymbols status_{SymbolSource::kDwarf, ""};
};

// main -> work (with grow inlined into it) -> operator new -> malloc; main -> evil name; library without symbols.
class Views : public testing::Test {
 protected:
  Views() {
    reader_.modules_ = {{kProgram, kProgram + 0x10000, kProgram, 0, "", "/bin/program"},
                        {kLibrary, kLibrary + 0x10000, kLibrary, 0, "", "/lib/libx.so.1"}};
    main_ = reader_.Node(0, kProgram + 0x101);
    const uint32_t work = reader_.Node(main_, kProgram + 0x201);
    const uint32_t new_node = reader_.Node(work, kLibrary + 0x301);
    leaf_ = reader_.Node(new_node, kProgram + 0x401);
    evil_ = reader_.Node(main_, kProgram + 0x501);
    unknown_ = reader_.Node(main_, kLibrary + 0x601);
    Know(0, 0x100, {{"main", "/src/main.cc", 10, false}});
    Know(0, 0x200, {{"grow(int)", "/src/grow.h", 7, true}, {"work(std::vector<int>&)", "/src/work.cc", 20, false}});
    Know(1, 0x300, {{"operator new(unsigned long)", "", 0, false}});
    Know(0, 0x400, {{"operator new[](unsigned long)", "", 0, false}});
    Know(0, 0x500, {{kEvil, "", 0, false}});
    reader_.Alloc(0x10000, 700, leaf_);
    reader_.Alloc(0x20000, 200, evil_, 2);
    reader_.Alloc(0x30000, 99, unknown_);
    reader_.Alloc(0x40000, 1, main_);
    reader_.threads_ = {{1, 100, 0, "program"}, {2, 101, 0, "worker"}};
  }
  void Know(uint32_t module, uint64_t pc, std::vector<SymbolFrame> frames) {
    symbolizer_.known_[{module, pc}].frames = std::move(frames);
  }
  std::string NamesOf(FrameNames& names, uint32_t node) {
    std::string text;
    for (uint32_t frame : names.StackOf(node)) text += names.function_of(frame).name + "|";
    return text;
  }

  static constexpr const char* kEvil = "evil<a&b>;\"'\n]]>\x01\xff\xc3\xa9";
  FakeTraceReader reader_;
  FakeSymbolizer symbolizer_;
  uint32_t main_, leaf_, evil_, unknown_;
};

TEST_F(Views, AllocatorFramesAtTheLeafAreFolded) {
  FrameNames folded(reader_, &symbolizer_, false);
  EXPECT_EQ(NamesOf(folded, leaf_), "grow(int)|work(std::vector<int>&)|main|");
  FrameNames all(reader_, &symbolizer_, true);
  EXPECT_EQ(NamesOf(all, leaf_),
            "operator new[](unsigned long)|operator new(unsigned long)|grow(int)|work(std::vector<int>&)|main|");
  EXPECT_EQ(NamesOf(folded, 0), "[no stack]|");
  EXPECT_EQ(NamesOf(folded, unknown_), "libx.so.1+0x600|main|");
  FrameNames bare(reader_, nullptr, false);
  EXPECT_EQ(NamesOf(bare, evil_), "program+0x500|program+0x100|");
}

TEST_F(Views, StepsAreTheStackNodeByNode) {
  FrameNames names(reader_, &symbolizer_, false);
  std::string text;
  for (const FrameNames::Step& step : names.StepsOf(leaf_)) {
    text += std::to_string(names.PcOf(step.node) - kProgram) + "-" + std::to_string(step.left_out) + ":";
    for (uint32_t i = 0; i < step.count; ++i) text += names.function_of(step.frames[i]).name + "|";
  }
  EXPECT_EQ(text, "512-0:grow(int)|work(std::vector<int>&)|256-0:main|");
  EXPECT_EQ(names.StepsOf(0).front().node, 0u);
  // An allocator's frame that was inlined into its caller is left out of the caller's node.
  Know(0, 0x600, {{"operator new(unsigned long)", "", 0, true}, {"make()", "", 0, false}});
  const uint32_t inlined = reader_.Node(main_, kProgram + 0x601);
  FrameNames again(reader_, &symbolizer_, false);
  EXPECT_EQ(again.StepsOf(inlined).front().left_out, 1u);
  EXPECT_EQ(NamesOf(again, inlined), "make()|main|");
}

TEST_F(Views, OddStacks) {
  const uint32_t cut = reader_.Node(main_, 0, kNodeTruncated);
  const uint32_t above_cut = reader_.Node(cut, kProgram + 0x201);
  const uint32_t nowhere = reader_.Node(main_, 0x1235);
  const uint32_t signal = reader_.Node(main_, kProgram + 0x200, kNodeSignal);
  const uint32_t only_allocator = reader_.Node(0, kProgram + 0x401);
  // A damaged tree: each the other's parent.
  const uint32_t a = reader_.Node(0, kProgram + 0x101);
  const uint32_t b = reader_.Node(a, kProgram + 0x101);
  reader_.nodes_[a].parent = b;
  FrameNames names(reader_, &symbolizer_, false);
  EXPECT_EQ(NamesOf(names, above_cut), "grow(int)|work(std::vector<int>&)|[truncated]|main|");
  EXPECT_EQ(NamesOf(names, nowhere), "[unknown module+0x1234]|main|");
  EXPECT_EQ(NamesOf(names, signal), "grow(int)|work(std::vector<int>&)|main|");
  EXPECT_EQ(NamesOf(names, only_allocator), "operator new[](unsigned long)|");
  EXPECT_EQ(names.StackOf(b).size(), 65537u);
  EXPECT_EQ(names.function_of(names.StackOf(b).back()).name, "[truncated]");
}

TEST_F(Views, TheLatestModuleAtAnAddressWins) {
  reader_.modules_.push_back({kLibrary + 0x200, kLibrary + 0x700, kLibrary, 50, "", "/lib/libnew.so"});
  FrameNames names(reader_, nullptr, false);
  EXPECT_EQ(NamesOf(names, unknown_), "libnew.so+0x600|program+0x100|");
  const uint32_t before = reader_.Node(0, kLibrary + 0x101), behind = reader_.Node(0, kLibrary + 0x801);
  FrameNames again(reader_, nullptr, false);
  EXPECT_EQ(NamesOf(again, before), "libx.so.1+0x100|");
  EXPECT_EQ(NamesOf(again, behind), "libx.so.1+0x800|");
}

TEST(AllocatorEntry, IsADoorNotAWrapper) {
  EXPECT_TRUE(IsAllocatorEntry("operator new(unsigned long, std::align_val_t)", "libstdc++.so.6"));
  EXPECT_TRUE(IsAllocatorEntry("operator new[](unsigned long)", "program"));
  EXPECT_TRUE(IsAllocatorEntry("anything", "libtidemark.so"));
  EXPECT_TRUE(IsAllocatorEntry("malloc", "libc.so.6"));
  EXPECT_FALSE(IsAllocatorEntry("operator new_thing", "program"));
  EXPECT_FALSE(IsAllocatorEntry("g_malloc", "libglib-2.0.so.0"));
  EXPECT_FALSE(IsAllocatorEntry("malloc", "program"));
  EXPECT_FALSE(IsAllocatorEntry("strdup", "libc.so.6"));
  EXPECT_FALSE(IsAllocatorEntry("x", "libtidemarkets.so"));
}

TEST_F(Views, HotspotsAddUp) {
  const HeapModel model = HeapModel::Build(reader_);
  for (Grouping by : {Grouping::kSite, Grouping::kFunction, Grouping::kModule, Grouping::kThread, Grouping::kSize}) {
    SCOPED_TRACE(NameOf(by));
    FrameNames names(reader_, &symbolizer_, false);
    const Hotspots found = FindHotspots(reader_, model, names, by, Metric::kAllocated, 100, 3);
    uint64_t sum = 0;
    for (const Hotspot& row : found.rows) sum += row.self.bytes.seen;
    EXPECT_EQ(sum, 1000u);
    EXPECT_EQ(found.whole.bytes.seen, 1000u);
    EXPECT_EQ(FindHotspots(reader_, model, names, by, Metric::kAllocated, 1, 3).rows.size(), 1u);
  }
  FrameNames names(reader_, &symbolizer_, false);
  const Hotspots sites = FindHotspots(reader_, model, names, Grouping::kSite, Metric::kAllocated, 100, 3);
  EXPECT_EQ(sites.rows[0].name, "grow(int)");
  EXPECT_EQ(sites.rows[0].place, "grow.h:7");
  ASSERT_EQ(sites.rows[0].callers.size(), 2u);
  EXPECT_EQ(names.function_of(sites.rows[0].callers[1].frame).name, "main");
  const Hotspots functions = FindHotspots(reader_, model, names, Grouping::kFunction, Metric::kAllocated, 100, 0);
  for (const Hotspot& row : functions.rows) {
    if (row.name == "main") {
      EXPECT_EQ(row.self.bytes.seen, 1u);
      EXPECT_EQ(row.total.bytes.seen, 1000u);
    }
  }
}

TEST_F(Views, RecursionCountsOncePerStack) {
  FakeTraceReader reader;
  reader.modules_ = {{kProgram, kProgram + 0x10000, kProgram, 0, "", "/bin/program"}};
  uint32_t node = 0;
  for (int i = 0; i < 5; ++i) node = reader.Node(node, kProgram + 0x101);
  reader.Alloc(0x10000, 40, node);
  const HeapModel model = HeapModel::Build(reader);
  FrameNames names(reader, nullptr, false);
  const Hotspots found = FindHotspots(reader, model, names, Grouping::kFunction, Metric::kLive, 10, 0);
  ASSERT_EQ(found.rows.size(), 1u);
  EXPECT_EQ(found.rows[0].total.bytes.seen, 40u);
}

std::string Folded(TraceReader& reader, FrameNames& names, Metric metric) {
  std::string text;
  ExportFolded(HeapModel::Build(reader), names, metric, [&](std::string_view part) { text += part; });
  return text;
}

TEST_F(Views, FoldedIsReadyForFlamegraphTools) {
  FrameNames names(reader_, &symbolizer_, false);
  EXPECT_EQ(Folded(reader_, names, Metric::kAllocated),
            "main 1\n"
            "main;evil<a&b>:\"'?]]>?\xef\xbf\xbd\xc3\xa9 200\n"
            "main;libx.so.1+0x600 99\n"
            "main;work(std::vector<int>&);grow(int) 700\n");
  EXPECT_NE(Folded(reader_, names, Metric::kCount).find("grow(int) 1\n"), std::string::npos);
}

TEST_F(Views, JsonHoldsEverythingAndAddsUp) {
  const HeapModel model = HeapModel::Build(reader_);
  FrameNames names(reader_, &symbolizer_, false);
  std::string text;
  ExportJson(reader_, model, FactsOf(reader_, model), names, {}, [&](std::string_view part) { text += part; });
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  ASSERT_FALSE(json.is_discarded()) << text;
  uint64_t sum = 0;
  for (const auto& stack : json["stacks"]) {
    sum += stack["allocated"]["bytes"].get<uint64_t>();
    for (const auto& frame : stack["frames"]) EXPECT_LT(frame.get<size_t>(), json["frames"].size());
  }
  EXPECT_EQ(sum, 1000u);
  EXPECT_EQ(json["totals"]["allocated"]["bytes"], 1000);
  for (const auto& frame : json["frames"]) EXPECT_LT(frame["function"].get<size_t>(), json["functions"].size());
  EXPECT_EQ(json["threads"][1]["name"], "worker");
}

std::string Svg(TraceReader& reader, FrameNames& names, double min_percent) {
  const HeapModel model = HeapModel::Build(reader);
  FlamegraphOptions options;
  options.title = "a <title> & \"more\" ]]>";
  options.min_percent = min_percent;
  return RenderFlamegraph(BuildCallTree(model, names, Metric::kAllocated), names, options);
}

uint64_t SumOfRow(const std::string& svg, int row) {
  const std::string key = "data-row=\"" + std::to_string(row) + "\" data-value=\"";
  uint64_t sum = 0;
  for (size_t at = svg.find(key); at != std::string::npos; at = svg.find(key, at + 1)) {
    sum += std::strtoull(svg.c_str() + at + key.size(), nullptr, 10);
  }
  return sum;
}

TEST_F(Views, FlamegraphAddsUpAndIsXml) {
  FrameNames names(reader_, &symbolizer_, false);
  const std::string svg = Svg(reader_, names, 20.5);
  EXPECT_NE(svg.find("(2 frames below 20.5 %)"), std::string::npos);
  EXPECT_EQ(SumOfRow(svg, 0), 1000u);
  EXPECT_EQ(SumOfRow(svg, 1), 1000u);
  EXPECT_EQ(SumOfRow(svg, 2), 999u);
  EXPECT_EQ(svg.find("evil<"), std::string::npos);
  EXPECT_EQ(Svg(reader_, names, 20.5), svg) << "the same picture every time";
  for (const char* foreign : {"http://", "https://", "@import", "url("}) {
    for (size_t at = svg.find(foreign); at != std::string::npos; at = svg.find(foreign, at + 1)) {
      EXPECT_EQ(svg.compare(at, 18, "http://www.w3.org/"), 0) << "only namespaces: " << svg.substr(at, 60);
    }
  }
  // The well-formedness of the whole is for a real parser to say.
  if (std::system("command -v xmllint >/dev/null") != 0) GTEST_SKIP() << "xmllint is not installed";
  const std::string path = testing::TempDir() + "/flames.svg";
  std::ofstream(path) << Svg(reader_, names, 0);
  EXPECT_EQ(std::system(("xmllint --noout '" + path + "'").c_str()), 0);
}

TEST_F(Views, EmptyTraceIsStillAPicture) {
  FakeTraceReader empty;
  FrameNames names(empty, nullptr, false);
  EXPECT_NE(Svg(empty, names, 0.1).find("all: 0 B (0 bytes)"), std::string::npos);
  const HeapModel model = HeapModel::Build(empty);
  const Hotspots found = FindHotspots(empty, model, names, Grouping::kSite, Metric::kPeak, 10, 3);
  EXPECT_NE(HotspotText(found, model, names, {}).find("nothing"), std::string::npos);
  EXPECT_NE(SummaryText(model, FactsOf(empty, model), {}).find("0 B in 0 blocks"), std::string::npos);
}

TEST(XmlText, LetsOnlyXmlThrough) {
  EXPECT_EQ(XmlText("a<b>&\"'"), "a&lt;b&gt;&amp;&quot;&#39;");
  EXPECT_EQ(XmlText("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"), "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
  for (const char* bad : {"\x01", "\xff", "\xc3", "\xe2\x82", "\xed\xa0\x80", "\xef\xbf\xbe", "\xc0\x80"}) {
    const std::string out = XmlText(bad);
    EXPECT_EQ(out.compare(0, 3, "\xef\xbf\xbd"), 0) << bad;
  }
}

TEST(Printable, LetsNoCommandThrough) {
  EXPECT_EQ(Printable("a\x1b[31m\x07\n\x7f"), "a?[31m???");
  EXPECT_EQ(Printable("\xc2\x9b[0m"), "?[0m");  // CSI, one of C1
  EXPECT_EQ(Printable("a\xe2\x80\xae"
                      "b\xe2\x81\xa6"
                      "c"),
            "a?b?c");                         // right to left
  EXPECT_EQ(Printable("\xe2\x80\xa8"), "?");  // a line's end
  EXPECT_EQ(Printable("gr\xc3\xb6\xc3\x9f"
                      "er \xe2\x82\xac \xf0\x9f\x98\x80"),
            "gr\xc3\xb6\xc3\x9f"
            "er \xe2\x82\xac \xf0\x9f\x98\x80");
  for (const char* bad :
       {"\xff", "\x9b", "\xc3", "\xc0\x80", "\xe2\x82", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xf8\x88"}) {
    EXPECT_EQ(Printable(bad).substr(0, 3), "\xef\xbf\xbd") << bad;
  }
}

TEST_F(Views, LossesAreCountedPerKind) {
  reader_.end_ = {{"recorded", {{"alloc", 10}, {"free", 0}, {"realloc", 0}}},
                  {"dropped", {{"alloc", 5}, {"free", 2}, {"realloc", 0}}},
                  {"unwind", {{"stacks", 100}, {"truncated", 25}, {"fp_guesses", 3}}},
                  {"exit", {{"kind", "signaled"}, {"signal", 9}}}};
  const HeapModel model = HeapModel::Build(reader_);
  const RunFacts facts = FactsOf(reader_, model);
  EXPECT_EQ(facts.events[kKindAlloc].recorded, 4u);
  EXPECT_EQ(facts.events[kKindAlloc].dropped, 5u);
  EXPECT_EQ(facts.events[kKindAlloc].skipped, 6u);
  EXPECT_EQ(facts.LossText(), "11 allocs, 2 frees lost (76.5 % of 17 events)");
  EXPECT_EQ(facts.EndingText(), "killed by signal 9");
  EXPECT_EQ(facts.UnwindText(), "100 taken, 25.0 % of them truncated, 3 frames guessed by frame pointer");
  const std::string summary = SummaryText(model, facts, {});
  EXPECT_NE(summary.find("11 allocs, 2 frees lost"), std::string::npos);
  EXPECT_NE(summary.find("25.0 % of them truncated"), std::string::npos);
  // Nonsense of every kind is survived.
  reader_.info_ = {{"command", 5}, {"pid", "x"}, {"executable", nullptr}, {"bypassed", 1}};
  reader_.end_ = {{"recorded", 1}, {"dropped", "x"}, {"exit", 3}, {"unwind", {{"stacks", -1}}}};
  EXPECT_EQ(FactsOf(reader_, model).CommandText(), "(command not known)");
}

TEST(HumanText, Numbers) {
  EXPECT_EQ(HumanBytes(0), "0 B");
  EXPECT_EQ(HumanBytes(1023), "1023 B");
  EXPECT_EQ(HumanBytes(1024), "1.00 KiB");
  EXPECT_EQ(HumanBytes(1023.96 * 1024), "1.00 MiB");
  EXPECT_EQ(HumanBytes(123.45 * 1024 * 1024), "123.5 MiB");
  EXPECT_EQ(HumanCount(1234567), "1,234,567");
  EXPECT_EQ(HumanCount(123), "123");
  EXPECT_EQ(HumanPercent(1, 3), "33.3 %");
  EXPECT_EQ(HumanPercent(1, 100000), "<0.1 %");
  EXPECT_EQ(HumanPercent(1, 0), "-");
  EXPECT_EQ(HumanDuration(1203000000), "1.203 s");
  EXPECT_EQ(HumanDuration(7380000000000), "2 h 03 min");
  EXPECT_EQ(HumanInterval({943718.4, 1468006.4}, true), "0.90 .. 1.40 MiB");
  EXPECT_EQ(HumanInterval({5, 5}, true), "");
}

TEST(TextTable, FitsTheTerminalAndAligns) {
  TextTable table({{"n"}, {"name", TextTable::Align::kLeft, true}});
  table.AddRow({"1", "std::vector<std::pair<int, std::string>>::push_back(int)"});
  table.AddRow({"1234", "x\ty"});
  EXPECT_EQ(table.Render({}),
            "   n  name\n   1  std::vector<std::pair<int, std::string>>::push_back(int)\n1234  x?y\n");
  std::istringstream lines(table.Render({40, false}));
  for (std::string line; std::getline(lines, line);) EXPECT_LE(DisplayWidth(line), 40u) << line;
  EXPECT_EQ(ShortenMiddle("abcdefghijklmnop", 10), "abcd...nop");
  EXPECT_EQ(DisplayWidth(ShortenMiddle("\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", 8)),
            8u);
}

TEST(Metrics, NamesAndRefusals) {
  for (Metric metric : kAllMetrics) EXPECT_EQ(*MetricFromName(NameOf(metric)), metric);
  const Result<Metric> cpu = MetricFromName("cpu");
  ASSERT_FALSE(cpu);
  EXPECT_EQ(cpu.error().status, ExitStatus::kUsage);
  EXPECT_NE(cpu.error().message.find("no CPU samples"), std::string::npos);
  EXPECT_FALSE(GroupingFromName("colour"));
}

TEST(OutputStream, ReplacesOnlyWhenComplete) {
  const std::string path = testing::TempDir() + "/view.out";
  std::ofstream(path) << "old";
  auto read = [&] {
    std::stringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  };
  {
    Result<OutputStream> given_up = OutputStream::Open(path);
    ASSERT_TRUE(given_up);
    given_up->Write("half");
  }
  EXPECT_EQ(read(), "old");
  Result<OutputStream> output = OutputStream::Open(path);
  ASSERT_TRUE(output);
  output->Write("new");
  EXPECT_FALSE(output->Commit());
  EXPECT_EQ(read(), "new");
  Result<OutputStream> full = OutputStream::Open("/dev/full");
  ASSERT_TRUE(full);
  full->Write("x");
  const std::optional<Error> error = full->Commit();
  ASSERT_TRUE(error);
  EXPECT_NE(error->message.find("/dev/full"), std::string::npos);
  EXPECT_FALSE(OutputStream::Open("/no/such/directory/x.svg"));
}

}  // namespace
}  // namespace tidemark
