// The payload of one events section -> events, one at a time (docs/trace-format.md, "EVENTS").
//
// Holds the raw payload and one address per alloc, not the events: about 15 bytes per malloc/free pair.
// Must not: trust a number in the payload; a section that contradicts itself ends at the contradiction.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "profiler/columns.h"
#include "profiler/trace_format.h"
#include "profiler/trace_writer.h"

namespace tidemark {

// Header and number of events of a decoded payload; false when it has none that is sound.
bool ParseEventsHeader(std::string_view payload, EventsHeader* header, uint64_t* count);

class EventDecoder {
 public:
  // Takes a decoded payload; false when its columns are not sound.
  bool Start(std::string payload);

  // The next event; false at the end or when the section contradicts itself (then failed() is true).
  bool Next(TraceEvent* event);

  const EventsHeader& header() const { return header_; }
  bool failed() const { return failed_; }
  uint64_t events_read() const { return next_; }
  size_t resident_bytes() const { return payload_.capacity() + obtained_.capacity() * sizeof(uint64_t); }

 private:
  bool GetObtained(TraceEvent* event);
  bool GetReleased(uint64_t* address);
  uint32_t GetNode();
  bool Finish();

  std::string payload_;
  EventsHeader header_;
  uint64_t count_ = 0, next_ = 0;
  bool failed_ = false;
  bool has_times_ = false, has_elapsed_ = false;
  ColumnCursor kinds_, times_, sizes_, nodes_, addresses_, origins_, far_, elapsed_, gaps_, errors_, marks_;
  uint64_t time_ = 0, last_node_ = 0, last_obtained_ = 0, last_far_ = 0;
  std::array<uint64_t, kSizeClasses> last_of_class_{};
  std::vector<uint64_t> obtained_;  // addresses / 16 of allocs and reallocs so far
};

}  // namespace tidemark
