// TraceWriter: keeps tables until the next events section needs them.
//
// Columns are coded here for tables and in event_encoder.cc for events; section_file.cc owns the file. Tables that
// could not be written (disk full) are kept for a later attempt: events that come after the disk has room again need
// them. Must not: write events before the modules, nodes and threads that were added before them; a trace that is cut
// off at any section then names every stack that it uses.
#include "profiler/trace_writer.h"

#include <algorithm>
#include <span>
#include <unordered_map>

#include "profiler/columns.h"
#include "profiler/event_encoder.h"
#include "profiler/section_file.h"
#include "profiler/trace_format.h"

namespace tidemark {
namespace {

constexpr size_t kMaxTableRows = 1u << 16;                // per section
constexpr size_t kMaxModuleBytes = kMaxSectionBytes / 4;  // per section
constexpr size_t kMaxBufferedModules = 512;
// What is kept of one table while the disk is full: a large program has a million stack nodes.
constexpr size_t kMaxKeptRows = 1u << 22;
constexpr size_t kMaxKeptModuleBytes = kMaxSectionBytes;
// Clock and memory samples wait for company, but the first ones are written at once: two clock samples are what it
// takes to turn ticks into nanoseconds, should the collector be killed.
constexpr size_t kEagerSamples = 4, kSamplesPerSection = 16;

// One column of a table: codes a field of every row.
class TableColumns {
 public:
  TableColumns(Payload* payload, size_t rows) : payload_(payload), rows_(rows) { payload->StartTable(rows); }

  template <typename Id, typename Rows, typename Field>
  void Plain(Id id, const Rows& rows, Field field) {
    Start();
    for (const auto& row : rows) column_.Put(field(row));
    payload_->AddColumn(id, column_);
  }
  template <typename Id, typename Rows, typename Field>
  void Delta(Id id, const Rows& rows, Field field) {
    Start();
    uint64_t previous = 0;
    for (const auto& row : rows) {
      const uint64_t value = field(row);
      column_.PutSigned(value - previous);
      previous = value;
    }
    payload_->AddColumn(id, column_);
  }
  template <typename Id, typename Rows, typename Field>
  void Bytes(Id id, const Rows& rows, Field field) {
    Start();
    for (const auto& row : rows) column_.PutByte(field(row));
    payload_->AddColumn(id, column_);
  }
  template <typename Id, typename Rows, typename Field>
  void Text(Id id, const Rows& rows, Field field) {
    Start();
    for (const auto& row : rows) column_.PutText(std::string_view(field(row)).substr(0, kMaxTextBytes));
    payload_->AddColumn(id, column_);
  }

 private:
  void Start() {
    column_.Clear();
    column_.Reserve(rows_);
  }

  Payload* payload_;
  size_t rows_;
  ColumnBuilder column_;
};

}  // namespace

class TraceWriter::Impl {
 public:
  explicit Impl(std::unique_ptr<SectionFile> sections) : file(std::move(sections)) {}

  void WriteJson(SectionType type, std::string_view json) {
    payload.bytes.assign(json);
    payload.cuts.clear();
    file->Append(type, 0, payload);
  }

  // Writes `rows` in sections of `rows_per_section` and forgets them. False: some are left, for a later attempt.
  template <typename Row, typename Encode>
  bool Flush(SectionType type, std::vector<Row>* rows, size_t rows_per_section, Encode encode) {
    size_t done = 0;
    while (done < rows->size() && file->Accepts()) {
      const std::span<const Row> next(rows->data() + done, std::min(rows->size() - done, rows_per_section));
      TableColumns table(&payload, next.size());
      encode(table, next);
      if (!file->TryAppend(type, 0, payload)) break;
      done += next.size();
    }
    rows->erase(rows->begin(), rows->begin() + static_cast<ptrdiff_t>(done));
    if (rows->size() >= kMaxKeptRows) GiveUp(rows);
    return rows->empty();
  }

  template <typename Row>
  void GiveUp(std::vector<Row>* rows) {
    if (!rows->empty()) file->CountLost();
    *rows = std::vector<Row>();
  }

