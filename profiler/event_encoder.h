// Events of one thread -> the columns of an events section (docs/trace-format.md, "EVENTS").
//
// A section is decoded without any other, so every predictor starts afresh in it. Runs in the collector process only;
// one encoder is reused for all sections, so that its tables are allocated once.
// Must not: lose a bit of an event, but for what the document says is not stored (low 4 bits of addresses, and times
// below 1 << tsc_shift).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "profiler/columns.h"
#include "profiler/section_file.h"
#include "profiler/trace_writer.h"

namespace tidemark {

class EventEncoder {
 public:
  // At most kMaxEventsPerSection events.
  void Encode(const EventsHeader& header, std::span<const TraceEvent> events, Payload* payload);

 private:
  // Where in the section an address was obtained last. `epoch` says whether the entry belongs to this section.
  struct Origin {
    uint64_t address;
    uint32_t ordinal;
    uint32_t epoch;
  };

  void StartSection(size_t events);
  size_t SlotOf(uint64_t address) const;
  void PutReleased(uint64_t address);
  void PutObtained(const TraceEvent& event);
  void PutNode(uint32_t node);

  std::vector<Origin> origins_;  // open addressing, size a power of two
  uint32_t origin_shift_ = 0;    // 64 - log2 of the part of origins_ that is in use
  uint32_t epoch_ = 0;
  uint32_t obtained_ = 0;  // allocs and reallocs so far
  uint64_t last_obtained_ = 0, last_far_ = 0;
  uint32_t last_node_ = 0;
  std::array<uint64_t, kSizeClasses> last_of_class_{};  // 0: none yet in this section
  ColumnBuilder header_, kinds_, times_, sizes_, nodes_, addresses_, origins_column_, far_, elapsed_, gaps_, errors_,
      marks_;
};

}  // namespace tidemark
