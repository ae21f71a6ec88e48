// TraceWriter: keeps tables until the next events section needs them.
//
// Columns are coded here for tables and in event_encoder.cc for events; section_file.cc owns the file.
// Must not: write events before the modules, nodes and threads that were added before them; a trace that is cut off
// at any section then names every stack that it uses.
#include "profiler/trace_writer.h"

#include <algorithm>
#include <unordered_map>

#include "profiler/columns.h"
#include "profiler/event_encoder.h"
#include "profiler/section_file.h"
#include "profiler/trace_format.h"

namespace tidemark {
namespace {

constexpr size_t kMaxTableRows = 1u << 16;  // per section
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

  void FlushModules() {
    if (modules.empty()) return;
    TableColumns table(&payload, modules.size());
    table.Delta(ModuleColumn::kStart, modules, [](const TraceModule& m) { return m.start; });
    table.Plain(ModuleColumn::kLength, modules, [](const TraceModule& m) { return m.end - m.start; });
    table.Plain(ModuleColumn::kLoadBias, modules, [](const TraceModule& m) { return ZigZag(m.start - m.load_bias); });
    table.Delta(ModuleColumn::kFirstTsc, modules, [](const TraceModule& m) { return m.first_tsc; });
    table.Text(ModuleColumn::kBuildId, modules, [](const TraceModule& m) -> const std::string& { return m.build_id; });
    table.Text(ModuleColumn::kPath, modules, [](const TraceModule& m) -> const std::string& { return m.path; });
    if (std::any_of(modules.begin(), modules.end(), [](const TraceModule& m) { return m.first_node != 0; })) {
      table.Plain(ModuleColumn::kFirstNode, modules, [](const TraceModule& m) { return m.first_node; });
    }
    file->Append(SectionType::kModules, 0, payload);
    modules.clear();
    module_bytes = 0;
  }

  void FlushStacks() {
    if (nodes.empty()) return;
    TableColumns table(&payload, nodes.size());
    table.Delta(StackColumn::kNode, nodes, [](const TraceStackNode& n) { return n.node; });
    table.Plain(StackColumn::kParent, nodes,
                [](const TraceStackNode& n) { return ZigZag(uint64_t{n.node} - n.parent); });
    table.Delta(StackColumn::kIp, nodes, [](const TraceStackNode& n) { return n.ip; });
    if (std::any_of(nodes.begin(), nodes.end(), [](const TraceStackNode& n) { return n.flags != 0; })) {
      table.Plain(StackColumn::kFlags, nodes, [](const TraceStackNode& n) { return n.flags; });
    }
    file->Append(SectionType::kStacks, 0, payload);
    nodes.clear();
  }

  void FlushThreads() {
    if (threads.empty()) return;
    TableColumns table(&payload, threads.size());
    table.Delta(ThreadColumn::kSerial, threads, [](const TraceThread& t) { return t.serial; });
    table.Delta(ThreadColumn::kTid, threads, [](const TraceThread& t) { return t.tid; });
    table.Delta(ThreadColumn::kFirstTsc, threads, [](const TraceThread& t) { return t.first_tsc; });
    table.Text(ThreadColumn::kName, threads, [](const TraceThread& t) -> const std::string& { return t.name; });
    file->Append(SectionType::kThreads, 0, payload);
    threads.clear();
  }

  void FlushClocks() {
    if (clocks.empty()) return;
    TableColumns table(&payload, clocks.size());
    table.Delta(ClockColumn::kTsc, clocks, [](const TraceClock& c) { return c.tsc; });
    table.Delta(ClockColumn::kMonotonicNs, clocks, [](const TraceClock& c) { return c.monotonic_ns; });
    table.Delta(ClockColumn::kRealtimeNs, clocks, [](const TraceClock& c) { return c.realtime_ns; });
    file->Append(SectionType::kClock, 0, payload);
    clocks_written += clocks.size();
    clocks.clear();
  }

  void FlushMemory() {
    if (memory.empty()) return;
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
    TableColumns table(&payload, memory.size());
    for (const Field& field : kFields) {
      table.Delta(field.id, memory, [&field](const TraceMemory& m) { return m.*field.value; });
    }
    file->Append(SectionType::kMemory, 0, payload);
    memory_written += memory.size();
    memory.clear();
  }