  bool FlushInfo() {
    if (info.empty()) return true;
    payload.bytes = info;
    payload.cuts.clear();
    if (!file->TryAppend(SectionType::kInfo, 0, payload)) return false;
    info.clear();
    return true;
  }

  bool FlushModules() {
    // As many as are allowed in bytes, should all of them be as large as the largest.
    size_t largest = 1, all = 0;
    for (const TraceModule& module : modules) {
      largest = std::max(largest, BytesOf(module));
      all += BytesOf(module);
    }
    const auto encode = [](TableColumns& table, std::span<const TraceModule> rows) {
      table.Delta(ModuleColumn::kStart, rows, [](const TraceModule& m) { return m.start; });
      table.Plain(ModuleColumn::kLength, rows, [](const TraceModule& m) { return m.end - m.start; });
      table.Plain(ModuleColumn::kLoadBias, rows, [](const TraceModule& m) { return ZigZag(m.start - m.load_bias); });
      table.Delta(ModuleColumn::kFirstTsc, rows, [](const TraceModule& m) { return m.first_tsc; });
      table.Text(ModuleColumn::kBuildId, rows, [](const TraceModule& m) -> const std::string& { return m.build_id; });
      table.Text(ModuleColumn::kPath, rows, [](const TraceModule& m) -> const std::string& { return m.path; });
      if (std::any_of(rows.begin(), rows.end(), [](const TraceModule& m) { return m.first_node != 0; })) {
        table.Plain(ModuleColumn::kFirstNode, rows, [](const TraceModule& m) { return m.first_node; });
      }
    };
    if (Flush(SectionType::kModules, &modules, std::min(kMaxTableRows, 1 + kMaxModuleBytes / largest), encode)) {
      return true;
    }
    if (all > kMaxKeptModuleBytes) GiveUp(&modules);
    return false;
  }

  bool FlushStacks() {
    return Flush(SectionType::kStacks, &nodes, kMaxTableRows, [](TableColumns& table, auto rows) {
      table.Delta(StackColumn::kNode, rows, [](const TraceStackNode& n) { return n.node; });
      table.Plain(StackColumn::kParent, rows,
                  [](const TraceStackNode& n) { return ZigZag(uint64_t{n.node} - n.parent); });
      table.Delta(StackColumn::kIp, rows, [](const TraceStackNode& n) { return n.ip; });
      if (std::any_of(rows.begin(), rows.end(), [](const TraceStackNode& n) { return n.flags != 0; })) {
        table.Plain(StackColumn::kFlags, rows, [](const TraceStackNode& n) { return n.flags; });
      }
    });
  }

  bool FlushThreads() {
    return Flush(SectionType::kThreads, &threads, kMaxTableRows, [](TableColumns& table, auto rows) {
      table.Delta(ThreadColumn::kSerial, rows, [](const TraceThread& t) { return t.serial; });
      table.Delta(ThreadColumn::kTid, rows, [](const TraceThread& t) { return t.tid; });
      table.Delta(ThreadColumn::kFirstTsc, rows, [](const TraceThread& t) { return t.first_tsc; });
      table.Text(ThreadColumn::kName, rows, [](const TraceThread& t) -> const std::string& { return t.name; });
    });
  }

  bool FlushClocks() {
    const size_t before = clocks.size();
    const bool all = Flush(SectionType::kClock, &clocks, kMaxTableRows, [](TableColumns& table, auto rows) {
      table.Delta(ClockColumn::kTsc, rows, [](const TraceClock& c) { return c.tsc; });
      table.Delta(ClockColumn::kMonotonicNs, rows, [](const TraceClock& c) { return c.monotonic_ns; });
      table.Delta(ClockColumn::kRealtimeNs, rows, [](const TraceClock& c) { return c.realtime_ns; });
    });
    clocks_written += before - clocks.size();
    return all;
  }

