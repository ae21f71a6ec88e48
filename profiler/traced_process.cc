// Poll, sample and finish one image of a process; see traced_process.h.
//
// Everything that is sampled has a cost bound of its own (memory: 0.25 % of a CPU), because hundreds of processes may
// be traced at once. What END says is counted on both sides, by the process in its segment and here by what arrived, so
// that a difference shows. Must not: wait, or fail the recording when the trace cannot be written (it counts).
#include "profiler/traced_process.h"

#include <poll.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

namespace tidemark {
namespace {

// Time in the trace counts in 1024 ticks, 0.2 to 0.5 us: what is below is noise that costs a byte an event. Which of
// two threads had a block first within such a unit, readers tell from the block (docs/trace-format.md, "Time").
constexpr uint32_t kTscShift = 10;
constexpr uint64_t kClockInterval_us = 1'000'000;
constexpr uint64_t kQuickMemoryInterval_us = 50'000;
constexpr uint64_t kFullMemoryInterval_us = 100'000;
constexpr uint64_t kFullMemoryCostRatio = 400;  // at most 0.25 % of a CPU
constexpr uint64_t kRetireInterval_us = 100'000;
constexpr uint64_t kUrgentRetireInterval_us = 20'000;

uint64_t CpuNs() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(t.tv_nsec);
}

uint64_t Sum(const uint64_t* by_kind) { return by_kind[kKindAlloc] + by_kind[kKindFree] + by_kind[kKindRealloc]; }

nlohmann::json ByKind(const uint64_t* by_kind) {
  return {{"alloc", by_kind[kKindAlloc]}, {"free", by_kind[kKindFree]}, {"realloc", by_kind[kKindRealloc]}};
}

std::string Dump(const nlohmann::json& json) {
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);  // argv need not be UTF-8
}

std::string BaseName(const std::string& path) { return path.substr(path.find_last_of('/') + 1); }

}  // namespace

nlohmann::json ToJson(const TraceSummary& s) {
  return {{"path", s.path},         {"command", s.command}, {"pid", s.pid},         {"events", s.events},
          {"bytes", s.bytes},       {"dropped", s.dropped}, {"missing", s.missing}, {"unwritten", s.unwritten},
          {"bypassed", s.bypassed}, {"error", s.error}};
}

TraceSummary SummaryFromJson(const nlohmann::json& json) {
  TraceSummary s;
  s.path = json.value("path", "");
  s.command = json.value("command", "");
  s.pid = json.value("pid", 0);
  s.events = json.value("events", uint64_t{0});
  s.bytes = json.value("bytes", uint64_t{0});
  s.dropped = json.value("dropped", uint64_t{0});
  s.missing = json.value("missing", uint64_t{0});
  s.unwritten = json.value("unwritten", uint64_t{0});
  s.bypassed = json.value("bypassed", false);
  s.error = json.value("error", "");
  return s;
}

TracedProcess::TracedProcess(Attached attached, Context context)
    : attached_(std::move(attached)),
      context_(std::move(context)),
      reader_(attached_.segment->base(), attached_.segment->layout(), kTscShift) {
  summary_.pid = pid();
  summary_.bypassed = attached_.bypassed;
  last_poll_us_ = MonotonicNs() / 1000;
}

TracedProcess::~TracedProcess() = default;

void TracedProcess::OpenTrace(std::unique_ptr<TraceWriter> writer, const std::string& wanted_path,
                              const std::string& error) {
  writer_ = std::move(writer);
  summary_.path = writer_ != nullptr ? writer_->path() : wanted_path;
  if (writer_ == nullptr) summary_.error = error;
  WriteInfo();
}

