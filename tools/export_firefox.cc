// See export_firefox.h. Tables of the format are columns of equal length; -1 and null stand for "none".
#include "tools/export_firefox.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>
#include <tuple>
#include <unordered_map>

#include "tools/elapsed_time.h"
#include "tools/hex_text.h"
#include "tools/json_text.h"
#include "tools/live_history.h"

namespace tidemark {
namespace {

constexpr int kVersion = 66, kGeckoVersion = 31;
constexpr int64_t kSlices = 1000;
constexpr size_t kTrackPoints = 1000;

std::string Ms(int64_t ns) { return fmt::format("{:.6f}", static_cast<double>(ns) / 1e6); }

std::string Nulls(size_t count, const char* value = "null") {
  std::string text = "[";
  for (size_t i = 0; i < count; ++i) text += (i == 0 ? "" : ",") + std::string(value);
  return text + ']';
}

// Bytes by (stack, slice of birth, slice of death).
class Cohorts : public BlockObserver {
 public:
  explicit Cohorts(const ExportSource& source) : reader_(*source.trace.reader), model_(source.model()) {
    step_ns_ = std::max<int64_t>(1, ElapsedNs(model_.first_ns(), model_.last_ns()) / kSlices + 1);
    HeapModel::Build(reader_, this);
    for (const auto& [address, blocks] : births_) {
      for (const Birth& birth : blocks) Add(birth, kAlive);
    }
  }
  static constexpr int64_t kAlive = INT64_MAX;
  using Key = std::tuple<uint32_t, int64_t, int64_t>;

  const std::map<Key, double>& all() const { return cohorts_; }
  int64_t TimeNs(int64_t slice) const { return slice * step_ns_; }

  void OnAllocate(const LiveBlock& block, bool) override {
    births_[block.address].push_back({block.stack, SliceOf(block.tsc), block.size});
  }
  void OnRelease(const LiveBlock& block, uint64_t tsc, bool) override {
    // Blocks of one address die in the order of their births.
    const auto found = births_.find(block.address);
    if (found == births_.end()) return;
    Add(found->second.front(), std::max(SliceOf(tsc), found->second.front().slice));
    found->second.pop_front();
    if (found->second.empty()) births_.erase(found);
  }
  void OnMark(uint32_t, uint64_t, const std::string&) override {}

 private:
  struct Birth {
    uint32_t stack;
    int64_t slice;
    uint64_t size;
  };
  int64_t SliceOf(uint64_t tsc) const {
    const int64_t ns = ElapsedNs(model_.first_ns(), reader_.TimeNs(tsc));
    return std::clamp<int64_t>(ns / step_ns_, 0, kSlices);
  }
  void Add(const Birth& birth, int64_t death) {
    const double bytes =
        model_.sampled() ? WeightOfSample(birth.size, model_.sample_bytes()).bytes : static_cast<double>(birth.size);
    cohorts_[{birth.stack, birth.slice, death}] += bytes;
  }

  TraceReader& reader_;
  const HeapModel& model_;
  int64_t step_ns_;
  std::unordered_map<uint64_t, std::deque<Birth>> births_;
  std::map<Key, double> cohorts_;
};

class Document {
 public:
  Document(const ExportSource& source, const WriteText& write)
      : source_(source), write_(write), names_(source.names()) {}

  void Write() {
    source_.PrefetchNames();
    for (const StackUse& use : source_.model().stacks()) stack_of_.push_back(AddStack(use.node));
    const Cohorts cohorts(source_);
    WriteMeta();
    WriteLibraries();
    write_(",\n\"pages\":[],\"profilerOverhead\":[]");
    WriteCounters();
    WriteThread(cohorts);
    WriteShared();
    write_("}\n");
  }

 private:
  uint32_t StringId(const std::string& text) {
    const auto [found, added] = string_ids_.try_emplace(Printable(text), static_cast<uint32_t>(strings_.size()));
    if (added) strings_.push_back(found->first);
    return found->second;
  }

  // One entry per node and inlined call of it: the outermost, which is the machine's own frame, is nearest to the root.
  int64_t AddStack(uint32_t leaf) {
    const std::vector<FrameNames::Step>& steps = names_.StepsOf(leaf);
    int64_t prefix = -1;
    for (auto step = steps.rbegin(); step != steps.rend(); ++step) {
      for (uint32_t i = step->count; i-- > 0;) {
        const uint32_t frame = FrameId(step->frames[i], step->count - 1 - i);
        const auto [found, added] = stack_ids_.try_emplace({prefix, frame}, static_cast<int64_t>(stacks_.size()));
        if (added) stacks_.push_back({prefix, frame});
        prefix = found->second;
      }
    }
    return prefix;
  }