  bool FlushMemory() {
    struct Field {
      MemoryColumn id;
      uint64_t TraceMemory::*value;
    };
    static constexpr Field kFields[] = {
        {MemoryColumn::kMonotonicNs, &TraceMemory::monotonic_ns},
        {MemoryColumn::kRss, &TraceMemory::rss},
        {MemoryColumn::kPss, &TraceMemory::pss},
        {MemoryColumn::kAnonymous, &TraceMemory::anonymous},
        {MemoryColumn::kFile, &TraceMemory::file},
        {MemoryColumn::kShmem, &TraceMemory::shmem},
        {MemoryColumn::kSwap, &TraceMemory::swap},
        {MemoryColumn::kVirtualSize, &TraceMemory::virtual_size},
    };
    const size_t before = memory.size();
    const bool all = Flush(SectionType::kMemory, &memory, kMaxTableRows, [](TableColumns& table, auto rows) {
      for (const Field& field : kFields) {
        table.Delta(field.id, rows, [&field](const TraceMemory& m) { return m.*field.value; });
      }
    });
    memory_written += before - memory.size();
    return all;
  }

  // True when everything is in the file that events refer to.
  bool FlushBeforeEvents() {
    const bool all = FlushInfo() && FlushModules() && FlushStacks() && FlushThreads();
    if (clocks.size() >= kSamplesPerSection || clocks_written < kEagerSamples) FlushClocks();
    if (memory.size() >= kSamplesPerSection || memory_written < kEagerSamples) FlushMemory();
    return all;
  }

  void FlushAll() {
    FlushInfo();
    FlushModules();
    FlushStacks();
    FlushThreads();
    FlushClocks();
    FlushMemory();
  }

  // One more attempt; what cannot be written now never will be, and is counted.
  void FlushForGood() {
    file->Retry();
    FlushAll();
    if (!info.empty()) file->CountLost();
    info.clear();
    GiveUp(&modules);
    GiveUp(&nodes);
    GiveUp(&threads);
    GiveUp(&clocks);
    GiveUp(&memory);
  }

  void WriteEvents(const EventsHeader& header, EventEncoder* events) {
    if (!FlushBeforeEvents()) return file->CountLost();
    events->Finish(header, &payload);
    file->Append(SectionType::kEvents, header.thread_serial, payload);
  }

  // A part that cannot be written is missing, and its number with it: a reader takes the check for incomplete.
  void WriteLeaks(const TraceLeakCheck& check, std::span<const TraceLeakRow> rows, bool last) {
    const uint32_t part = leak_parts[check.number]++;
    if (last) leak_parts.erase(check.number);
    if (!FlushBeforeEvents()) return file->CountLost();
    TableColumns table(&payload, rows.size());
    ColumnBuilder header;
    header.Reserve(15);
    for (const uint64_t value :
         {uint64_t{check.number}, uint64_t{part}, uint64_t{last}, uint64_t{static_cast<uint32_t>(check.trigger)},
          uint64_t{static_cast<uint32_t>(check.method)}, uint64_t{static_cast<uint32_t>(check.outcome)},
          uint64_t{check.flags}, check.tsc, check.pause_us, check.scan_us, uint64_t{check.threads},
          uint64_t{check.threads_not_stopped}, check.root_bytes, check.live_blocks, check.live_bytes}) {
      header.Put(value);
    }
    payload.AddColumn(LeakColumn::kCheck, header);
    table.Bytes(LeakColumn::kClass, rows, [](const TraceLeakRow& r) { return r.leak_class; });
    table.Bytes(LeakColumn::kRoot, rows, [](const TraceLeakRow& r) { return r.root; });
    table.Delta(LeakColumn::kNode, rows, [](const TraceLeakRow& r) { return r.node; });
    table.Plain(LeakColumn::kBlocks, rows, [](const TraceLeakRow& r) { return r.blocks; });
    table.Plain(LeakColumn::kBytes, rows, [](const TraceLeakRow& r) { return r.bytes; });
    table.Delta(LeakColumn::kAddress, rows, [](const TraceLeakRow& r) { return r.address / 16; });
    table.Plain(LeakColumn::kLeader, rows,
                [](const TraceLeakRow& r) { return ZigZag(r.leader / 16 - r.address / 16); });
    if (std::any_of(rows.begin(), rows.end(), [](const TraceLeakRow& r) { return r.flags != 0; })) {
      table.Plain(LeakColumn::kFlags, rows, [](const TraceLeakRow& r) { return r.flags; });
    }
    file->Append(SectionType::kLeaks, 0, payload);
  }

  static size_t BytesOf(const TraceModule& module) { return module.path.size() + module.build_id.size() + 64; }

