// See export_json.h. Written in pieces, one line per element of the long lists: the document may be much larger than
// the model, and `grep` and `head` stay useful on it.
#include "tools/export_json.h"

#include <algorithm>
#include <string>
#include <unordered_map>
#include <vector>

#include "tools/hex_text.h"

namespace tidemark {
namespace {

std::string Line(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

class ListWriter {
 public:
  ListWriter(const std::function<void(std::string_view)>& write, const char* name) : write_(write) {
    write_(std::string(",\n\"") + name + "\": [");
  }
  ~ListWriter() { write_(first_ ? "]" : "\n]"); }
  void Add(const Json& json) {
    write_((first_ ? "\n" : ",\n") + Line(json));
    first_ = false;
  }

 private:
  const std::function<void(std::string_view)>& write_;
  bool first_ = true;
};

Json TallyJson(const Tally& tally, const HeapModel& model) {
  const bool sampled = model.sampled();
  return {{"allocated", UsageJson(tally.Allocated(), sampled)},
          {"peak", UsageJson(tally.Peak(model.epoch()), sampled)},
          {"live_at_end", UsageJson(tally.Live(), sampled)},
          {"temporary", model.knows_temporary() ? UsageJson(tally.Temporary(), false) : Json()}};
}

}  // namespace

void ExportJson(const TraceReader& reader, const HeapModel& model, const RunFacts& facts, FrameNames& names,
                const ShownPaths& paths, const std::function<void(std::string_view)>& write) {
  write("{\n\"schema\": \"tidemark.export/1\",\n\"run\": " + Line(RunJson(model, facts)));
  write(",\n\"totals\": " + Line(TotalsJson(model, facts)));
  write(",\n\"problems\": " + Line(reader.problems()));
  {
    ListWriter list(write, "modules");
    for (const TraceModule& module : reader.modules()) {
      list.Add({{"path", paths.Of(module.path)},
                {"build_id", HexText(module.build_id)},
                {"start", module.start},
                {"end", module.end},
                {"load_bias", module.load_bias}});
    }
  }
  {
    ListWriter list(write, "memory");
    const uint64_t origin = reader.origin_monotonic_ns();
    for (const TraceMemory& sample : reader.memory()) {
      list.Add({{"time_ns", static_cast<int64_t>(sample.monotonic_ns - origin)},
                {"rss", sample.rss},
                {"pss", sample.pss},
                {"anonymous", sample.anonymous},
                {"swap", sample.swap}});
    }
  }
  {
    ListWriter list(write, "threads");
    std::unordered_map<uint32_t, const TraceThread*> known;
    for (const TraceThread& thread : reader.threads()) known[thread.serial] = &thread;
    for (const ThreadUse& use : model.threads()) {
      Json json = {{"serial", use.serial}, {"tid", nullptr}, {"name", ""}, {"events", use.events}};
      if (auto thread = known.find(use.serial); thread != known.end()) {
        json["tid"] = thread->second->tid;
        json["name"] = thread->second->name;
      }
      json.update(TallyJson(use.tally, model));
      list.Add(json);
    }
  }
  {
    ListWriter list(write, "sizes");
    for (uint32_t i = 0; i < model.size_buckets().size(); ++i) {
      if (model.size_buckets()[i].Allocated().blocks.seen == 0) continue;
      Json json = {{"low", SizeBucketLow(i)}, {"high", SizeBucketHigh(i)}};
      json.update(TallyJson(model.size_buckets()[i], model));
      list.Add(json);
    }
  }
  std::vector<uint32_t> leaves;
  for (const StackUse& use : model.stacks()) leaves.push_back(use.node);
  names.Prefetch(leaves);
  {
    ListWriter list(write, "stacks");
    for (const StackUse& use : model.stacks()) {
      Json json = {{"node", use.node}, {"frames", names.StackOf(use.node)}};
      json.update(TallyJson(use.tally, model));
      list.Add(json);
    }
  }
  {
    ListWriter list(write, "frames");
    for (uint32_t i = 0; i < names.frame_count(); ++i) {
      const NamedFrame& frame = names.frame(i);
      list.Add({{"function", frame.function},
                {"file", paths.Of(frame.file)},
                {"line", frame.line == 0 ? Json() : Json(frame.line)},
                {"inlined", frame.inlined}});
    }
  }
  {
    ListWriter list(write, "functions");
    for (uint32_t i = 0; i < names.function_count(); ++i) {
      const NamedFunction& function = names.function(i);
      list.Add({{"name", function.name}, {"module", function.module}, {"known", function.known}});
    }
  }
  write("\n}\n");
}

}  // namespace tidemark
