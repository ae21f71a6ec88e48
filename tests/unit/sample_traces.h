// Traces with known content, for the tests of the format and for the golden files: every kind of section and event,
// extreme values, several threads. Also a text dump of a trace, which tests compare and golden files come with.
//
// Must not: depend on time, addresses or the machine; the bytes of golden files follow from this file alone.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "profiler/event_encoder.h"
#include "profiler/trace_writer.h"
#include "tools/trace_reader.h"

namespace tidemark::sample {

inline constexpr uint64_t kMax64 = ~uint64_t{0};

inline std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream bytes;
  bytes << in.rdbuf();
  return bytes.str();
}

inline void WriteFile(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// A fresh name in the temporary directory; the file is removed at the end of the scope.
class TemporaryPath {
 public:
  explicit TemporaryPath(const std::string& name = "trace") {
    const char* directory = getenv("TMPDIR");
    static int count = 0;
    path_ = std::string(directory != nullptr ? directory : "/tmp") + "/tidemark-" + name + "." +
            std::to_string(getpid()) + "." + std::to_string(count++) + ".tmk";
    unlink(path_.c_str());
  }
  ~TemporaryPath() { unlink(path_.c_str()); }
  TemporaryPath(const TemporaryPath&) = delete;
  TemporaryPath& operator=(const TemporaryPath&) = delete;
  const std::string& str() const { return path_; }

 private:
  std::string path_;
};

// The same sequence on every machine (std::mt19937's distributions are not).
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2 + 1) {}
  uint64_t Next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    state_ ^= state_ << 17;
    return state_ * 0x2545f4914f6cdd1d;
  }
  uint64_t Below(uint64_t bound) { return (Next() >> 11) % bound; }

 private:
  uint64_t state_;
};

inline void Encode(const TraceEvent& event, EventEncoder* encoder) {
  switch (event.kind) {
    case RecordKind::kAlloc:
      return encoder->Alloc(event.tsc, event.api, event.node, event.size, event.address);
    case RecordKind::kFree:
      return encoder->Free(event.tsc, event.address);
    case RecordKind::kRealloc:
      return encoder->Realloc(event.tsc, event.api, event.node, event.size, event.address, event.old_address,
                              event.elapsed);
    case RecordKind::kGap:
      return encoder->Gap(event.tsc, event.gap_kind, event.count, event.size);
    case RecordKind::kHeapError:
      return encoder->HeapError(event.tsc, event.count, event.node, event.address);
    case RecordKind::kGuardReport:
      return encoder->Guard(event.tsc, event.node, event.guard);
    default:
      return encoder->Mark(event.tsc, event.text);
  }
}

inline TraceEvent Alloc(uint64_t tsc, uint64_t address, uint64_t size, uint32_t node, Api api = Api::kMalloc) {
  TraceEvent event;
  event.kind = RecordKind::kAlloc;
  event.api = api;
  event.tsc = tsc;
  event.address = address;
  event.size = size;
  event.node = node;
  return event;
}

inline TraceEvent Free(uint64_t tsc, uint64_t address) {
  TraceEvent event;
  event.kind = RecordKind::kFree;
  event.tsc = tsc;
  event.address = address;
  return event;
}

inline TraceEvent Realloc(uint64_t tsc, uint64_t old_address, uint64_t address, uint64_t size, uint32_t node,
                          uint64_t elapsed) {
  TraceEvent event = Alloc(tsc, address, size, node, Api::kRealloc);
  event.kind = RecordKind::kRealloc;
  event.old_address = old_address;
  event.elapsed = elapsed;
  return event;
}

inline TraceEvent Gap(uint64_t tsc, uint32_t kind, uint64_t count, uint64_t bytes) {
  TraceEvent event;
  event.kind = RecordKind::kGap;
  event.tsc = tsc;
  event.gap_kind = kind;
  event.count = count;
  event.size = bytes;
  return event;
}

inline TraceEvent BadFree(uint64_t tsc, uint64_t address, uint32_t node, HeapError error) {
  TraceEvent event;
  event.kind = RecordKind::kHeapError;
  event.tsc = tsc;
  event.address = address;
  event.node = node;
  event.count = static_cast<uint64_t>(error);
  return event;
}

inline TraceEvent Guarded(uint64_t tsc, uint32_t node, const GuardReport& report) {
  TraceEvent event;
  event.kind = RecordKind::kGuardReport;
  event.tsc = tsc;
  event.node = node;
  event.guard = report;
  event.address = report.block;
  event.size = report.size;
  return event;
}