  uint32_t FrameId(uint32_t named, uint32_t depth) {
    const auto [found, added] = frame_ids_.try_emplace({named, depth}, static_cast<uint32_t>(frames_.size()));
    if (added) frames_.push_back({named, depth, FunctionId(named)});
    return found->second;
  }

  uint32_t FunctionId(uint32_t named) {
    const NamedFrame& frame = names_.frame(named);
    const auto [found, added] = function_ids_.try_emplace(frame.function, static_cast<uint32_t>(functions_.size()));
    if (added) {
      const NamedFunction& function = names_.function(frame.function);
      int64_t resource = -1, file = -1;
      if (!function.module.empty()) {
        const auto known = resource_ids_.try_emplace(function.module, static_cast<int64_t>(resources_.size()));
        if (known.second) resources_.push_back(function.module);
        resource = known.first->second;
      }
      if (!frame.file.empty()) {
        const auto known = source_ids_.try_emplace(frame.file, static_cast<int64_t>(sources_.size()));
        if (known.second) sources_.push_back(frame.file);
        file = known.first->second;
      }
      functions_.push_back({StringId(function.name), resource, file});
    }
    return found->second;
  }

  void WriteMeta() {
    const RunFacts& facts = source_.trace.facts;
    write_(
        "{\"meta\":{\"version\":" + std::to_string(kGeckoVersion) +
        ",\"preprocessedProfileVersion\":" + std::to_string(kVersion) + ",\"interval\":1,\"startTime\":" +
        Ms(std::max<int64_t>(facts.start_realtime_ns, 0)) + ",\"product\":" + JsonName(source_.Program()) +
        ",\"importedFrom\":\"tidemark\",\"arguments\":" + JsonName(source_.Command()) +
        ",\"processType\":0,\"stackwalk\":1,\"debug\":false,\"symbolicated\":true,\"oscpu\":\"Linux x86_64\","
        "\"platform\":\"Linux\",\"categories\":[{\"name\":\"Other\",\"color\":\"grey\",\"subcategories\":[\"Other\"]}],"
        "\"markerSchema\":[],\"sampleUnits\":{\"time\":\"ms\",\"eventDelay\":\"ms\",\"threadCPUDelta\":\"ns\"}}");
  }

  void WriteLibraries() {
    write_(",\n\"libs\":[");
    bool first = true;
    for (const TraceModule& module : source_.trace.reader->modules()) {
      const std::string path = source_.paths.Of(module.path), name = path.substr(path.rfind('/') + 1);
      write_(std::string(first ? "\n" : ",\n") + "{\"arch\":\"x86_64\",\"name\":" + JsonName(name) +
             ",\"path\":" + JsonName(path) + ",\"debugName\":" + JsonName(name) + ",\"debugPath\":" + JsonName(path) +
             ",\"breakpadId\":\"\",\"codeId\":\"" + HexText(module.build_id) + "\"}");
      first = false;
    }
    write_("]");
  }

  void WriteTrack(const char* name, const char* description, const std::vector<std::pair<int64_t, double>>& points) {
    std::vector<int64_t> times, deltas;
    std::string time_text = "[";
    int64_t before = 0;
    for (const auto& [time_ns, value] : points) {
      const auto now = static_cast<int64_t>(std::min<uint64_t>(Saturated(value), INT64_MAX));
      deltas.push_back(now - before);
      before = now;
      time_text += (time_text.size() > 1 ? "," : "") + Ms(time_ns);
    }
    write_(std::string(first_track_ ? "\n" : ",\n") + "{\"name\":\"" + name +
           "\",\"category\":\"Memory\",\"description\":\"" + description + "\",\"pid\":\"" + Pid() +
           "\",\"mainThreadIndex\":0,\"display\":{\"graphType\":\"line-accumulated\",\"unit\":\"bytes\",\"color\":"
           "\"orange\",\"markerSchemaLocation\":null,\"sortWeight\":20,\"label\":\"" +
           name +
           "\",\"tooltipRows\":[{\"type\":\"value\",\"source\":\"accumulated\",\"format\":{\"unit\":\"bytes\"},"
           "\"label\":\"at this time\"}]},\"samples\":{\"length\":" +
           std::to_string(deltas.size()) + ",\"time\":" + time_text + "],\"count\":" + JsonNumbers(deltas) + "}}");
    first_track_ = false;
  }