  void FlushBeforeEvents() {
    FlushModules();
    FlushStacks();
    FlushThreads();
    if (clocks.size() >= kSamplesPerSection || clocks_written < kEagerSamples) FlushClocks();
    if (memory.size() >= kSamplesPerSection || memory_written < kEagerSamples) FlushMemory();
  }

  void FlushAll() {
    FlushModules();
    FlushStacks();
    FlushThreads();
    FlushClocks();
    FlushMemory();
  }

  void WriteEvents(const EventsHeader& header, EventEncoder* events) {
    FlushBeforeEvents();
    events->Finish(header, &payload);
    file->Append(SectionType::kEvents, header.thread_serial, payload);
  }

  std::unique_ptr<SectionFile> file;
  Payload payload;
  std::vector<TraceModule> modules;
  size_t module_bytes = 0;
  std::vector<TraceStackNode> nodes;
  std::vector<TraceThread> threads;
  std::unordered_map<uint32_t, TraceThread> known_threads;
  std::vector<TraceClock> clocks;
  uint64_t clocks_written = 0;
  std::vector<TraceMemory> memory;
  uint64_t memory_written = 0;
};

TraceWriter::TraceWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

// Not finished: what is buffered is still worth having; the missing end record tells readers the rest.
TraceWriter::~TraceWriter() { impl_->FlushAll(); }

std::unique_ptr<TraceWriter> TraceWriter::Create(const std::string& path, std::string* error) {
  std::unique_ptr<SectionFile> file = SectionFile::Create(path, error);
  if (file == nullptr) return nullptr;
  return std::unique_ptr<TraceWriter>(new TraceWriter(std::make_unique<Impl>(std::move(file))));
}

void TraceWriter::WriteInfo(std::string_view json) { impl_->WriteJson(SectionType::kInfo, json); }

void TraceWriter::AddModule(TraceModule module) {
  impl_->module_bytes += module.path.size() + module.build_id.size() + 64;
  impl_->modules.push_back(std::move(module));
  if (impl_->modules.size() >= kMaxTableRows || impl_->module_bytes > kMaxSectionBytes / 4) impl_->FlushModules();
}

void TraceWriter::AddStackNode(TraceStackNode node) {
  impl_->nodes.push_back(node);
  if (impl_->nodes.size() >= kMaxTableRows) impl_->FlushStacks();
}

void TraceWriter::AddThread(TraceThread thread) {
  thread.name.resize(std::min<size_t>(thread.name.size(), 255));  // the kernel's names have 15 bytes
  const auto [known, is_new] = impl_->known_threads.try_emplace(thread.serial, thread);
  if (!is_new) {
    const TraceThread& old = known->second;
    if (old.tid == thread.tid && old.first_tsc == thread.first_tsc && old.name == thread.name) return;
    known->second = thread;
  }
  impl_->threads.push_back(std::move(thread));
  if (impl_->threads.size() >= kMaxTableRows) impl_->FlushThreads();
}

void TraceWriter::AddClock(TraceClock clock) {
  impl_->clocks.push_back(clock);
  if (impl_->clocks.size() >= kMaxTableRows) impl_->FlushClocks();
}

void TraceWriter::AddMemory(TraceMemory sample) {
  impl_->memory.push_back(sample);
  if (impl_->memory.size() >= kMaxTableRows) impl_->FlushMemory();
}

void TraceWriter::WriteEvents(const EventsHeader& header, EventEncoder* events) { impl_->WriteEvents(header, events); }

void TraceWriter::Flush() { impl_->FlushAll(); }

void TraceWriter::Finish(std::string_view end_json) {
  impl_->FlushAll();
  impl_->file->Retry();
  impl_->WriteJson(SectionType::kEnd, end_json);
  impl_->file->FinishWithIndex();
}

uint64_t TraceWriter::bytes_written() const { return impl_->file->bytes_written(); }
uint64_t TraceWriter::lost_sections() const { return impl_->file->lost_sections(); }
const std::string& TraceWriter::error() const { return impl_->file->error(); }
const std::string& TraceWriter::path() const { return impl_->file->path(); }

}  // namespace tidemark