void TracedProcess::WriteInfo() {
  const TraceClock clock = ReadClocks();
  const ProcessIdentity& identity = attached_.identity;
  summary_.command = BaseName(!identity.command.empty() ? identity.command[0] : identity.executable);
  if (writer_ == nullptr) return;
  utsname machine{};
  uname(&machine);
  nlohmann::json info = {
      {"tool_version", context_.tool_version},
      {"mode", context_.session.mode == Mode::kFull ? "full" : "sampled"},
      {"sample_bytes", context_.session.mode == Mode::kFull ? 0 : context_.session.sample_bytes},
      {"pid", attached_.identity.nested_namespace ? attached_.own_pid : pid()},
      {"ppid", identity.parent},
      {"command", identity.command},
      {"executable", identity.executable},
      {"start_realtime_ns", clock.realtime_ns},
      {"start_monotonic_ns", clock.monotonic_ns},
      {"start_tsc", clock.tsc},
      {"page_bytes", sysconf(_SC_PAGESIZE)},
      {"architecture", machine.machine},
      {"kernel", std::string(machine.sysname) + " " + machine.release},
      {"cpus", sysconf(_SC_NPROCESSORS_ONLN)},
      {"launch", context_.launch},
      {"parent", nullptr},
      {"image", context_.image - 1},
      {"bypassed", attached_.bypassed},
  };
  if (context_.session.leak_check) info["leak_check"] = true;
  if (context_.parent_traced) info["parent"] = {{"pid", identity.parent}};
  writer_->WriteInfo(Dump(info));
  writer_->AddClock(clock);
  const uint64_t now_us = clock.monotonic_ns / 1000;
  next_clock_us_ = now_us + kClockInterval_us;
  SampleMemoryFully(now_us);
}

uint64_t TracedProcess::Poll(uint64_t now_us, size_t live_processes) {
  const uint64_t cpu_before = CpuNs();
  longest_gap_us_ = std::max(longest_gap_us_, now_us - std::min(now_us, last_poll_us_));
  last_poll_us_ = now_us;
  header().tick.fetch_add(1, std::memory_order_relaxed);
  const uint32_t free_before = reader_.FreeChunks();
  busy_ = free_before < attached_.segment->layout().chunk_count / 4 * 3;
  uint64_t taken = reader_.Drain(RingReader::Take::kClosed, now_us, *this);
  if (RetireIsDue(now_us)) {
    const uint32_t free_chunks = reader_.FreeChunks();
    RetireDeadThreads(now_us);
    last_retire_us_ = now_us;
    // Where threads die, others are born: that is no time to sleep long.
    if (reader_.FreeChunks() > free_chunks) taken = std::max<uint64_t>(taken, 1);
  }
  SampleMemory(now_us, live_processes);
  if (writer_ != nullptr && now_us >= next_clock_us_) {
    writer_->AddClock(ReadClocks());
    next_clock_us_ = now_us + kClockInterval_us;
  }
  cpu_ns_ += CpuNs() - cpu_before;
  return taken;
}

// Dead threads keep chunks and slots: they are looked for now and then, more often when either runs short, and at once
// when many threads have started or one found no slot.
bool TracedProcess::RetireIsDue(uint64_t now_us) {
  const SegmentLayout& layout = attached_.segment->layout();
  const uint32_t wanted = reader_.slots_wanted(), started = reader_.threads_started();
  const bool many_started =
      started - retired_when_started_ >= std::min(layout.thread_slot_count, layout.chunk_count) / 4;
  const bool scarce = reader_.FreeChunks() < layout.chunk_count / 2;
  const uint64_t interval_us = scarce ? kUrgentRetireInterval_us : kRetireInterval_us;
  if (now_us < last_retire_us_ + interval_us && !many_started && wanted == retired_when_wanted_) return false;
  retired_when_wanted_ = wanted;
  retired_when_started_ = started;
  return true;
}

bool TracedProcess::ThreadExists(uint32_t own_tid) {
  if (!attached_.identity.nested_namespace) {
    return syscall(SYS_tgkill, pid(), static_cast<pid_t>(own_tid), 0) == 0 || errno != ESRCH;
  }
  if (!nested_tids_complete_) return true;  // it cannot be told: believe that it lives
  return std::find(nested_tids_.begin(), nested_tids_.end(), own_tid) != nested_tids_.end();
}