inline TraceEvent Mark(uint64_t tsc, std::string text) {
  TraceEvent event;
  event.kind = RecordKind::kMark;
  event.tsc = tsc;
  event.text = std::move(text);
  return event;
}

// Alloc, free, realloc at random; frees of blocks of this stream, of others, and of blocks that were freed before.
inline std::vector<TraceEvent> RandomEvents(Random* random, size_t count, bool stamped) {
  std::vector<TraceEvent> events;
  std::vector<uint64_t> live;
  uint64_t tsc = 1000000 + random->Below(1000000);
  const auto address = [random] { return (0x7f0000000000 + random->Below(1 << 20) * 64) & ~uint64_t{15}; };
  const auto size = [random] {
    return random->Below(8) == 0 ? random->Next() >> random->Below(64) : random->Below(300);
  };
  const auto node = [random] { return static_cast<uint32_t>(random->Below(40)); };
  const auto released = [&] {
    if (live.empty() || random->Below(10) == 0) return address();
    const size_t at = random->Below(live.size());
    const uint64_t block = live[at];
    if (random->Below(20) != 0) live.erase(live.begin() + static_cast<ptrdiff_t>(at));
    return block;
  };
  for (size_t i = 0; i < count; i++) {
    if (stamped) tsc += random->Below(20) == 0 ? random->Below(1 << 30) : random->Below(5000);
    switch (random->Below(20)) {
      case 0:
        events.push_back(Gap(tsc, static_cast<uint32_t>(random->Below(3)), random->Next(), random->Next()));
        break;
      case 1:
        if (random->Below(2) == 0) {
          events.push_back(BadFree(tsc, address(), node(), HeapError::kDoubleFree));
        } else {
          events.push_back(Guarded(tsc, node(),
                                   {HeapError::kOverflow,
                                    Access::kWrite,
                                    address(),
                                    static_cast<int64_t>(random->Next()),
                                    size(),
                                    {node(), 1},
                                    {}}));
        }
        break;
      case 2:
        events.push_back(Mark(tsc, std::string(random->Below(30), 'm')));
        break;
      case 3: {
        const uint64_t old_block = released();
        live.push_back(address());
        events.push_back(Realloc(tsc, old_block, live.back(), size(), node(), random->Below(2) * random->Next()));
        break;
      }
      case 4:
      case 5:
      case 6:
      case 7:
      case 8:
      case 9:
      case 10:
      case 11:
        events.push_back(Free(tsc, released()));
        break;
      default:
        live.push_back(address());
        events.push_back(Alloc(tsc, live.back(), size(), node(), static_cast<Api>(random->Below(9))));
    }
  }
  return events;
}

// One thread's events as the collector would write them: as many sections as it takes.
inline void WriteEvents(TraceWriter* writer, uint32_t thread_serial, uint32_t chunk_sequence, uint32_t fragment,
                        const std::vector<TraceEvent>& events, uint32_t tsc_shift = 0) {
  EventEncoder encoder;
  EventsHeader header;
  header.thread_serial = thread_serial;
  header.chunk_sequence = chunk_sequence;
  header.fragment = fragment;
  for (size_t i = 0; i < events.size();) {
    encoder.Start(events.size() - i, events[i].tsc, tsc_shift);
    for (; i < events.size() && !encoder.full(); i++) Encode(events[i], &encoder);
    writer->WriteEvents(header, &encoder);
    header.part++;
  }
}

// ---- The golden traces.

inline void WriteMinimal(TraceWriter* writer) {
  writer->WriteInfo(R"({"mode":"full"})");
  WriteEvents(writer, 1, 0, 0, {Alloc(1000, 0x7f0000000040, 24, 0), Free(1000, 0x7f0000000040)});
  writer->Finish(R"({"exit":{"kind":"exited","status":0}})");
}