  void WriteCounters() {
    write_(",\n\"counters\":[");
    const HeapModel& model = source_.model();
    std::vector<std::pair<int64_t, double>> live, resident;
    for (const LivePoint& point : LiveHistory(*source_.trace.reader, model, kTrackPoints)) {
      live.emplace_back(point.time_ns, point.bytes);
    }
    WriteTrack("malloc", "bytes live on the heap", live);
    const uint64_t origin = source_.trace.reader->origin_monotonic_ns();
    for (const TraceMemory& sample : source_.trace.reader->memory()) {
      const int64_t time = ElapsedNs(model.first_ns(), static_cast<int64_t>(sample.monotonic_ns - origin));
      if (!resident.empty() && time < resident.back().first) continue;
      resident.emplace_back(time, static_cast<double>(sample.rss));
    }
    if (!resident.empty()) WriteTrack("RSS", "resident memory of the process", resident);
    write_("]");
  }

  // Allocations and releases in the order of time; the same number pairs them, as an address would.
  void WriteThread(const Cohorts& cohorts) {
    struct Entry {
      int64_t slice;
      bool release;
      uint64_t id;
      int64_t bytes, stack;
    };
    std::vector<Entry> entries;
    uint64_t id = 0;
    for (const auto& [key, weight] : cohorts.all()) {
      const auto [stack, birth, death] = key;
      const auto bytes = static_cast<int64_t>(std::min<uint64_t>(Saturated(weight), INT64_MAX));
      entries.push_back({birth, false, ++id, bytes, stack_of_[stack]});
      if (death != Cohorts::kAlive) entries.push_back({death, true, id, -bytes, stack_of_[stack]});
    }
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
      return std::tie(a.slice, a.release, a.id) < std::tie(b.slice, b.release, b.id);
    });
    const auto column = [&](auto text_of) { return JsonList(entries, text_of); };
    write_(
        ",\n\"threads\":[{\"processType\":\"default\",\"processStartupTime\":0,\"processShutdownTime\":null,"
        "\"registerTime\":0,\"unregisterTime\":null,\"pausedRanges\":[],\"name\":" +
        JsonName(source_.Program()) + ",\"isMainThread\":true,\"processName\":" + JsonName(source_.Program()) +
        ",\"pid\":\"" + Pid() + "\",\"tid\":\"" + Pid() +
        "\",\"showMarkersInTimeline\":false,\"markers\":{\"length\":0,\"category\":[],"
        "\"data\":[],\"endTime\":[],\"name\":[],\"phase\":[],\"startTime\":[]},"
        "\"samples\":{\"length\":0,\"weightType\":\"samples\",\"weight\":null,\"stack\":[],\"time\":[]},"
        "\n\"nativeAllocations\":{\"length\":" +
        std::to_string(entries.size()) + ",\"weightType\":\"bytes\",\"time\":");
    write_(column([&](const Entry& entry) { return Ms(cohorts.TimeNs(entry.slice)); }));
    write_(",\n\"weight\":" + column([](const Entry& entry) { return std::to_string(entry.bytes); }));
    write_(",\n\"stack\":" + column([](const Entry& entry) { return std::to_string(entry.stack); }));
    write_(",\n\"memoryAddress\":" + column([](const Entry& entry) { return std::to_string(entry.id); }));
    write_(",\n\"threadId\":" + column([this](const Entry&) { return Pid(); }) + "}}]");
  }

