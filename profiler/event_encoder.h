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

#include "profiler/block_history.h"
#include "profiler/columns.h"
#include "profiler/section_file.h"
#include "profiler/session.h"
#include "profiler/trace_format.h"

namespace tidemark {

class EventEncoder {
 public:
  // A new section. `events` bounds how many will come: the tables are sized by it. `first_tsc` of the first one.
  void Start(size_t events, uint64_t first_tsc, uint32_t tsc_shift);

  // No more events, whatever they are, may be added without leaving the limits of a section.
  bool full() const { return room_ < 0; }
  size_t events() const { return events_; }
  // Of the kinds that are counted (conservation).
  uint64_t count(EventKind kind) const { return counts_[kind]; }

  // Times are absolute; they may step back.
  void Alloc(uint64_t tsc, Api api, uint32_t node, uint64_t size, uint64_t address) {
    Stamp(tsc);
    ops_.Put(kFirstShapeOp + ShapeOf(api, node, size));
    PutObtained(Units(address), SizeClassOf(size));
    counts_[kKindAlloc]++;
  }
  void Free(uint64_t tsc, uint64_t address) {
    Stamp(tsc);
    ops_.PutByte(static_cast<uint8_t>(EventOp::kFree));
    PutOrigin(history_.Release(Units(address)), obtained_, Units(address));
    counts_[kKindFree]++;
  }
  // `elapsed`: ticks from the release of the old block to the event.
  void Realloc(uint64_t tsc, Api api, uint32_t node, uint64_t size, uint64_t address, uint64_t old_address,
               uint64_t elapsed);
  void Gap(uint64_t tsc, uint32_t kind, uint64_t count, uint64_t bytes);
  void HeapError(uint64_t tsc, uint64_t error, uint32_t node, uint64_t address);
  void Mark(uint64_t tsc, std::string_view text);

  // Ends the section: first_tsc and tsc_shift of the header are filled in here.
  void Finish(EventsHeader header, Payload* payload);

 private:
  // Blocks obtained alike: by the same entry point, from the same stack, of the same size.
  struct Shape {
    uint64_t size;
    uint32_t epoch;
    uint32_t node;
    uint32_t api;
    uint32_t number;
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
    const uint32_t entry = static_cast<uint32_t>(api) & 15;
    const uint64_t key = (size * 0x9e3779b97f4a7c15 + node) * 16 + entry;
    const uint32_t slot = shapes_.Find(
        key, 0, [=](const Shape& shape) { return shape.size == size && shape.node == node && shape.api == entry; });
    if (shapes_.IsFree(slot)) [[unlikely]] {
      shapes_[slot] = {size, shapes_.epoch(), node, entry, shape_count_++};
      PutShape(entry, node, size);
    }
    return shapes_[slot].number;
  }
  void PutObtained(uint64_t units, uint32_t size_class) {
    const BlockHistory::Prediction expected = history_.Predict(size_class);
    if (units == expected.units) [[likely]] {
      hits_++;
      history_.Obtain(units, size_class, obtained_++, expected.slot);
      return;
    }
    addresses_.Put(hits_);
    addresses_.PutSigned(units - expected.units);
    hits_ = 0;
    history_.Obtain(units, size_class, obtained_++, BlockHistory::kNone);
  }
  // `before`: blocks that had been obtained before this event.
  void PutOrigin(uint32_t ordinal, uint32_t before, uint64_t units) {
    if (ordinal != BlockHistory::kNone) [[likely]] {
      origins_.Put(before - ordinal);
      return;
    }
    origins_.PutByte(0);
    far_.PutSigned(units - last_far_);
    last_far_ = units;
  }
  void PutShape(uint32_t api, uint32_t node, uint64_t size);

  BlockHistory history_;
  EpochTable<Shape> shapes_;
  uint64_t first_tsc_ = 0;
  uint32_t tsc_shift_ = 0;
  int64_t room_ = 0;  // events that may still come
  size_t events_ = 0;
  uint64_t counts_[kKindCount] = {};
  uint32_t shape_count_ = 0, last_shape_node_ = 0;
  uint32_t obtained_ = 0;  // allocs and reallocs so far
  uint64_t last_time_ = 0, last_far_ = 0;
  uint64_t same_time_ = 0;  // events since the time last changed
  uint64_t hits_ = 0;       // addresses that were as expected, since one was not
  bool any_elapsed_ = false, any_shape_api_ = false;
  ColumnBuilder header_, ops_, times_, shape_sizes_, shape_nodes_, shape_apis_, realloc_shapes_, addresses_, origins_,
      far_, elapsed_, gaps_, errors_, marks_;
};

}  // namespace tidemark