inline void WriteEveryKind(TraceWriter* writer) {
  writer->WriteInfo(R"({"tool_version":"0.1.0","mode":"sampled","sample_bytes":524288,"pid":4711,"ppid":1,)"
                    R"("command":["a program","--with","\ufffd"],"image":0,"parent":null,"bypassed":false})");
  writer->AddClock({1000, 5000, 1700000000000000000});
  writer->AddModule({0x555555554000, 0x555555558000, 0x555555554000, 0, "\x01\x02\xfe\xff", "/usr/bin/a program"});
  writer->AddModule({0x7ffff7d00000, 0x7ffff7f00000, 0x7ffff7cd8000, 1500, "", "/lib/libc.so.6"});
  writer->AddThread({1, 4711, 1000, "main"});
  writer->AddStackNode({1, 0, 0, 0x7ffff7d2724a});
  writer->AddStackNode({2, 1, 0, 0x555555555170});
  writer->AddStackNode({5, 2, kNodeFramePointer | kNodeSignal, 0x555555555199});
  writer->AddStackNode({6, 5, kNodeTruncated, 0});
  writer->AddMemory({5000, 4096, 2048, 1024, 512, 256, 128, 1 << 30});
  WriteEvents(writer, 1, 0, 0,
              {Alloc(1000, 0x7f0000000010, 1, 2), Alloc(1200, 0x7f0000010000, 100000, 5, Api::kAlignedAlloc),
               Alloc(1300, 0x7f0000000020, 1, 2, Api::kCalloc), Free(1400, 0x7f0000010000),
               Realloc(1500, 0x7f0000000010, 0x7f0000000100, 90, 6, 17), Free(1600, 0x7e0000000000),
               Gap(1700, kKindFree, 12, 0), Gap(1700, kKindAlloc, 3, 4096),
               BadFree(1800, 0x7f0000000010, 6, HeapError::kDoubleFree),
               Guarded(1850, 5, {HeapError::kUseAfterFree, Access::kRead, 0x7f0000003fc0, -3, 60, {2, 1}, {6, 1}}),
               Mark(1900, "phase \"two\"\n\xff")});
  writer->AddThread({1, 4711, 1000, "renamed"});
  writer->AddClock({3000, 6000, 1700000000000001000});
  WriteEvents(writer, 1, 0, 1, {Free(2500, 0x7f0000000100)});
  writer->AddMemory({6000, 8192, 0, 0, 0, 0, 0, 1 << 30});
  writer->Finish(R"({"exit":{"kind":"signaled","signal":9},"lost_sections":0})");
}

// `with_end`: Finish, or leave it as if the collector had been killed.
inline void WriteThreads(TraceWriter* writer, uint32_t tsc_shift, bool with_end) {
  writer->WriteInfo(R"({"mode":"full","sample_bytes":0})");
  writer->AddClock({1000000, 1, 1});
  writer->AddClock({1000000000, 499500001, 499500001});
  for (uint32_t node = 1; node < 40; node++) writer->AddStackNode({node, node / 2, 0, 0x400000 + node * 16});
  for (uint32_t serial = 1; serial <= 3; serial++) {
    writer->AddThread({serial, 100 + serial, 0, "worker " + std::to_string(serial)});
    Random random(serial);
    const std::vector<TraceEvent> events = RandomEvents(&random, 300, true);
    // The collector meets a thread's chunks in any order.
    WriteEvents(writer, serial, 1, 0, {events.begin() + 200, events.end()}, tsc_shift);
    WriteEvents(writer, serial, 0, 0, {events.begin(), events.begin() + 100}, tsc_shift);
    WriteEvents(writer, serial, 0, 1, {events.begin() + 100, events.begin() + 200}, tsc_shift);
  }
  if (with_end) writer->Finish(R"({"exit":{"kind":"exited","status":0}})");
}

// Checks in parts, with every class, root and flag; `last_is_cut`: the third has no last part.
inline void WriteLeaks(TraceWriter* writer, bool last_is_cut) {
  writer->WriteInfo(R"({"mode":"full","leak_check":true,"pid":4711})");
  writer->AddClock({1000, 5000, 1700000000000000000});
  writer->AddThread({1, 4711, 1000, "main"});
  writer->AddStackNode({1, 0, 0, 0x401000});
  writer->AddStackNode({2, 1, 0, 0x401020});
  writer->AddStackNode({3, 1, 0, 0x401040});
  WriteEvents(writer, 1, 0, 0,
              {Alloc(1000, 0x7f0000000010, 100, 2), Alloc(1200, 0x7f0000000100, 40, 3),
               Alloc(1300, 0x7f0000000200, 8, 3), Alloc(1400, 0x7f0000000300, 64, 2)});
  writer->AddClock({3000, 6000, 1700000000000001000});
  TraceLeakCheck check;
  check.number = 1;
  check.tsc = 2000;
  check.pause_us = 15;
  check.scan_us = 10;
  check.threads = 1;
  check.root_bytes = 1 << 20;
  check.live_blocks = 4;
  check.live_bytes = 212;
  const TraceLeakRow lost[] = {{3, 0, 0, 2, 1, 100, 0x7f0000000010, 0x7f0000000010},
                               {2, 0, kLeakInherited, 3, 1, 40, 0x7f0000000100, 0x7f0000000010}};
  const TraceLeakRow held[] = {{1, 2, 0, 3, 1, 8, 0x7f0000000200, 0x7f0000000200},
                               {0, 4, kLeakHeapSize, 2, 1, 64, 0, 0}};
  writer->AddLeaks(check, lost, false);
  writer->AddLeaks(check, held, true);
  check.number = 2;
  check.trigger = LeakTrigger::kExitAfter;
  check.flags = kLeaksThreadsRan;
  check.threads = 3;
  check.threads_not_stopped = 1;
  writer->AddLeaks(check, lost, true);
  check.number = 3;
  check.trigger = LeakTrigger::kOnDemand;
  check.method = LeakMethod::kSnapshot;
  check.outcome = LeakOutcome::kUnfinished;
  writer->AddLeaks(check, held, !last_is_cut);
  writer->Finish(R"({"exit":{"kind":"exited","status":0},"leak_checks":{"begun":3,"finished":2}})");
}

