// Decoding of table sections; column by column, checked as a whole before a row is kept.
#include "tools/trace_tables.h"

#include <algorithm>
#include <limits>

#include "profiler/columns.h"
#include "profiler/trace_format.h"
#include "tools/table_view.h"

namespace tidemark {
namespace {

// Fills fields of rows from columns and remembers whether everything was there and nothing was left over.
class TableLoader {
 public:
  explicit TableLoader(std::string_view payload) { sound_ = table_.Parse(payload); }

  bool sound() const { return sound_; }
  uint64_t rows() const { return table_.rows(); }
  // False also when the rows would exceed the limit.
  template <typename Row>
  bool MakeRows(uint64_t limit, std::vector<Row>* rows) {
    sound_ = sound_ && table_.rows() <= limit;
    if (sound_) rows->resize(static_cast<size_t>(table_.rows()));
    return sound_;
  }

  template <typename Id, typename Row, typename Store>
  void Plain(Id id, std::vector<Row>* rows, Store store) {
    ColumnCursor cursor = Required(id);
    for (Row& row : *rows) Check(store(row, cursor.Get()));
    Close(cursor);
  }
  template <typename Id, typename Row, typename Store>
  void Delta(Id id, std::vector<Row>* rows, Store store) {
    ColumnCursor cursor = Required(id);
    uint64_t value = 0;
    for (Row& row : *rows) {
      value += cursor.GetSigned();
      Check(store(row, value));
    }
    Close(cursor);
  }
  template <typename Id, typename Row>
  void Text(Id id, std::vector<Row>* rows, std::string Row::*field) {
    ColumnCursor cursor = Required(id);
    for (Row& row : *rows) {
      const std::string_view text = cursor.GetText();
      Check(text.size() <= kMaxTextBytes);
      if (sound_) row.*field = text;
    }
    Close(cursor);
  }
  template <typename Id>
  bool Has(Id id) const {
    return table_.Has(id);
  }

 private:
  template <typename Id>
  ColumnCursor Required(Id id) {
    Check(table_.Has(id));
    return table_.Column(id);
  }
  void Check(bool sound) { sound_ = sound_ && sound; }
  void Close(const ColumnCursor& cursor) { Check(cursor.ok() && cursor.AtEnd()); }

  TableView table_;
  bool sound_;
};

template <typename Row, typename Value>
auto StoreAs(Value Row::*field) {
  return [field](Row& row, uint64_t value) {
    row.*field = static_cast<Value>(value);
    return value <= std::numeric_limits<Value>::max();
  };
}

template <typename Row>
bool AppendRows(const TableLoader& loader, std::vector<Row>* rows, std::vector<Row>* all) {
  if (!loader.sound()) return false;
  all->insert(all->end(), std::make_move_iterator(rows->begin()), std::make_move_iterator(rows->end()));
  return true;
}

template <typename Row>
uint64_t Remaining(uint64_t limit, const std::vector<Row>& all) {
  return limit - std::min<uint64_t>(limit, all.size());
}

// Nesting of brackets outside of strings. Deep nesting exhausts the stack of whoever walks the value.
bool IsShallow(std::string_view json) {
  uint32_t depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < json.size(); i++) {
    const char c = json[i];
    if (in_string) {
      if (c == '\\') i++;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > kMaxJsonDepth) return false;
    } else if ((c == '}' || c == ']') && depth > 0) {
      depth--;
    }
  }
  return true;
}

}  // namespace

bool AppendModules(std::string_view payload, uint64_t limit, std::vector<TraceModule>* modules) {
  TableLoader loader(payload);
  std::vector<TraceModule> rows;
  if (!loader.MakeRows(Remaining(limit, *modules), &rows)) return false;
  loader.Delta(ModuleColumn::kStart, &rows, StoreAs(&TraceModule::start));
  loader.Plain(ModuleColumn::kLength, &rows, [](TraceModule& row, uint64_t length) {
    row.end = row.start + length;
    return row.end >= row.start;
  });
  loader.Plain(ModuleColumn::kLoadBias, &rows, [](TraceModule& row, uint64_t value) {
    row.load_bias = row.start - UnZigZag(value);
    return true;
  });
  loader.Delta(ModuleColumn::kFirstTsc, &rows, StoreAs(&TraceModule::first_tsc));
  loader.Text(ModuleColumn::kBuildId, &rows, &TraceModule::build_id);
  loader.Text(ModuleColumn::kPath, &rows, &TraceModule::path);
  if (loader.Has(ModuleColumn::kFirstNode)) {
    loader.Plain(ModuleColumn::kFirstNode, &rows, StoreAs(&TraceModule::first_node));
  }
  return AppendRows(loader, &rows, modules);
}

bool AppendThreads(std::string_view payload, uint64_t limit, std::vector<TraceThread>* threads) {
  TableLoader loader(payload);
  std::vector<TraceThread> rows;
  if (!loader.MakeRows(Remaining(limit, *threads), &rows)) return false;
  loader.Delta(ThreadColumn::kSerial, &rows, StoreAs(&TraceThread::serial));
  loader.Delta(ThreadColumn::kTid, &rows, StoreAs(&TraceThread::tid));
  loader.Delta(ThreadColumn::kFirstTsc, &rows, StoreAs(&TraceThread::first_tsc));
  loader.Text(ThreadColumn::kName, &rows, &TraceThread::name);
  return AppendRows(loader, &rows, threads);
}

