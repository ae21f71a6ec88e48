// The rarer events and the ends of an events section, writer's side. The reader's side is tools/event_decoder.cc; both
// follow docs/trace-format.md. Must not: depend on anything outside the section at hand.
#include "profiler/event_encoder.h"

#include <algorithm>

namespace tidemark {
namespace {

// What one event can take in all columns together, but for the text of a mark.
constexpr int64_t kMaxBytesPerEvent = 80;
// Room that is left for the header column, the columns' ids and lengths, and the text of one mark.
constexpr int64_t kReservedBytes = 1024 + kMaxTextBytes;
constexpr int64_t kMaxEvents = (kMaxEventSectionBytes - kReservedBytes) / kMaxBytesPerEvent;
static_assert(kMaxEvents < kMaxEventsPerSection);

}  // namespace

void EventEncoder::Start(size_t events, uint64_t first_tsc, uint32_t tsc_shift) {
  events = std::min<size_t>(events, kMaxEvents) + 2;
  lists_.Start(events);
  origins_.Start(events);
  shapes_.Start();
  first_tsc_ = (first_tsc >> tsc_shift) << tsc_shift;
  tsc_shift_ = tsc_shift;
  room_ = kMaxEvents - 1;
  events_ = 0;
  reallocs_ = others_ = 0;
  size_classes_.clear();
  last_shape_node_ = 0;
  last_time_ = first_tsc >> tsc_shift;
  last_far_ = 0;
  same_time_ = hits_ = 0;
  any_elapsed_ = any_shape_api_ = false;
  for (ColumnBuilder* column : {&header_, &ops_, &times_, &shape_sizes_, &shape_nodes_, &shape_apis_, &realloc_shapes_,
                                &addresses_, &origin_column_, &far_, &elapsed_, &gaps_, &errors_, &marks_, &guards_}) {
    column->Clear();
  }
  for (ColumnBuilder* column :
       {&ops_, &shape_sizes_, &shape_nodes_, &shape_apis_, &realloc_shapes_, &origin_column_, &far_, &elapsed_}) {
    column->Reserve(events);
  }
  for (ColumnBuilder* column : {&times_, &addresses_}) column->Reserve(2 * events);
}

void EventEncoder::PutShape(const Shape& shape) {
  size_classes_.push_back(SizeClassOf(shape.size));
  shape_sizes_.Put(shape.size);
  shape_nodes_.PutSigned(uint64_t{shape.node} - last_shape_node_);
  last_shape_node_ = shape.node;
  shape_apis_.PutByte(static_cast<uint8_t>(shape.api));
  any_shape_api_ |= shape.api != 0;
}

void EventEncoder::Realloc(uint64_t tsc, Api api, uint32_t node, uint64_t size, uint64_t address, uint64_t old_address,
                           uint64_t elapsed) {
  Stamp(tsc);
  const uint64_t units = Units(address), old_units = Units(old_address);
  // In units of time, such that it leads back to the stamp that the release would have had.
  elapsed_.Put((tsc >> tsc_shift_) - ((tsc - elapsed) >> tsc_shift_));
  any_elapsed_ |= elapsed != 0;
  const uint32_t shape = ShapeOf(api, node, size);
  realloc_shapes_.Put(shape);
  reallocs_++;
  if (units == old_units) {
    ops_.PutByte(static_cast<uint8_t>(EventOp::kReallocInPlace));
    origins_.Obtain(units, PutOrigin(units));
    return;
  }
  ops_.PutByte(static_cast<uint8_t>(EventOp::kRealloc));
  // The allocator releases the old block last, so that the new one cannot be where it was.
  const uint32_t old_page = PutOrigin(old_units);
  PutObtained(units, size_classes_[shape]);
  lists_.Release(old_units, old_page);
}

void EventEncoder::Gap(uint64_t tsc, uint32_t kind, uint64_t count, uint64_t bytes) {
  Stamp(tsc);
  others_++;
  ops_.PutByte(static_cast<uint8_t>(EventOp::kGap));
  gaps_.Reserve(3);
  gaps_.Put(kind);
  gaps_.Put(count);
  gaps_.Put(bytes);
}

void EventEncoder::HeapError(uint64_t tsc, uint64_t error, uint32_t node, uint64_t address) {
  Stamp(tsc);
  others_++;
  ops_.PutByte(static_cast<uint8_t>(EventOp::kHeapError));
  errors_.Reserve(3);
  errors_.Put(error);
  errors_.Put(node);
  errors_.Put(Units(address));
}

void EventEncoder::Guard(uint64_t tsc, uint32_t node, const GuardReport& report) {
  Stamp(tsc);
  room_ -= 2;  // larger than other events
  others_++;
  ops_.PutByte(static_cast<uint8_t>(EventOp::kGuardReport));
  guards_.Reserve(10);
  guards_.Put(static_cast<uint64_t>(report.error));
  guards_.Put(static_cast<uint64_t>(report.access));
  guards_.Put(node);
  guards_.Put(Units(report.block));
  guards_.PutSigned(static_cast<uint64_t>(report.offset));
  guards_.Put(report.size);
  for (const StackOfThread& stack : {report.allocated, report.released}) {
    guards_.Put(stack.node);
    guards_.Put(stack.thread_serial);
  }
}

void EventEncoder::Mark(uint64_t tsc, std::string_view text) {
  text = text.substr(0, kMaxTextBytes);
  Stamp(tsc);
  room_ -= static_cast<int64_t>(text.size()) / kMaxBytesPerEvent + 1;
  others_++;
  ops_.PutByte(static_cast<uint8_t>(EventOp::kMark));
  marks_.PutText(text);
}

uint64_t EventEncoder::count(EventKind kind) const {
  const uint64_t allocs = origins_.count() - reallocs_;
  if (kind == kKindAlloc) return allocs;
  return kind == kKindRealloc ? reallocs_ : events_ - allocs - reallocs_ - others_;
}

void EventEncoder::Finish(EventsHeader header, Payload* payload) {
  header_.Reserve(6);
  header_.Put(header.thread_serial);
  header_.Put(header.chunk_sequence);
  header_.Put(header.fragment);
  header_.Put(header.part);
  header_.Put(first_tsc_);
  header_.Put(tsc_shift_);
  payload->StartTable(events_);
  payload->AddColumn(EventColumn::kHeader, header_);
  payload->AddColumn(EventColumn::kOp, ops_);
  const auto add_unless_empty = [payload](EventColumn id, const ColumnBuilder& column) {
    if (!column.view().empty()) payload->AddColumn(id, column);
  };
  add_unless_empty(EventColumn::kTime, times_);
  add_unless_empty(EventColumn::kShapeSize, shape_sizes_);
  add_unless_empty(EventColumn::kShapeNode, shape_nodes_);
  if (any_shape_api_) payload->AddColumn(EventColumn::kShapeApi, shape_apis_);
  add_unless_empty(EventColumn::kReallocShape, realloc_shapes_);
  add_unless_empty(EventColumn::kAddress, addresses_);
  add_unless_empty(EventColumn::kOrigin, origin_column_);
  add_unless_empty(EventColumn::kFar, far_);
  if (any_elapsed_) payload->AddColumn(EventColumn::kElapsed, elapsed_);
  add_unless_empty(EventColumn::kGap, gaps_);
  add_unless_empty(EventColumn::kHeapError, errors_);
  add_unless_empty(EventColumn::kMark, marks_);
  add_unless_empty(EventColumn::kGuardReport, guards_);
  room_ = -1;
}

}  // namespace tidemark
