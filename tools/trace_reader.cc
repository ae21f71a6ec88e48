// TraceReader: scans the sections, loads the tables, hands events sections to the merge, and says what is missing.
//
// Order of work in Load: scan (checksums) -> tables -> events headers -> problems. Must not: use a section that is not
// whole, or fail because of one.
#include "tools/trace_reader.h"

#include <zstd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <optional>
#include <set>
#include <unordered_map>

#include "profiler/crc32c.h"
#include "tools/clock_map.h"
#include "tools/event_merge.h"
#include "tools/section_scanner.h"
#include "tools/trace_problems.h"
#include "tools/trace_source.h"
#include "tools/trace_tables.h"

namespace tidemark {
namespace {

using nlohmann::json;

// Rows of tables that a file of this size may bring in: no honest row takes less than a 64th of a byte.
uint64_t RowLimit(uint64_t file_bytes) { return 65536 + 64 * file_bytes; }

uint64_t UnsignedOf(const json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_number_unsigned() ? it->get<uint64_t>() : 0;
}

class Reader : public TraceReader {
 public:
  explicit Reader(std::unique_ptr<TraceSource> source) : source_(std::move(source)), clock_({}) {}
  ~Reader() override { ZSTD_freeDCtx(decompressor_); }

  // nullopt: fine.
  std::optional<Error> Load();

  const json& info() const override { return info_; }
  const json& end() const override { return end_; }
  const std::vector<TraceModule>& modules() const override { return modules_; }
  const std::vector<TraceThread>& threads() const override { return threads_; }
  const std::vector<TraceMemory>& memory() const override { return memory_; }
  const std::vector<TraceStackNode>& nodes() const override { return stacks_.nodes; }
  const std::vector<TraceLeaks>& leak_checks() const override { return leak_checks_; }
  const std::vector<std::string>& problems() const override { return problems_.sentences(); }
  uint64_t file_bytes() const override { return source_->size(); }
  int64_t TimeNs(uint64_t tsc) const override { return clock_.TimeNs(tsc); }
  uint64_t origin_monotonic_ns() const override { return clock_.origin_monotonic_ns(); }
  Mode mode() const override { return mode_; }
  uint64_t sample_bytes() const override { return sample_bytes_; }
  void ForEachEvent(const Visitor& visit) override;
  void ForEachEventBefore(uint64_t tsc, const Visitor& visit) override;

 private:
  std::optional<Error> CheckFileHeader();
  bool Decode(const SectionPlace& place, std::string* payload);
  // False when the section is not sound.
  bool LoadSection(size_t index, const SectionPlace& place);
  bool LoadEvents(size_t index, const SectionPlace& place, std::string_view payload);
  void MergeEvents(std::vector<EventsPlace> places, const Visitor& visit);
  void DropCopies();
  void ReportDamage();
  void ReportEnd();
  void ReportStacks();
  void ReportLeaks();
  void MakeClock();
  void KeepLastOfThreads();
  void ReadMode();
  Error Unreadable(const std::string& what) const {
    return Error{ExitStatus::kUnreadable, source_->path() + " " + what};
  }

