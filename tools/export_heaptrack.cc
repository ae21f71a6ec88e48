// See export_heaptrack.h. One line each, by its first letter: s string, i instruction pointer, t trace (a pointer and
// the trace of its caller), a kind of allocation (size and trace), + and - of such a kind, c time in ms, R resident
// pages. All numbers are hexadecimal and all but kinds of allocation count from 1.
#include "tools/export_heaptrack.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <unordered_map>

#include "tools/elapsed_time.h"
#include "tools/text_table.h"

namespace tidemark {
namespace {

constexpr uint64_t kPageBytes = 4096;

class History : public BlockObserver {
 public:
  History(const ExportSource& source, const WriteText& write) : source_(source), write_(write) {}

  void Write() {
    const HeapModel& model = source_.model();
    uint64_t resident = 0;
    for (const TraceMemory& sample : source_.trace.reader->memory()) resident = std::max(resident, sample.rss);
    // The version of heaptrack itself is that of the one whose format this is.
    Line("v 10400 3\nX {}\nI {:x} {:x}\n", source_.Command(), kPageBytes, resident / kPageBytes);
    for (const StackUse& use : model.stacks()) traces_.push_back(TraceOf(use.node));
    Line("# blocks\nc 0\n");
    HeapModel::Build(*source_.trace.reader, this);
    WriteTime(model.last_ns());
    Line("R {:x}\n", resident / kPageBytes);
    Flush();
  }

  void OnAllocate(const LiveBlock& block, bool) override {
    PassTime(block.tsc);
    Line("+ {:x}\n", KindOf(block));
  }
  void OnRelease(const LiveBlock& block, uint64_t tsc, bool) override {
    PassTime(tsc);
    Line("- {:x}\n", KindOf(block));
  }
  void OnMark(uint32_t, uint64_t, const std::string&) override {}

 private:
  template <typename... Values>
  void Line(fmt::format_string<Values...> format, Values&&... values) {
    fmt::format_to(std::back_inserter(text_), format, std::forward<Values>(values)...);
    if (text_.size() > (1 << 16)) Flush();
  }
  void Flush() {
    write_(text_);
    text_.clear();
  }

  uint64_t StringId(const std::string& text) {
    if (text.empty()) return 0;
    const auto [found, added] = strings_.try_emplace(text, strings_.size() + 1);
    if (added) Line("s {:x} {}\n", text.size(), text);
    return found->second;
  }

  uint64_t PointerOf(const FrameNames::Step& step) {
    const uint64_t pc = step.node == 0 ? 0 : source_.names().PcOf(step.node);
    const auto [found, added] = pointers_.try_emplace({pc, step.count == 0 ? 0 : step.frames[0]}, pointers_.size() + 1);
    if (!added) return found->second;
    std::string text;
    uint64_t module = 0;
    for (uint32_t i = 0; i < step.count; ++i) {
      const NamedFrame& frame = source_.names().frame(step.frames[i]);
      const NamedFunction& function = source_.names().function(frame.function);
      module = StringId(Printable(function.module));
      text += fmt::format(" {:x} {:x} {:x}", StringId(Printable(function.name)), StringId(source_.paths.Of(frame.file)),
                          frame.line);
    }
    Line("i {:x} {:x}{}\n", pc, module, text);
    return found->second;
  }

  uint64_t TraceOf(uint32_t leaf) {
    const std::vector<FrameNames::Step>& steps = source_.names().StepsOf(leaf);
    uint64_t parent = 0;
    for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
      const uint64_t pointer = PointerOf(*step);
      const auto [found, added] = trace_ids_.try_emplace({pointer, parent}, trace_ids_.size() + 1);
      if (added) Line("t {:x} {:x}\n", pointer, parent);
      parent = found->second;
    }
    return parent;
  }

  uint64_t KindOf(const LiveBlock& block) {
    const uint64_t trace = traces_[block.stack];
    const auto [found, added] = kinds_.try_emplace({block.size, trace}, kinds_.size());
    if (added) Line("a {:x} {:x}\n", block.size, trace);
    return found->second;
  }

  void PassTime(uint64_t tsc) { WriteTime(source_.trace.reader->TimeNs(tsc)); }
  void WriteTime(int64_t ns) {
    const int64_t ms = ElapsedNs(source_.model().first_ns(), ns) / 1000000;
    if (ms <= last_ms_) return;
    last_ms_ = ms;
    Line("c {:x}\n", ms);
  }

  struct PairHash {
    size_t operator()(const std::pair<uint64_t, uint64_t>& pair) const {
      return (pair.first * 0x9e3779b97f4a7c15u ^ pair.second) * 0x9e3779b97f4a7c15u >> 7;
    }
  };
  const ExportSource& source_;
  const WriteText& write_;
  std::string text_;
  std::unordered_map<std::string, uint64_t> strings_;
  std::map<std::pair<uint64_t, uint32_t>, uint64_t> pointers_;  // address, innermost frame
  std::unordered_map<std::pair<uint64_t, uint64_t>, uint64_t, PairHash> trace_ids_, kinds_;
  std::vector<uint64_t> traces_;  // by the model's stack
  int64_t last_ms_ = 0;
};

}  // namespace

void ExportHeaptrack(const ExportSource& source, const WriteText& write) {
  source.PrefetchNames();
  History(source, write).Write();
}

}  // namespace tidemark