  std::unique_ptr<SectionFile> file;
  Payload payload;
  std::string info;  // waits for being written, as the tables do
  std::vector<TraceModule> modules;
  std::vector<TraceStackNode> nodes;
  std::vector<TraceThread> threads;
  std::unordered_map<uint32_t, TraceThread> known_threads;
  std::vector<TraceClock> clocks;
  uint64_t clocks_written = 0;
  std::vector<TraceMemory> memory;
  uint64_t memory_written = 0;
  std::unordered_map<uint32_t, uint32_t> leak_parts;  // of checks under way: how many have been written
};

TraceWriter::TraceWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

// Not finished: what is buffered is still worth having; the missing end record tells readers the rest.
TraceWriter::~TraceWriter() { impl_->FlushAll(); }

std::unique_ptr<TraceWriter> TraceWriter::Create(const std::string& path, std::string* error) {
  std::unique_ptr<SectionFile> file = SectionFile::Create(path, error);
  if (file == nullptr) return nullptr;
  return std::unique_ptr<TraceWriter>(new TraceWriter(std::make_unique<Impl>(std::move(file))));
}

void TraceWriter::WriteInfo(std::string_view json) {
  if (json.size() > kMaxJsonBytes) return impl_->WriteJson(SectionType::kInfo, json);  // which refuses it
  impl_->info = json;
  impl_->FlushInfo();
}

void TraceWriter::AddModule(TraceModule module) {
  impl_->modules.push_back(std::move(module));
  if (impl_->modules.size() % kMaxBufferedModules == 0) impl_->FlushModules();
}

void TraceWriter::AddStackNode(TraceStackNode node) {
  impl_->nodes.push_back(node);
  if (impl_->nodes.size() % kMaxTableRows == 0) impl_->FlushStacks();
}

void TraceWriter::AddThread(TraceThread thread) {
  thread.name.resize(std::min<size_t>(thread.name.size(), 255));  // the kernel's names have 15 bytes
  // Only to spare repeated rows; a program may start any number of threads.
  constexpr size_t kMaxKnownThreads = 1 << 16;
  if (impl_->known_threads.size() >= kMaxKnownThreads) impl_->known_threads.clear();
  const auto [known, is_new] = impl_->known_threads.try_emplace(thread.serial, thread);
  if (!is_new) {
    const TraceThread& old = known->second;
    if (old.tid == thread.tid && old.first_tsc == thread.first_tsc && old.name == thread.name) return;
    known->second = thread;
  }
  impl_->threads.push_back(std::move(thread));
  if (impl_->threads.size() % kMaxTableRows == 0) impl_->FlushThreads();
}

void TraceWriter::AddClock(TraceClock clock) {
  impl_->clocks.push_back(clock);
  if (impl_->clocks.size() % kMaxTableRows == 0) impl_->FlushClocks();
}

void TraceWriter::AddMemory(TraceMemory sample) {
  impl_->memory.push_back(sample);
  if (impl_->memory.size() % kMaxTableRows == 0) impl_->FlushMemory();
}

void TraceWriter::WriteEvents(const EventsHeader& header, EventEncoder* events) { impl_->WriteEvents(header, events); }

void TraceWriter::AddLeaks(const TraceLeakCheck& check, std::span<const TraceLeakRow> rows, bool last) {
  while (rows.size() > kMaxTableRows) {
    impl_->WriteLeaks(check, rows.first(kMaxTableRows), false);
    rows = rows.subspan(kMaxTableRows);
  }
  impl_->WriteLeaks(check, rows, last);
}

void TraceWriter::Flush() { impl_->FlushForGood(); }

void TraceWriter::Finish(std::string_view end_json) {
  impl_->FlushForGood();
  impl_->file->Retry();
  impl_->WriteJson(SectionType::kEnd, end_json);
  impl_->file->FinishWithIndex();
}

uint64_t TraceWriter::bytes_written() const { return impl_->file->bytes_written(); }
uint64_t TraceWriter::lost_sections() const { return impl_->file->lost_sections(); }
const std::string& TraceWriter::error() const { return impl_->file->error(); }
const std::string& TraceWriter::path() const { return impl_->file->path(); }

}  // namespace tidemark