void TracedProcess::RetireDeadThreads(uint64_t now_us) {
  // The owners first: a thread that takes a slot after its process's threads were listed is not among these.
  std::vector<std::pair<uint32_t, uint32_t>> owners, dead;
  reader_.ForEachOwner([&](uint32_t slot, uint32_t tid) { owners.emplace_back(slot, tid); });
  if (attached_.identity.nested_namespace) {
    nested_tids_.clear();
    nested_tids_complete_ = true;
    for (pid_t task : ListTasks(pid())) {
      const std::vector<pid_t> ids = ReadNamespacePids(pid(), task);
      if (ids.empty()) nested_tids_complete_ = false;  // it ended just now, or must not be read
      if (!ids.empty()) nested_tids_.push_back(static_cast<uint32_t>(ids.back()));
    }
    if (nested_tids_.empty()) nested_tids_complete_ = false;
  }
  for (const auto& owner : owners) {
    if (!ThreadExists(owner.second)) dead.push_back(owner);
  }
  if (dead.empty()) return;
  reader_.Drain(RingReader::Take::kClosed, now_us, *this);  // what they closed comes before what they left open
  for (const auto& [slot, tid] : dead) reader_.RetireThread(slot, tid, now_us, *this);
}

void TracedProcess::SampleMemory(uint64_t now_us, size_t live_processes) {
  if (writer_ == nullptr) return;
  if (!saw_exiting_ && header().exiting.load(std::memory_order_acquire) != 0) {
    saw_exiting_ = true;  // the last look at its memory: a zombie has none
    SampleMemoryFully(now_us);
    return;
  }
  if (now_us >= next_full_us_) {
    SampleMemoryFully(now_us);
    next_full_us_ = std::max(next_full_us_, now_us + live_processes * 4000);
    return;
  }
  if (now_us < next_quick_us_) return;
  next_quick_us_ = now_us + std::max<uint64_t>(kQuickMemoryInterval_us, live_processes * 2000);
  if (const std::optional<TraceMemory> memory = ReadMemoryQuick(pid())) {
    const uint64_t change =
        memory->rss > last_memory_.rss ? memory->rss - last_memory_.rss : last_memory_.rss - memory->rss;
    if (change * 100 < last_memory_.rss) return;  // less than 1 %: the next full sample says it as well
    writer_->AddMemory(*memory);
    last_memory_ = *memory;
  }
}

void TracedProcess::SampleMemoryFully(uint64_t now_us) {
  const uint64_t before_us = MonotonicNs() / 1000;
  if (const std::optional<TraceMemory> memory = ReadMemoryFull(pid())) {
    // An unchanged process is sampled, but written down once a second only.
    if (memory->rss != last_memory_.rss || memory->monotonic_ns > last_memory_.monotonic_ns + 1'000'000'000) {
      writer_->AddMemory(*memory);
      last_memory_ = *memory;
    }
  }
  const uint64_t cost_us = MonotonicNs() / 1000 - before_us;
  next_full_us_ = now_us + std::max(kFullMemoryInterval_us, cost_us * kFullMemoryCostRatio);
  next_quick_us_ = now_us + kQuickMemoryInterval_us;
}

void TracedProcess::Abandon() { header().collector_alive.store(0, std::memory_order_release); }

