// See page_data.h.
#include "tools/page_data.h"

#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "profiler/columns.h"
#include "tools/model_json.h"
#include "tools/text_table.h"

namespace tidemark {
namespace {

constexpr uint64_t kMostNumber = (uint64_t{1} << 53) - 1;
constexpr size_t kMostNameCells = 2000;

class Column {
 public:
  void Put(uint64_t value) { PutRaw(std::min(value, kMostNumber)); }
  // The difference of two numbers as Put would write them.
  void PutDifference(uint64_t value, uint64_t base) {
    PutRaw(ZigZag(std::min(value, kMostNumber) - std::min(base, kMostNumber)));
  }
  void PutText(std::string_view text) { bytes_ += text; }
  const std::string& bytes() const { return bytes_; }

 private:
  void PutRaw(uint64_t value) {
    char encoded[kMaxVarintBytes];
    bytes_.append(encoded, static_cast<size_t>(PutVarint(encoded, value) - encoded));
  }
  std::string bytes_;
};

class Columns {
 public:
  Column& Add(const std::string& name) {
    columns_.emplace_back(name, std::make_unique<Column>());
    return *columns_.back().second;
  }
  std::string Render(Json head) const {
    Json list = Json::array();
    for (const auto& [name, column] : columns_) list.push_back({name, column->bytes().size()});
    head["columns"] = list;
    const std::string text = head.dump(-1, ' ', false, Json::error_handler_t::replace);
    std::string bytes;
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(text.size() >> shift & 0xff);
    bytes += text;
    for (const auto& [name, column] : columns_) bytes += column->bytes();
    return bytes;
  }

 private:
  std::vector<std::pair<std::string, std::unique_ptr<Column>>> columns_;
};

// Every text once.
class Texts {
 public:
  uint32_t Of(const std::string& text) {
    auto [found, added] = index_.try_emplace(text, static_cast<uint32_t>(texts_.size()));
    if (added) texts_.push_back(ShortenMiddle(Printable(text), kMostNameCells));
    return found->second;
  }
  void Write(Columns* columns) const {
    Column& length = columns->Add("text.length");
    Column& bytes = columns->Add("text.bytes");
    for (const std::string& text : texts_) {
      length.Put(text.size());
      bytes.PutText(text);
    }
  }

 private:
  std::unordered_map<std::string, uint32_t> index_;
  std::vector<std::string> texts_;
};

void WriteCells(const std::string& prefix, size_t rows, const ActivityCells& cells, bool sampled, Columns* columns) {
  const std::vector<ActivityCell>& all = cells.all();
  Column& count = columns->Add(prefix + ".cells");
  for (size_t row = 0, i = 0; row < rows; ++row) {
    const size_t first = i;
    while (i < all.size() && all[i].row == row) ++i;
    count.Put(i - first);
  }
  auto is_first = [&](size_t i) { return i == 0 || all[i - 1].row != all[i].row; };
  Column& slice = columns->Add(prefix + ".slice");
  for (size_t i = 0; i < all.size(); ++i) slice.Put(all[i].slice - (is_first(i) ? 0 : all[i - 1].slice));
  if (sampled) {
    Column& size = columns->Add(prefix + ".size");
    for (size_t i = 0; i < all.size(); ++i) size.PutDifference(all[i].size, is_first(i) ? 0 : all[i - 1].size);
  } else {
    Column& bytes = columns->Add(prefix + ".bytes");
    Column& released = columns->Add(prefix + ".releasedBytes");
    Column& temporary = columns->Add(prefix + ".temporaryBytes");
    for (const ActivityCell& cell : all) {
      bytes.Put(cell.allocated_bytes);
      released.PutDifference(cell.released_bytes, cell.allocated_bytes);
      temporary.Put(cell.temporary_bytes);
    }
    Column& temporary_blocks = columns->Add(prefix + ".temporaryBlocks");
    for (const ActivityCell& cell : all) temporary_blocks.Put(cell.temporary_blocks);
  }
  Column& blocks = columns->Add(prefix + ".blocks");
  Column& released_blocks = columns->Add(prefix + ".releasedBlocks");
  for (const ActivityCell& cell : all) {
    blocks.Put(cell.allocated_blocks);
    released_blocks.PutDifference(cell.released_blocks, cell.allocated_blocks);
  }
}

// Functions and sites that the tree names, by numbers of the page.
class Names {
 public:
  Names(const FrameNames& names, const std::string& program) : names_(names), program_(program) {}

  uint32_t FunctionOf(uint32_t function) {
    auto [found, added] = index_.try_emplace(function, static_cast<uint32_t>(index_.size()) + 1);
    if (added) functions_.push_back(function);
    return found->second;
  }

  void WriteFunctions(Texts* texts, Columns* columns) const {
    Column& name = columns->Add("function.name");
    Column& module = columns->Add("function.module");
    Column& flags = columns->Add("function.flags");
    for (uint32_t id : functions_) {
      const NamedFunction& function = names_.function(id);
      name.Put(texts->Of(function.name));
      module.Put(texts->Of(function.module));
      flags.Put((function.known ? 1 : 0) | (!program_.empty() && function.module == program_ ? 2 : 0));
    }
  }