  void WriteShared() {
    std::vector<int64_t> offsets;
    for (size_t i = 0; i < stacks_.size(); ++i) {
      offsets.push_back(stacks_[i].first < 0 ? 0 : static_cast<int64_t>(i) - stacks_[i].first);
    }
    write_(",\n\"shared\":{\"stackTable\":{\"length\":" + std::to_string(stacks_.size()) +
           ",\"frame\":" + JsonList(stacks_, [](const auto& stack) { return std::to_string(stack.second); }) +
           ",\"prefixOffset\":" + JsonNumbers(offsets) + "}");
    const std::string length = "{\"length\":" + std::to_string(frames_.size());
    write_(",\n\"frameTable\":" + length + ",\"func\":" +
           JsonList(frames_, [](const Frame& frame) { return std::to_string(frame.function); }) + ",\"line\":" +
           JsonList(frames_,
                    [this](const Frame& frame) {
                      const uint32_t line = names_.frame(frame.named).line;
                      return line == 0 ? "null" : std::to_string(line);
                    }) +
           ",\"inlineDepth\":" + JsonList(frames_, [](const Frame& frame) { return std::to_string(frame.depth); }));
    write_(",\"address\":" + Nulls(frames_.size(), "-1") + ",\"category\":" + Nulls(frames_.size(), "0") +
           ",\"subcategory\":" + Nulls(frames_.size(), "0") + ",\"column\":" + Nulls(frames_.size()) +
           ",\"nativeSymbol\":" + Nulls(frames_.size()) + ",\"innerWindowID\":" + Nulls(frames_.size(), "0") +
           ",\"originalLocation\":" + Nulls(frames_.size()) + "}");
    const size_t functions = functions_.size();
    write_(",\n\"funcTable\":{\"length\":" + std::to_string(functions) +
           ",\"name\":" + JsonList(functions_, [](const Function& function) { return std::to_string(function.name); }) +
           ",\"resource\":" +
           JsonList(functions_, [](const Function& function) { return std::to_string(function.resource); }) +
           ",\"source\":" + JsonList(functions_, [](const Function& function) {
             return function.file < 0 ? "null" : std::to_string(function.file);
           }));
    write_(",\"isJS\":" + Nulls(functions, "false") + ",\"relevantForJS\":" + Nulls(functions, "false") +
           ",\"lineNumber\":" + Nulls(functions) + ",\"columnNumber\":" + Nulls(functions) +
           ",\"originalLocation\":" + Nulls(functions) + "}");
    write_(",\n\"nativeSymbols\":{\"length\":0,\"address\":[],\"functionSize\":[],\"libIndex\":[],\"name\":[]}");
    // Type 1 is a library.
    write_(",\n\"resourceTable\":{\"length\":" + std::to_string(resources_.size()) + ",\"lib\":" +
           JsonList(resources_, [this](const std::string& name) { return LibraryOf(name); }) + ",\"name\":" +
           JsonList(resources_, [this](const std::string& name) { return std::to_string(StringId(name)); }) +
           ",\"host\":" + Nulls(resources_.size()) + ",\"type\":" + Nulls(resources_.size(), "1") + "}");
    write_(",\n\"sources\":{\"length\":" + std::to_string(sources_.size()) + ",\"id\":" + Nulls(sources_.size()) +
           ",\"filename\":" +
           JsonList(sources_,
                    [this](const std::string& file) { return std::to_string(StringId(source_.paths.Of(file))); }) +
           ",\"startLine\":" + Nulls(sources_.size(), "1") + ",\"startColumn\":" + Nulls(sources_.size(), "1") +
           ",\"sourceMapURL\":" + Nulls(sources_.size()) + ",\"content\":" + Nulls(sources_.size()) + "}");
    write_(",\n\"stringArray\":" + JsonList(strings_, [](const std::string& text) { return JsonName(text); }) + "}");
  }

  std::string LibraryOf(const std::string& name) const {
    const std::vector<TraceModule>& modules = source_.trace.reader->modules();
    for (size_t i = 0; i < modules.size(); ++i) {
      if (modules[i].path.substr(modules[i].path.rfind('/') + 1) == name) return std::to_string(i);
    }
    return "null";
  }
  std::string Pid() const { return std::to_string(source_.trace.facts.pid); }

  struct Frame {
    uint32_t named, depth, function;
  };
  struct Function {
    uint32_t name;
    int64_t resource, file;
  };
  const ExportSource& source_;
  const WriteText& write_;
  FrameNames& names_;
  bool first_track_ = true;
  std::vector<std::string> strings_;
  std::unordered_map<std::string, uint32_t> string_ids_;
  std::vector<std::pair<int64_t, uint32_t>> stacks_;  // prefix, frame
  std::map<std::pair<int64_t, uint32_t>, int64_t> stack_ids_;
  std::vector<Frame> frames_;
  std::map<std::pair<uint32_t, uint32_t>, uint32_t> frame_ids_;
  std::vector<Function> functions_;
  std::unordered_map<uint32_t, uint32_t> function_ids_;
  std::vector<std::string> resources_, sources_;
  std::unordered_map<std::string, int64_t> resource_ids_, source_ids_;
  std::vector<int64_t> stack_of_;  // by the model's stack
};

}  // namespace

void ExportFirefox(const ExportSource& source, const WriteText& write) { Document(source, write).Write(); }

}  // namespace tidemark