TraceSummary TracedProcess::Finish(const ProcessExit& exit) {
  const uint64_t cpu_before = CpuNs();
  const uint64_t now_us = MonotonicNs() / 1000;
  longest_gap_us_ = std::max(longest_gap_us_, now_us - std::min(now_us, last_poll_us_));
  reader_.Drain(RingReader::Take::kEverything, now_us, *this);
  for (auto check = leak_checks_.begin(); check != leak_checks_.end(); ++check) EndLeakCheck(check);
  leak_checks_.clear();
  const SessionCounters counters = reader_.Counters();
  const uint64_t* received = reader_.received();
  if (header().attached.load(std::memory_order_acquire) == 0 && Sum(counters.events) == 0) return GiveUp();
  summary_.events = Sum(received);
  summary_.dropped = Sum(counters.dropped);
  summary_.missing = Sum(counters.events) > summary_.events ? Sum(counters.events) - summary_.events : 0;
  if (header().bypassed.load(std::memory_order_relaxed) != 0) summary_.bypassed = true;
  if (writer_ == nullptr) {
    summary_.unwritten = summary_.events;
    return summary_;
  }
  const TraceClock clock = ReadClocks();
  writer_->AddClock(clock);
  nlohmann::json how = {{"kind", exit.kind == ProcessExit::Kind::kStillRunning ? "running" : "unknown"}};
  if (exit.kind == ProcessExit::Kind::kExec) {
    how = {{"kind", "exec"}};
  } else if (exit.kind == ProcessExit::Kind::kWaitStatus && WIFEXITED(exit.wait_status)) {
    how = {{"kind", "exited"}, {"status", WEXITSTATUS(exit.wait_status)}};
  } else if (exit.kind == ProcessExit::Kind::kWaitStatus && WIFSIGNALED(exit.wait_status)) {
    how = {{"kind", "signaled"}, {"signal", WTERMSIG(exit.wait_status)}};
  }
  writer_->Flush();  // so that the counts below are those of the file
  cpu_ns_ += CpuNs() - cpu_before;
  uint64_t written[kKindCount];
  for (uint32_t kind = 0; kind < kKindCount; ++kind) written[kind] = received[kind] - unwritten_[kind];
  nlohmann::json end = {
      {"exit", how},
      {"end_monotonic_ns", clock.monotonic_ns},
      {"end_tsc", clock.tsc},
      {"recorded", ByKind(counters.events)},
      {"received", ByKind(written)},
      {"dropped", ByKind(counters.dropped)},
      {"skipped", ByKind(counters.skipped)},
      {"unwind",
       {{"stacks", counters.stacks},
        {"frames_walked", counters.frames_walked},
        {"frames_reused", counters.frames_reused},
        {"rule_misses", counters.rule_misses},
        {"truncated", counters.truncated},
        {"fp_guesses", counters.fp_guesses},
        {"checked", counters.stacks_checked},
        {"wrong", counters.stacks_wrong}}},
      {"hooks",
       {{"timed_events", counters.timed_events},
        {"timed_ticks", counters.timed_ticks},
        {"rule_miss_ticks", counters.rule_miss_ticks}}},
      {"allocated_bytes", counters.allocated_bytes},
      {"foreign_frees", counters.foreign_frees},
      {"region_full", {{"count", counters.region_full_count}, {"bytes", counters.region_full_bytes}}},
      {"heap_errors", counters.heap_errors},
      {"guards_given_up", counters.guards_given_up},
      {"internal_failures", counters.internal_failures},
      {"damaged_chunks", reader_.damaged_chunks()},
      {"lost_sections", writer_->lost_sections()},
      {"collector",
       {{"cpu_us", cpu_ns_ / 1000}, {"bytes_written", writer_->bytes_written()}, {"longest_gap_us", longest_gap_us_}}},
  };
  if (context_.session.leak_check || leak_checks_begun_ != 0) {
    end["leak_checks"] = {{"begun", leak_checks_begun_}, {"finished", leak_checks_finished_}};
  }
  writer_->Finish(Dump(end));
  summary_.bytes = writer_->bytes_written();
  summary_.error = writer_->error();
  if (access(summary_.path.c_str(), F_OK) != 0) {  // the descriptor was good to the last byte
    summary_.error = "the trace file " + summary_.path + " was removed or moved away while it was written";
    summary_.unwritten = summary_.events;
    summary_.bytes = 0;
  }
  writer_.reset();
  return summary_;
}

// The process has asked for a segment and not mapped it: it had no descriptor left to receive it, or was killed in the
// meantime. An empty trace would say that it had allocated nothing.
TraceSummary TracedProcess::GiveUp() {
  summary_.not_recorded = true;
  if (writer_ != nullptr) unlink(writer_->path().c_str());
  writer_.reset();
  return summary_;
}

uint32_t TracedProcess::RequestLeaks(uint32_t bits) {
  constexpr uint32_t kBits = kLeakExact | kLeakInPlace;
  leak_requests_ = (leak_requests_ + 1) & ~kBits;
  const uint32_t request = leak_requests_ | (bits & kBits);
  header().leak_request.store(request, std::memory_order_release);
  return request;
}