// ---- Text dumps.

inline std::string Hex(uint64_t value) {
  char text[32];
  snprintf(text, sizeof text, "%lx", static_cast<unsigned long>(value));
  return text;
}

inline std::string HexBytes(const std::string& bytes) {
  std::string text = "\"";
  for (unsigned char c : bytes) {
    char two[3];
    snprintf(two, sizeof two, "%02x", c);
    text += two;
  }
  return text + "\"";
}

// kind api node tsc address old_address size elapsed count gap_kind text
// [guard error access offset allocated-by node, thread released-by node, thread]
inline std::string Dump(const TraceEvent& e) {
  std::ostringstream out;
  out << static_cast<uint32_t>(e.kind) << " " << static_cast<uint32_t>(e.api) << " " << e.node << " " << e.tsc << " "
      << Hex(e.address) << " " << Hex(e.old_address) << " " << e.size << " " << e.elapsed << " " << e.count << " "
      << e.gap_kind << " " << HexBytes(e.text);
  if (e.kind == RecordKind::kGuardReport) {
    const GuardReport& g = e.guard;
    out << " guard " << static_cast<uint32_t>(g.error) << " " << static_cast<uint32_t>(g.access) << " " << g.offset
        << " " << g.allocated.node << " " << g.allocated.thread_serial << " " << g.released.node << " "
        << g.released.thread_serial;
  }
  return out.str();
}

inline std::string Dump(TraceReader* reader) {
  std::ostringstream out;
  out << "info " << reader->info().dump() << "\n";
  for (const TraceModule& m : reader->modules()) {
    out << "module " << Hex(m.start) << " " << Hex(m.end) << " " << Hex(m.load_bias) << " " << m.first_tsc << " "
        << HexBytes(m.build_id) << " " << HexBytes(m.path) << "\n";
  }
  for (const TraceThread& t : reader->threads()) {
    out << "thread " << t.serial << " " << t.tid << " " << t.first_tsc << " " << HexBytes(t.name) << "\n";
  }
  for (const TraceStackNode& n : reader->nodes()) {
    out << "node " << n.node << " " << n.parent << " " << Hex(n.ip) << " " << n.flags << "\n";
  }
  for (const TraceMemory& m : reader->memory()) {
    out << "memory " << m.monotonic_ns << " " << m.rss << " " << m.pss << " " << m.anonymous << " " << m.file << " "
        << m.shmem << " " << m.swap << " " << m.virtual_size << "\n";
  }
  for (const TraceLeaks& leaks : reader->leak_checks()) {
    const TraceLeakCheck& c = leaks.check;
    out << "leak_check " << c.number << " " << leaks.whole << " " << static_cast<uint32_t>(c.trigger) << " "
        << static_cast<uint32_t>(c.method) << " " << static_cast<uint32_t>(c.outcome) << " " << c.flags << " " << c.tsc
        << " " << c.pause_us << " " << c.scan_us << " " << c.threads << " " << c.threads_not_stopped << " "
        << c.root_bytes << " " << c.live_blocks << " " << c.live_bytes << "\n";
    for (const TraceLeakRow& r : leaks.rows) {
      out << "leak " << static_cast<uint32_t>(r.leak_class) << " " << static_cast<uint32_t>(r.root) << " " << r.node
          << " " << r.blocks << " " << r.bytes << " " << Hex(r.address) << " " << Hex(r.leader) << " " << r.flags
          << "\n";
    }
  }
  reader->ForEachEvent([&out, reader](uint32_t serial, const TraceEvent& e) {
    out << "event " << serial << " " << reader->TimeNs(e.tsc) << " " << Dump(e) << "\n";
  });
  out << "end " << reader->end().dump() << "\n";
  for (const std::string& problem : reader->problems()) out << "problem " << problem << "\n";
  return out.str();
}

}  // namespace tidemark::sample
