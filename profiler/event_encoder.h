// Events of one thread -> the columns of an events section (docs/trace-format.md, "EVENTS").
//
// A section is decoded without any other, so every predictor starts afresh in it. The events come one by one, straight
// from the words of the ring: a vector of events in between cost more than all of the coding. Runs in the collector
// process only; one encoder serves all threads and sections, so that its tables are allocated once and stay cached.
// Must not: lose a bit of an event, but for what the document says is not stored (low 4 bits of addresses, and times
// below 1 << tsc_shift).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "profiler/columns.h"
#include "profiler/free_lists.h"
#include "profiler/guard_report.h"
#include "profiler/numbering.h"
#include "profiler/origin_table.h"
#include "profiler/section_file.h"
#include "profiler/session.h"
#include "profiler/trace_format.h"

namespace tidemark {

class EventEncoder {
 public:
  // A new section. `events` bounds how many will come: the tables are sized by it. `first_tsc` of the first one.
  void Start(size_t events, uint64_t first_tsc, uint32_t tsc_shift);

  // No more events, whatever they are, may be added without leaving the limits of a section; so it is before Start.
  bool full() const { return room_ < 0; }
  // The section ends here, as it were full, whether somebody wanted it or not.
  void Close() { room_ = -1; }
  size_t events() const { return events_; }
  // Of the kinds that are counted (conservation).
  uint64_t count(EventKind kind) const;

  // Times are absolute; they may step back.
  void Alloc(uint64_t tsc, Api api, uint32_t node, uint64_t size, uint64_t address) {
    Stamp(tsc);
    const uint32_t shape = ShapeOf(api, node, size);
    ops_.Put(kFirstShapeOp + shape);
    PutObtained(Units(address), size_classes_[shape]);
  }
  void Free(uint64_t tsc, uint64_t address) {
    Stamp(tsc);
    ops_.PutByte(static_cast<uint8_t>(EventOp::kFree));
    const uint64_t units = Units(address);
    lists_.Release(units, PutOrigin(units));
  }
  // `elapsed`: ticks from the release of the old block to the event.
  void Realloc(uint64_t tsc, Api api, uint32_t node, uint64_t size, uint64_t address, uint64_t old_address,
               uint64_t elapsed);
  void Gap(uint64_t tsc, uint32_t kind, uint64_t count, uint64_t bytes);
  void HeapError(uint64_t tsc, uint64_t error, uint32_t node, uint64_t address);
  void Guard(uint64_t tsc, uint32_t node, const GuardReport& report);
  void Mark(uint64_t tsc, std::string_view text);

  // Ends the section: first_tsc and tsc_shift of the header are filled in here.
  void Finish(EventsHeader header, Payload* payload);

 private:
  // Blocks obtained alike: by the same entry point, from the same stack, of the same size.
  struct Shape {
    uint64_t size;
    uint32_t node;
    uint32_t api;
    bool operator==(const Shape&) const = default;
    uint64_t Hash() const { return (size * 0xd6e8feb86659fd93 + uint64_t{node} * 16 + api) * 0x9e3779b97f4a7c15; }
  };

  static uint64_t Units(uint64_t address) { return (address >> 4) & kAddressMask; }

  void Stamp(uint64_t tsc) {
    events_++;
    room_--;
    const uint64_t time = tsc >> tsc_shift_;
    if (time == last_time_) [[likely]] {
      same_time_++;
      return;
    }
    times_.Put(same_time_);
    times_.PutSigned(time - last_time_);
    same_time_ = 0;
    last_time_ = time;
  }
  uint32_t ShapeOf(Api api, uint32_t node, uint64_t size) {
    const Shape shape = {size, node, static_cast<uint32_t>(api) & 15};
    const size_t known = shapes_.size();
    const uint32_t number = shapes_.NumberOf(shape);
    if (number == known) [[unlikely]]
      PutShape(shape);
    return number;
  }
  void PutObtained(uint64_t units, uint32_t size_class) {
    const FreeLists::Prediction expected = lists_.Predict(size_class);
    uint32_t page = expected.page;
    if (units == expected.units) [[likely]] {
      hits_++;
    } else {
      addresses_.Put(hits_);
      addresses_.PutSigned(units - expected.units);
      hits_ = 0;
      page = FreeLists::kNone;
    }
    origins_.Obtain(units, lists_.Obtain(units, size_class, page));
  }
  // Returns the block's page.
  uint32_t PutOrigin(uint64_t units) {
    const uint32_t event = origins_.Find(units);
    if (event != OriginTable::kNone) [[likely]] {
      origin_column_.Put(origins_.count() - event);
      return origins_.PageOf(event);
    }
    origin_column_.PutByte(0);
    far_.PutSigned(units - last_far_);
    last_far_ = units;
    return lists_.PageOf(units);
  }
  void PutShape(const Shape& shape);

  FreeLists lists_;
  OriginTable origins_;
  Numbering<Shape> shapes_;
  std::vector<uint32_t> size_classes_;  // by shape
  uint64_t first_tsc_ = 0;
  uint32_t tsc_shift_ = 0;
  int64_t room_ = -1;  // events that may still come
  size_t events_ = 0;
  size_t reallocs_ = 0, others_ = 0;
  uint32_t last_shape_node_ = 0;
  uint64_t last_time_ = 0, last_far_ = 0;
  uint64_t same_time_ = 0;  // events since the time last changed
  uint64_t hits_ = 0;       // addresses that were as expected, since one was not
  bool any_elapsed_ = false, any_shape_api_ = false;
  ColumnBuilder header_, ops_, times_, shape_sizes_, shape_nodes_, shape_apis_, realloc_shapes_, addresses_,
      origin_column_, far_, elapsed_, gaps_, errors_, marks_, guards_;
};

}  // namespace tidemark
