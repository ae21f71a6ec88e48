// See export_speedscope.h.
#include "tools/export_speedscope.h"

#include <algorithm>
#include <unordered_map>

#include "tools/json_text.h"
#include "tools/model/metric.h"
#include "tools/thread_shares.h"

namespace tidemark {
namespace {

// The list of profiles is a menu: the threads that allocated most.
constexpr size_t kMostThreads = 16;

struct Row {
  uint32_t stack;
  uint64_t value;
};

class Document {
 public:
  Document(const ExportSource& source, const WriteText& write)
      : source_(source), write_(write), shares_(*source.trace.reader) {}

  void Write() {
    source_.PrefetchNames();
    const HeapModel& model = source_.model();
    for (const StackUse& use : model.stacks()) {
      std::vector<uint32_t> functions;
      for (uint32_t frame : source_.names().StackOf(use.node)) {
        const NamedFrame& named = source_.names().frame(frame);
        files_.try_emplace(named.function, named.file);
        functions.push_back(named.function);
      }
      std::reverse(functions.begin(), functions.end());
      stacks_.push_back(JsonNumbers(functions));
    }
    write_("{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\",\n\"name\":" +
           JsonName(source_.Command()) + ",\n\"exporter\":\"tidemark\",\n\"shared\":{\"frames\":[");
    for (uint32_t i = 0; i < source_.names().function_count(); ++i) {
      const NamedFunction& function = source_.names().function(i);
      std::string line = (i == 0 ? "\n{\"name\":" : ",\n{\"name\":") + JsonName(function.name);
      const auto file = files_.find(i);
      const std::string place =
          file != files_.end() && !file->second.empty() ? source_.paths.Of(file->second) : function.module;
      if (!place.empty()) line += ",\"file\":" + JsonName(place);
      write_(line + '}');
    }
    write_("\n]},\n\"profiles\":[");
    for (Metric metric : {Metric::kAllocated, Metric::kCount, Metric::kPeak, Metric::kLive, Metric::kTemporary}) {
      if (!WhyNotAvailable(metric, model)) AddMetric(metric);
    }
    write_("\n]}\n");
  }

 private:
  void AddMetric(Metric metric) {
    std::vector<Row> rows;
    for (uint32_t i = 0; i < stacks_.size(); ++i) {
      const Tally& tally = source_.model().stacks()[i].tally;
      rows.push_back({i, AmountOf(metric, UsageOf(metric, tally, source_.model().epoch())).Rounded()});
    }
    AddProfile(TitleOf(metric), metric, rows);
    if (source_.model().threads().size() < 2) return;
    std::unordered_map<uint32_t, const TraceThread*> known;
    for (const TraceThread& thread : source_.trace.reader->threads()) known[thread.serial] = &thread;
    std::vector<std::vector<Row>> rows_of(source_.model().threads().size());
    std::vector<uint64_t> sums(rows_of.size());
    for (const ThreadShares::Share& share : shares_.all()) {
      const uint64_t value = AmountOf(metric, UsageOf(metric, share.tally, shares_.epoch())).Rounded();
      rows_of[share.thread].push_back({share.stack, value});
      sums[share.thread] += value;
    }
    std::vector<uint32_t> order;
    for (uint32_t i = 0; i < sums.size(); ++i) {
      if (sums[i] != 0) order.push_back(i);
    }
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return sums[a] > sums[b]; });
    if (order.size() > kMostThreads) order.resize(kMostThreads);
    for (uint32_t index : order) {
      const uint32_t serial = source_.model().threads()[index].serial;
      const auto thread = known.find(serial);
      const std::string name = thread == known.end() ? "thread " + std::to_string(serial)
                                                     : thread->second->name + " " + std::to_string(thread->second->tid);
      AddProfile(std::string(TitleOf(metric)) + ", " + name, metric, rows_of[index]);
    }
  }

  void AddProfile(const std::string& name, Metric metric, const std::vector<Row>& rows) {
    std::string samples, weights;
    uint64_t sum = 0;
    for (const Row& row : rows) {
      if (row.value == 0) continue;
      samples += (samples.empty() ? "\n" : ",\n") + stacks_[row.stack];
      weights += (weights.empty() ? "" : ",") + std::to_string(row.value);
      sum += row.value;
    }
    write_(std::string(first_ ? "\n" : ",\n") + "{\"type\":\"sampled\",\"name\":" + JsonName(name) + ",\"unit\":\"" +
           (CountsBlocks(metric) ? "none" : "bytes") + "\",\"startValue\":0,\"endValue\":" + std::to_string(sum));
    write_(",\"samples\":[" + samples + "\n],\"weights\":[" + weights + "]}");
    first_ = false;
  }

  const ExportSource& source_;
  const WriteText& write_;
  ThreadShares shares_;
  std::unordered_map<uint32_t, std::string> files_;  // by function; the first that is known
  std::vector<std::string> stacks_;                  // by the model's index, as JSON, root first
  bool first_ = true;
};

}  // namespace

void ExportSpeedscope(const ExportSource& source, const WriteText& write) { Document(source, write).Write(); }

}  // namespace tidemark