 private:
  const FrameNames& names_;
  const std::string& program_;
  std::unordered_map<uint32_t, uint32_t> index_;
  std::vector<uint32_t> functions_;  // number 0 is the joined one
};

Json HeadOf(const TraceReader& reader, const HeapModel& model, const RunFacts& facts, const PageFacts& page,
            const PageTree& tree, const Activity& activity) {
  Json metrics = Json::array();
  for (Metric metric : kAllMetrics) {
    // What was never freed is no proof of a leak: the page calls it live.
    if (metric != Metric::kLeaked && !WhyNotAvailable(metric, model)) metrics.push_back(NameOf(metric));
  }
  Json marks = Json::array();
  for (const TimelineMark& mark : activity.marks()) marks.push_back({mark.time_ns, Printable(mark.text)});
  Json memory = Json::array();
  for (const TraceMemory& sample : reader.memory()) {
    memory.push_back({static_cast<int64_t>(sample.monotonic_ns - reader.origin_monotonic_ns()), sample.rss});
  }
  Json problems = Json::array();
  for (const std::string& problem : reader.problems()) problems.push_back(Printable(problem));
  return {{"title", Printable(page.title)},
          {"metric", NameOf(page.metric == Metric::kLeaked ? Metric::kLive : page.metric)},
          {"metrics", metrics},
          {"run", RunJson(model, facts)},
          {"totals", TotalsJson(model, facts)},
          {"command", Printable(facts.CommandText())},
          {"ending", Printable(facts.EndingText())},
          {"losses", facts.LossText()},
          {"unwinding", facts.unwinding ? Json(facts.UnwindText()) : Json()},
          {"problems", problems},
          {"nodes", {{"all", tree.all_nodes}, {"joined", tree.joined_nodes}}},
          {"slices", {{"bounds_ns", activity.bounds_ns()}, {"peak", activity.peak_slice()}}},
          {"first_ns", model.first_ns()},
          {"last_ns", model.last_ns()},
          {"marks", marks},
          {"memory", memory}};
}

}  // namespace

std::string PageData(const TraceReader& reader, const HeapModel& model, const FrameNames& names, const RunFacts& facts,
                     const PageFacts& page, const PageTree& tree, const Activity& activity) {
  const bool sampled = model.sampled();
  Columns columns;
  Texts texts;
  const std::string program = facts.executable.substr(facts.executable.rfind('/') + 1);
  Names functions(names, program);

  // A node follows its parent; `up`: how many levels its parent is above the node before it.
  Column& up = columns.Add("node.up");
  Column& function = columns.Add("node.function");
  Column& joined = columns.Add("node.joined");
  std::vector<uint32_t> depth(tree.nodes.size());
  for (size_t i = 1; i < tree.nodes.size(); ++i) {
    const PageTree::Node& node = tree.nodes[i];
    depth[i] = depth[node.parent] + 1;
    up.Put(depth[i - 1] + 1 - depth[i]);
    function.Put(node.function == PageTree::kJoined ? 0 : functions.FunctionOf(node.function));
    if (node.function == PageTree::kJoined) joined.Put(node.joined);
  }
  Column& site_function = columns.Add("site.function");
  Column& site_file = columns.Add("site.file");
  Column& site_line = columns.Add("site.line");
  for (const PageTree::Site& site : tree.sites) {
    const NamedFrame& frame = names.frame(site.frame);
    site_function.Put(functions.FunctionOf(frame.function));
    site_file.Put(texts.Of(frame.file));
    site_line.Put(frame.line);
  }
  functions.WriteFunctions(&texts, &columns);

  // Stacks with the same node and site are one row.
  std::vector<std::pair<uint32_t, uint32_t>> rows;
  for (size_t i = 0; i < tree.node_of_stack.size(); ++i) {
    rows.emplace_back(tree.node_of_stack[i], tree.site_of_stack[i]);
  }
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  std::vector<uint32_t> row_of_stack;
  for (size_t i = 0; i < tree.node_of_stack.size(); ++i) {
    const std::pair<uint32_t, uint32_t> row(tree.node_of_stack[i], tree.site_of_stack[i]);
    row_of_stack.push_back(static_cast<uint32_t>(std::lower_bound(rows.begin(), rows.end(), row) - rows.begin()));
  }
  Column& row_node = columns.Add("stack.node");
  Column& row_site = columns.Add("stack.site");
  for (size_t i = 0; i < rows.size(); ++i) {
    row_node.Put(rows[i].first - (i == 0 ? 0 : rows[i - 1].first));
    row_site.Put(rows[i].second);
  }
  ActivityCells stacks = activity.stacks();
  stacks.Renumber(row_of_stack);
  WriteCells("stack", rows.size(), stacks, sampled, &columns);
  WriteCells("thread", model.threads().size(), activity.threads(), sampled, &columns);
  if (!sampled) WriteCells("size", kSizeBucketCount, activity.sizes(), sampled, &columns);

  Column& live = columns.Add("point.live");
  Column& highest = columns.Add("point.highest");
  Column& allocated = columns.Add("point.allocated");
  Column& released = columns.Add("point.released");
  for (const TimelinePoint& point : activity.points()) {
    live.Put(Saturated(point.live));
    highest.Put(Saturated(point.highest_live));
    allocated.Put(Saturated(point.allocated));
    released.Put(Saturated(point.released));
  }

  Json head = HeadOf(reader, model, facts, page, tree, activity);
  std::unordered_map<uint32_t, const TraceThread*> known;
  for (const TraceThread& thread : reader.threads()) known[thread.serial] = &thread;
  head["threads"] = Json::array();
  for (const ThreadUse& use : model.threads()) {
    auto thread = known.find(use.serial);
    const bool is_known = thread != known.end();
    head["threads"].push_back(
        {use.serial, is_known ? thread->second->tid : 0, is_known ? Printable(thread->second->name) : ""});
  }
  head["sizes"] = Json::array();
  for (uint32_t i = 0; i < kSizeBucketCount; ++i) {
    head["sizes"].push_back({std::min(SizeBucketLow(i), kMostNumber), std::min(SizeBucketHigh(i), kMostNumber)});
  }
  head["rows"] = rows.size();
  texts.Write(&columns);
  return columns.Render(std::move(head));
}

}  // namespace tidemark
