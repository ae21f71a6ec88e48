// The events of all threads in one order: by time, and within a thread as the program made them.
//
// Stamps are coarse, so that events of different threads may have equal ones. Then a block decides: it is obtained,
// released, and only then obtained again. For that the blocks that are alive are known here, while there is more than
// one thread.
//
// One section per running thread is decoded at a time, from its first event's time on. When more threads than fit
// kResidentBytes are in the middle of a section, sections are dropped and decoded again later: slower, not larger.
// Must not: keep events, or fail as a whole because of one section.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "profiler/trace_format.h"
#include "profiler/trace_writer.h"
#include "tools/address_set.h"
#include "tools/event_decoder.h"

namespace tidemark {

// A whole events section, known by its header column.
struct EventsPlace {
  EventsHeader header;
  uint64_t count = 0;
  size_t section = 0;  // index for the loader
};

class EventMerge {
 public:
  // Loads the decoded payload of a section; false when that fails.
  using Loader = std::function<bool(size_t section, std::string* payload)>;
  using Visitor = std::function<void(uint32_t thread_serial, const TraceEvent&)>;
  // A section that ended early, and after how many events.
  using Complaint = std::function<void(const EventsPlace& place, uint64_t events_read)>;

  static constexpr size_t kResidentBytes = size_t{256} << 20;

  // `places`: in any order, no two with the same header key.
  EventMerge(std::vector<EventsPlace> places, Loader loader, Complaint complain,
             size_t resident_limit = kResidentBytes);
  void ForEach(const Visitor& visit);

 private:
  // One thread: the sections from `at` on, and the event that is its turn.
  struct Stream {
    size_t at = 0, end = 0;  // range in places_
    uint64_t key = 0;        // time of `head`; without a head, of the section's first event
    bool has_head = false;
    uint64_t events_read = 0;  // of section `at`, including head
    std::unique_ptr<EventDecoder> decoder;
    TraceEvent head;
  };
  bool Advance(Stream* stream);
  bool Next(Stream* stream);
  static bool Contradicts(const TraceEvent& event, const AddressSet& alive);
  static void Apply(const TraceEvent& event, AddressSet* alive);
  bool Load(Stream* stream);
  void Unload(Stream* stream);
  void EnterSection(Stream* stream);

  std::vector<EventsPlace> places_;  // by thread, then in order
  Loader loader_;
  Complaint complain_;
  size_t resident_limit_;
  size_t resident_bytes_ = 0;
  EventDecoder::Workspace workspace_;
  std::vector<Stream> streams_;
};

// Order of sections; equal keys mean that one is a copy.
bool PrecedesInThread(const EventsPlace& a, const EventsPlace& b);

}  // namespace tidemark