bool AppendClocks(std::string_view payload, uint64_t limit, std::vector<TraceClock>* clocks) {
  TableLoader loader(payload);
  std::vector<TraceClock> rows;
  if (!loader.MakeRows(Remaining(limit, *clocks), &rows)) return false;
  loader.Delta(ClockColumn::kTsc, &rows, StoreAs(&TraceClock::tsc));
  loader.Delta(ClockColumn::kMonotonicNs, &rows, StoreAs(&TraceClock::monotonic_ns));
  loader.Delta(ClockColumn::kRealtimeNs, &rows, StoreAs(&TraceClock::realtime_ns));
  return AppendRows(loader, &rows, clocks);
}

bool AppendMemory(std::string_view payload, uint64_t limit, std::vector<TraceMemory>* samples) {
  TableLoader loader(payload);
  std::vector<TraceMemory> rows;
  if (!loader.MakeRows(Remaining(limit, *samples), &rows)) return false;
  loader.Delta(MemoryColumn::kMonotonicNs, &rows, StoreAs(&TraceMemory::monotonic_ns));
  const std::pair<MemoryColumn, uint64_t TraceMemory::*> optional[] = {
      {MemoryColumn::kRss, &TraceMemory::rss},
      {MemoryColumn::kPss, &TraceMemory::pss},
      {MemoryColumn::kFile, &TraceMemory::file},
      {MemoryColumn::kAnonymous, &TraceMemory::anonymous},
      {MemoryColumn::kShmem, &TraceMemory::shmem},
      {MemoryColumn::kSwap, &TraceMemory::swap},
      {MemoryColumn::kVirtualSize, &TraceMemory::virtual_size},
  };
  for (const auto& [id, field] : optional) {
    if (loader.Has(id)) loader.Delta(id, &rows, StoreAs(field));
  }
  return AppendRows(loader, &rows, samples);
}

bool AppendStacks(std::string_view payload, uint64_t limit, StackNodes* stacks) {
  TableLoader loader(payload);
  std::vector<TraceStackNode> rows;
  if (!loader.MakeRows(limit, &rows)) return false;
  uint64_t bad_parents = 0;
  loader.Delta(StackColumn::kNode, &rows, [](TraceStackNode& row, uint64_t node) {
    row.node = static_cast<uint32_t>(node);
    return node != 0 && node <= kMaxNodes;
  });
  loader.Plain(StackColumn::kParent, &rows, [&bad_parents](TraceStackNode& row, uint64_t value) {
    // Parents are older than their children. Anything else could be a circle.
    const uint64_t parent = row.node - UnZigZag(value);
    if (parent >= row.node) {
      bad_parents++;
    } else {
      row.parent = static_cast<uint32_t>(parent);
    }
    return true;
  });
  loader.Delta(StackColumn::kIp, &rows, StoreAs(&TraceStackNode::ip));
  if (loader.Has(StackColumn::kFlags)) loader.Plain(StackColumn::kFlags, &rows, StoreAs(&TraceStackNode::flags));
  if (!loader.sound()) return false;
  stacks->bad_parents += bad_parents;
  for (const TraceStackNode& row : rows) {
    if (row.node >= limit) {
      stacks->out_of_range++;
      continue;
    }
    if (row.node >= stacks->nodes.size()) {
      const size_t old_size = stacks->nodes.size();
      stacks->nodes.resize(row.node + size_t{1});
      stacks->present.resize(row.node + size_t{1});
      for (size_t i = old_size; i < stacks->nodes.size(); i++) stacks->nodes[i].node = static_cast<uint32_t>(i);
    }
    stacks->nodes[row.node] = row;
    stacks->present[row.node] = true;
  }
  return true;
}

bool ReadIndex(std::string_view payload, uint64_t limit, std::map<uint64_t, IndexedSection>* index) {
  struct Row {
    uint16_t type = 0;
    uint64_t offset = 0;
    uint32_t subject = 0;
  };
  TableLoader loader(payload);
  std::vector<Row> rows;
  if (!loader.MakeRows(limit, &rows)) return false;
  loader.Plain(IndexColumn::kType, &rows, StoreAs(&Row::type));
  loader.Delta(IndexColumn::kOffset, &rows, StoreAs(&Row::offset));
  loader.Plain(IndexColumn::kSubject, &rows, StoreAs(&Row::subject));
  if (!loader.sound()) return false;
  for (const Row& row : rows) (*index)[row.offset] = {row.type, row.subject};
  return true;
}

nlohmann::json ParseJsonObject(std::string_view payload) {
  nlohmann::json value(nlohmann::json::value_t::discarded);
  if (IsShallow(payload)) value = nlohmann::json::parse(payload, nullptr, /*allow_exceptions=*/false);
  if (!value.is_object()) value = nlohmann::json(nlohmann::json::value_t::discarded);
  return value;
}

}  // namespace tidemark