  std::unique_ptr<TraceSource> source_;
  ZSTD_DCtx* decompressor_ = ZSTD_createDCtx();
  SectionScan scan_;
  std::map<uint64_t, IndexedSection> index_;
  json info_ = json::object(), end_;
  std::vector<TraceModule> modules_;
  std::vector<TraceThread> threads_;
  std::vector<TraceMemory> memory_;
  std::vector<TraceClock> clocks_;
  LeakParts leak_parts_;
  std::vector<TraceLeaks> leak_checks_;
  StackNodes stacks_;
  std::vector<EventsPlace> events_;
  ClockMap clock_;
  Mode mode_ = Mode::kFull;
  uint64_t sample_bytes_ = 0;
  ProblemList problems_;
  std::set<size_t> reported_sections_;  // events sections whose early end is among the problems
  bool reported_unknown_stacks_ = false;
};

std::optional<Error> Reader::CheckFileHeader() {
  const uint64_t size = source_->size();
  if (size == 0) return Unreadable("is empty: the recording did not start, or the disk was full");
  FileHeader header = {};
  const std::string_view view = source_->View(0, sizeof header);
  memcpy(&header, view.data(), view.size());
  const bool magic_fits = memcmp(header.magic, kTraceMagic, std::min(view.size(), sizeof header.magic)) == 0;
  if (view.size() < sizeof header) {
    return magic_fits ? Unreadable("is cut off: a trace has more than its first " + Counted(size, "byte"))
                      : Unreadable("is not a tidemark trace");
  }
  const bool whole = header.checksum == Crc32c(&header, offsetof(FileHeader, checksum));
  if (magic_fits && whole) {
    if (header.major == kTraceMajor) return std::nullopt;
    return Unreadable("is a trace of format version " + std::to_string(header.major) + "." +
                      std::to_string(header.minor) + ", and this tidemark reads version " +
                      std::to_string(kTraceMajor) + "; use the tidemark that recorded it, or a newer one");
  }
  // A damaged header is no reason to lose the rest, if the rest is a trace.
  if (ValidHeaderAt(source_.get(), sizeof header)) {
    problems_.Add("the file header (the first 16 bytes) is damaged: format version " + std::to_string(kTraceMajor) +
                  " is assumed");
    return std::nullopt;
  }
  return magic_fits ? Unreadable("is damaged at its beginning, and no section follows: nothing can be read")
                    : Unreadable("is not a tidemark trace");
}

bool Reader::Decode(const SectionPlace& place, std::string* payload) {
  const SectionHeader& header = place.header;
  if (header.raw_bytes > MaxRawBytes(static_cast<SectionType>(header.type))) return false;
  const std::string_view stored = source_->View(place.offset + sizeof header, header.stored_bytes);
  // The file may have changed since the scan.
  if (stored.size() != header.stored_bytes) return false;
  if (header.encoding == static_cast<uint16_t>(Encoding::kRaw)) {
    if (header.raw_bytes != header.stored_bytes) return false;
    payload->assign(stored);
    return true;
  }
  if (header.encoding != static_cast<uint16_t>(Encoding::kZstd) || decompressor_ == nullptr) return false;
  payload->resize(header.raw_bytes);
  const size_t n = ZSTD_decompressDCtx(decompressor_, payload->data(), payload->size(), stored.data(), stored.size());
  return !ZSTD_isError(n) && n == header.raw_bytes;
}

bool Reader::LoadEvents(size_t index, const SectionPlace& place, std::string_view payload) {
  EventsPlace events;
  events.section = index;
  if (!ParseEventsHeader(payload, &events.header, &events.count)) return false;
  if (events.header.thread_serial != place.header.subject) return false;
  events_.push_back(events);
  return true;
}

bool Reader::LoadSection(size_t index, const SectionPlace& place) {
  const uint64_t limit = RowLimit(source_->size());
  const SectionType type = static_cast<SectionType>(place.header.type);
  if (type < SectionType::kInfo || type > SectionType::kLeaks) return true;  // of a later minor version
  std::string payload;
  if (!Decode(place, &payload)) return false;
  switch (type) {
    case SectionType::kInfo:
    case SectionType::kEnd: {
      json object = ParseJsonObject(payload);
      if (object.is_discarded()) return false;
      (type == SectionType::kInfo ? info_ : end_) = std::move(object);
      return true;
    }
    case SectionType::kModules:
      return AppendModules(payload, limit, &modules_);
    case SectionType::kStacks:
      return AppendStacks(payload, limit, &stacks_);
    case SectionType::kEvents:
      return LoadEvents(index, place, payload);
    case SectionType::kThreads:
      return AppendThreads(payload, limit, &threads_);
    case SectionType::kClock:
      return AppendClocks(payload, limit, &clocks_);
    case SectionType::kMemory:
      return AppendMemory(payload, limit, &memory_);
    case SectionType::kIndex:
      return ReadIndex(payload, limit, &index_);
    case SectionType::kLeaks:
      return leak_parts_.Append(payload, limit);
  }
  return true;
}

// Sections are numbered, and events sections have keys of their own: what is there twice counts once.
void Reader::DropCopies() {
  std::stable_sort(scan_.sections.begin(), scan_.sections.end(),
                   [](const SectionPlace& a, const SectionPlace& b) { return a.header.sequence < b.header.sequence; });
  std::vector<SectionPlace> kept;
  kept.reserve(scan_.sections.size());
  for (const SectionPlace& place : scan_.sections) {
    if (!kept.empty() && kept.back().header.sequence == place.header.sequence) {
      problems_.Add(DescribeSection(place.offset, place.header) + " has the number of another section: skipped");
    } else {
      kept.push_back(place);
    }
  }
  scan_.sections = std::move(kept);
}

void Reader::ReportDamage() {
  std::set<uint32_t> known;
  for (const SectionPlace& place : scan_.sections) known.insert(place.header.sequence);
  for (const DamagedRange& damage : scan_.damage) {
    if (damage.header) known.insert(damage.header->sequence);
    if (damage.at_end && source_->being_written()) continue;  // the section that is being written
    problems_.Add(DescribeDamage(damage, index_));
  }
  if (scan_.gave_up) {
    problems_.Add("the file is damaged all over: what follows byte " + std::to_string(scan_.damage.back().offset) +
                  " was not searched");
  }
  const std::string missing = DescribeMissing(known);
  if (!missing.empty()) problems_.Add(missing);
}

void Reader::ReportEnd() {
  uint64_t whole_until = sizeof(FileHeader);
  for (const SectionPlace& place : scan_.sections) {
    whole_until = std::max(whole_until, place.offset + sizeof(SectionHeader) + place.header.stored_bytes);
  }
  const bool damaged_inside =
      std::any_of(scan_.damage.begin(), scan_.damage.end(), [](const DamagedRange& damage) { return !damage.at_end; });
  const std::string here = "everything up to byte " + std::to_string(whole_until) + " is here";
  if (source_->being_written()) {
    problems_.Add("the trace is still being recorded: " + here);
  } else if (end_.is_null()) {
    problems_.Add("the trace has no end record: the recording was interrupted; " + here +
                  (damaged_inside ? ", but for what is damaged" : ""));
  } else if (UnsignedOf(end_, "lost_sections") > 0) {
    problems_.Add(Counted(UnsignedOf(end_, "lost_sections"), "section") +
                  " could not be written while recording (disk full?)");
  }
}

void Reader::ReportStacks() {
  if (stacks_.nodes.empty()) {
    stacks_.nodes.resize(1);
    stacks_.present.resize(1);
  }
  uint64_t orphans = 0;
  for (const TraceStackNode& node : stacks_.nodes) {
    if (stacks_.present[node.node] && node.parent != 0 && !stacks_.present[node.parent]) orphans++;
  }
  if (orphans > 0) {
    problems_.Add("missing parents in " + Counted(orphans, "stack node") + ": those stacks are incomplete");
  }
  if (stacks_.bad_parents > 0) {
    problems_.Add("impossible parents in " + Counted(stacks_.bad_parents, "stack node") +
                  ": those stacks are incomplete");
  }
  if (stacks_.out_of_range > 0) {
    problems_.Add("impossible numbers in " + Counted(stacks_.out_of_range, "stack node") + ": skipped");
  }
}

void Reader::ReportLeaks() {
  leak_checks_ = leak_parts_.Take();
  uint64_t unknown_stacks = 0;
  for (TraceLeaks& leaks : leak_checks_) {
    if (!leaks.whole) {
      problems_.Add("leak check " + std::to_string(leaks.check.number) + " is not whole: parts of it are missing");
    }
    for (TraceLeakRow& row : leaks.rows) {
      if (row.node < stacks_.nodes.size()) continue;  // callers index nodes() with it
      row.node = 0;
      unknown_stacks++;
    }
  }
  if (unknown_stacks > 0) {
    problems_.Add("missing stacks in " + Counted(unknown_stacks, "row") + " of leak checks: shown without a stack");
  }
}

// The beginning and the end of the recording are clock samples, too.
void Reader::MakeClock() {
  std::vector<TraceClock> samples = clocks_;
  const auto add = [&samples](const json& object, const char* tsc, const char* monotonic) {
    const TraceClock sample = {UnsignedOf(object, tsc), UnsignedOf(object, monotonic), 0};
    if (sample.tsc != 0 && sample.monotonic_ns != 0) samples.push_back(sample);
  };
  // Only where the clock sections do not reach: their first record is the origin of the time line.
  if (clocks_.size() < 2) {
    add(info_, "start_tsc", "start_monotonic_ns");
    add(end_, "end_tsc", "end_monotonic_ns");
  }
  clock_ = ClockMap(std::move(samples));
  if (!clock_.knows_rate() && !events_.empty()) {
    problems_.Add("the trace has fewer than two clock samples: times are in processor ticks, not in nanoseconds");
  }
}

void Reader::KeepLastOfThreads() {
  std::vector<TraceThread> kept;
  std::unordered_map<uint32_t, size_t> by_serial;
  for (TraceThread& thread : threads_) {
    const auto [it, is_new] = by_serial.try_emplace(thread.serial, kept.size());
    if (is_new) {
      kept.push_back(std::move(thread));
    } else {
      kept[it->second] = std::move(thread);
    }
  }
  threads_ = std::move(kept);
}

void Reader::ReadMode() {
  const auto mode = info_.find("mode");
  sample_bytes_ = UnsignedOf(info_, "sample_bytes");
  if (mode != info_.end() && *mode == "sampled") {
    mode_ = Mode::kSampled;
  } else if (mode != info_.end() && *mode == "full") {
    mode_ = Mode::kFull;
    sample_bytes_ = 0;
  } else {
    mode_ = sample_bytes_ > 0 ? Mode::kSampled : Mode::kFull;
    problems_.Add(std::string("the trace does not say how it was recorded (its info section is missing): ") +
                  (mode_ == Mode::kSampled ? "sampled" : "complete") + " recording is assumed");
  }
}

std::optional<Error> Reader::Load() {
  if (std::optional<Error> error = CheckFileHeader()) return error;
  scan_ = ScanSections(source_.get());
  if (scan_.sections.empty()) {
    return Unreadable(source_->being_written()
                          ? "holds nothing yet: it is still being recorded"
                          : "holds no whole section: the recording was interrupted at once, or the file is damaged");
  }
  DropCopies();
  std::vector<std::string> unsound;
  for (size_t i = 0; i < scan_.sections.size(); i++) {
    const SectionPlace& place = scan_.sections[i];
    if (!LoadSection(i, place)) {
      unsound.push_back(
          DescribeSection(place.offset, place.header) +
          " does not decode, though its checksum is right: " + Counted(place.header.stored_bytes, "byte") + " skipped");
    }
  }
  std::stable_sort(events_.begin(), events_.end(), PrecedesInThread);
  const auto copies = std::unique(events_.begin(), events_.end(), [this](const EventsPlace& a, const EventsPlace& b) {
    if (PrecedesInThread(a, b)) return false;
    const SectionPlace& place = scan_.sections[b.section];
    problems_.Add(DescribeSection(place.offset, place.header) + " repeats events that another section holds: skipped");
    return true;
  });
  events_.erase(copies, events_.end());
  ReportDamage();
  for (std::string& sentence : unsound) problems_.Add(std::move(sentence));
  ReadMode();
  KeepLastOfThreads();
  std::stable_sort(memory_.begin(), memory_.end(),
                   [](const TraceMemory& a, const TraceMemory& b) { return a.monotonic_ns < b.monotonic_ns; });
  ReportStacks();
  ReportLeaks();
  MakeClock();
  ReportEnd();
  return std::nullopt;
}

void Reader::ForEachEvent(const Visitor& visit) { MergeEvents(events_, visit); }

void Reader::ForEachEventBefore(uint64_t tsc, const Visitor& visit) {
  if (tsc == UINT64_MAX) return MergeEvents(events_, visit);
  std::vector<EventsPlace> places;
  for (const EventsPlace& place : events_) {
    if (place.header.first_tsc < tsc) places.push_back(place);
  }
  MergeEvents(std::move(places), [&](uint32_t thread_serial, const TraceEvent& event) {
    if (event.tsc < tsc) visit(thread_serial, event);
  });
}

void Reader::MergeEvents(std::vector<EventsPlace> places, const Visitor& visit) {
  EventMerge merge(
      std::move(places),
      [this](size_t section, std::string* payload) { return Decode(scan_.sections[section], payload); },
      [this](const EventsPlace& events, uint64_t events_read) {
        if (!reported_sections_.insert(events.section).second) return;
        const SectionPlace& place = scan_.sections[events.section];
        problems_.Add(DescribeSection(place.offset, place.header) + " breaks off after " + Grouped(events_read) +
                      " of its " + Counted(events.count, "event") + ": the rest is skipped");
      });
  uint64_t unknown_stacks = 0;
  TraceEvent without_stack;
  merge.ForEach([&](uint32_t thread_serial, const TraceEvent& event) {
    // Callers index nodes() with it.
    if (event.node >= stacks_.nodes.size()) {
      unknown_stacks++;
      without_stack = event;
      without_stack.node = 0;
      visit(thread_serial, without_stack);
    } else {
      visit(thread_serial, event);
    }
  });
  if (unknown_stacks > 0 && !reported_unknown_stacks_) {
    reported_unknown_stacks_ = true;
    problems_.Add("missing stacks in " + Counted(unknown_stacks, "event") + ": they are shown without a stack");
  }
}

Result<std::unique_ptr<TraceReader>> Finish(std::unique_ptr<TraceSource> source) {
  auto reader = std::make_unique<Reader>(std::move(source));
  if (std::optional<Error> error = reader->Load()) return *error;
  return std::unique_ptr<TraceReader>(std::move(reader));
}

}  // namespace

Result<std::unique_ptr<TraceReader>> TraceReader::Open(const std::string& path) {
  Result<std::unique_ptr<TraceSource>> source = TraceSource::Open(path);
  if (!source) return source.error();
  return Finish(std::move(*source));
}

Result<std::unique_ptr<TraceReader>> TraceReader::FromMemory(std::string bytes) {
  return Finish(TraceSource::FromMemory(std::move(bytes)));
}

}  // namespace tidemark
