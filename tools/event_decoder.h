// The payload of one events section -> events, one at a time (docs/trace-format.md, "EVENTS").
//
// The addresses are worked out when the section is entered, since that takes tables which all threads can share; then a
// decoder holds the raw payload and 8 bytes an event: about 25 bytes per malloc/free pair.
// Must not: trust a number in the payload; a section that contradicts itself ends at the contradiction.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "profiler/columns.h"
#include "profiler/free_lists.h"
#include "profiler/trace_format.h"
#include "profiler/trace_writer.h"

namespace tidemark {

// Header and number of events of a decoded payload; false when it has none that is sound.
bool ParseEventsHeader(std::string_view payload, EventsHeader* header, uint64_t* count);

class EventDecoder {
 public:
  // What is only needed while a section is entered.
  struct Workspace {
    FreeLists lists;
    std::vector<uint64_t> obtained;  // addresses / 16 of the allocs and reallocs so far
  };

  // Takes a decoded payload; false when its columns are not sound.
  bool Start(std::string payload, Workspace* workspace);

  // The next event; false at the end or when the section contradicts itself (then failed() is true).
  bool Next(TraceEvent* event);

  const EventsHeader& header() const { return header_; }
  bool failed() const { return failed_; }
  uint64_t events_read() const { return next_; }
  size_t resident_bytes() const {
    return payload_.capacity() + addresses_.capacity() * sizeof(uint64_t) + shapes_.capacity() * sizeof(Shape);
  }

 private:
  struct Shape {
    uint64_t size;
    uint32_t node;
    Api api;
  };
  class AddressPass;
  static constexpr uint64_t kEndless = ~uint64_t{0};

  bool ReadShapes(ColumnCursor sizes, ColumnCursor nodes, ColumnCursor apis, bool has_apis);
  bool NextTime();
  bool NextAddress(uint64_t* address);
  bool SetShape(uint64_t number, TraceEvent* event) const;
  bool ReadGuardReport(TraceEvent* event);
  bool Finish();

  std::string payload_;
  EventsHeader header_;
  uint64_t count_ = 0, next_ = 0;
  bool failed_ = false;
  bool has_elapsed_ = false;
  ColumnCursor ops_, times_, realloc_shapes_, elapsed_, gaps_, errors_, marks_, guards_;
  uint64_t time_ = 0;
  uint64_t same_time_ = 0;  // events until the time changes
  std::vector<Shape> shapes_;
  std::vector<uint64_t> addresses_;  // of the events in their order; a moved block's old one first
  size_t next_address_ = 0;
  bool addresses_sound_ = false;
};

}  // namespace tidemark