std::string TracedProcess::FlushTrace() {
  if (writer_ == nullptr) return "";
  writer_->Flush();
  return writer_->error().empty() ? summary_.path : "";
}

bool TracedProcess::ImageWasReplaced() const {
  dev_t device = 0;
  ino_t inode = 0;
  return attached_.identity.image_known && ExecutableIdentity(pid(), &device, &inode) &&
         (device != attached_.identity.image_device || inode != attached_.identity.image_inode);
}

bool TracedProcess::HasEnded() const {
  if (pidfd() >= 0) {
    pollfd p{pidfd(), POLLIN, 0};
    return poll(&p, 1, 0) > 0;
  }
  const std::optional<ProcessStat> stat = ReadProcessStat(pid());
  return !stat || stat->state == 'Z' || stat->state == 'X' || stat->start_ticks != start_ticks();
}

void TracedProcess::OnNode(TraceStackNode node) {
  if (writer_ != nullptr) writer_->AddStackNode(node);
}

void TracedProcess::OnModule(TraceModule module) {
  if (writer_ != nullptr) writer_->AddModule(std::move(module));
}

void TracedProcess::OnThread(TraceThread thread) {
  if (writer_ == nullptr) return;
  if (thread.name.empty() && !attached_.identity.nested_namespace)
    thread.name = ReadThreadName(pid(), static_cast<pid_t>(thread.tid));
  writer_->AddThread(std::move(thread));
}

void TracedProcess::OnEvents(const EventsHeader& header, EventEncoder& events) {
  if (writer_ == nullptr) return;
  const uint64_t lost_before = writer_->lost_sections();
  writer_->WriteEvents(header, &events);
  if (writer_->lost_sections() == lost_before) return;
  for (uint32_t kind = 0; kind < kKindCount; ++kind) unwritten_[kind] += events.count(static_cast<EventKind>(kind));
  summary_.unwritten = Sum(unwritten_);
}

// Checks are numbered here, whatever the process says. Two may be under way: one that a copy makes, while the process
// itself ends.
void TracedProcess::OnLeakCheck(const TraceLeakCheck& check, bool ended) {
  constexpr size_t kMostUnderWay = 8;
  if (!ended) {
    if (leak_checks_.size() == kMostUnderWay) leak_checks_.erase(EndLeakCheck(leak_checks_.begin()));
    LeakCheckUnderWay& begun = leak_checks_.emplace_back();
    begun.given_number = check.number;
    begun.check = check;
    begun.check.number = ++leak_checks_begun_;
    begun.check.outcome = LeakOutcome::kUnfinished;
    return;
  }
  const auto found = FindLeakCheck(check.number);
  if (found == leak_checks_.end()) return;
  const uint32_t number = found->check.number;
  found->check = check;
  found->check.number = number;
  ++leak_checks_finished_;
  leak_checks_.erase(EndLeakCheck(found));
  if (check.trigger == LeakTrigger::kOnDemand) last_requested_check_ = number;
}

void TracedProcess::OnLeakRow(uint32_t check_number, const TraceLeakRow& row) {
  constexpr size_t kRowsAtOnce = 1 << 16;
  const auto found = FindLeakCheck(check_number);
  if (found == leak_checks_.end()) return;
  found->rows.push_back(row);
  if (found->rows.size() < kRowsAtOnce) return;
  if (writer_ != nullptr) writer_->AddLeaks(found->check, found->rows, false);
  found->rows.clear();
}

// The latest one of that number.
TracedProcess::LeakChecks::iterator TracedProcess::FindLeakCheck(uint32_t given_number) {
  for (auto at = leak_checks_.end(); at != leak_checks_.begin();) {
    if ((--at)->given_number == given_number) return at;
  }
  return leak_checks_.end();
}

TracedProcess::LeakChecks::iterator TracedProcess::EndLeakCheck(LeakChecks::iterator check) {
  if (writer_ != nullptr) writer_->AddLeaks(check->check, check->rows, true);
  return check;
}

void TracedProcess::BetweenChunks() {
  if (context_.between_chunks) context_.between_chunks();
}

}  // namespace tidemark
