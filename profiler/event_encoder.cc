// The predictors of the events section, writer's side. The reader's side is tools/event_decoder.cc; both follow
// docs/trace-format.md. Must not: depend on anything outside the section at hand.
#include "profiler/event_encoder.h"

#include <bit>

namespace tidemark {
namespace {

uint64_t Units(uint64_t address) { return (address >> 4) & kAddressMask; }

bool Obtains(RecordKind kind) { return kind == RecordKind::kAlloc || kind == RecordKind::kRealloc; }

}  // namespace

void EventEncoder::StartSection(size_t events) {
  const size_t slots = std::bit_ceil(events * 2 + 16);
  if (origins_.size() < slots) {
    origins_.assign(slots, Origin{});
    epoch_ = 0;
  }
  if (++epoch_ == 0) {  // 2^32 sections later: entries of the first would look fresh
    origins_.assign(origins_.size(), Origin{});
    epoch_ = 1;
  }
  origin_shift_ = 64 - static_cast<uint32_t>(std::countr_zero(slots));
  obtained_ = 0;
  last_obtained_ = last_far_ = 0;
  last_node_ = 0;
  last_of_class_.fill(0);
  for (ColumnBuilder* column : {&header_, &kinds_, &times_, &sizes_, &nodes_, &addresses_, &origins_column_, &far_,
                                &elapsed_, &gaps_, &errors_, &marks_}) {
    column->Clear();
  }
  for (ColumnBuilder* column : {&times_, &sizes_, &nodes_, &addresses_, &origins_column_, &far_, &elapsed_}) {
    column->Reserve(events);
  }
  kinds_.Reserve(events / kMaxVarintBytes + 1);
}

// The slot of `address`, or the free slot where it belongs. Half of the slots stay free, so the search ends.
size_t EventEncoder::SlotOf(uint64_t address) const {
  const size_t mask = (size_t{1} << (64 - origin_shift_)) - 1;
  size_t slot = static_cast<size_t>((address * 0x9e3779b97f4a7c15) >> origin_shift_);
  while (origins_[slot].epoch == epoch_ && origins_[slot].address != address) slot = (slot + 1) & mask;
  return slot;
}

void EventEncoder::PutReleased(uint64_t address) {
  const Origin& origin = origins_[SlotOf(address)];
  if (origin.epoch == epoch_) {
    origins_column_.Put(obtained_ - origin.ordinal);
    return;
  }
  origins_column_.Put(0);
  far_.PutSigned(address - last_far_);
  last_far_ = address;
}

void EventEncoder::PutNode(uint32_t node) {
  nodes_.PutSigned(static_cast<uint64_t>(node) - last_node_);
  last_node_ = node;
}

void EventEncoder::PutObtained(const TraceEvent& event) {
  const uint64_t address = Units(event.address);
  uint64_t& of_class = last_of_class_[SizeClassOf(event.size)];
  sizes_.Put(event.size);
  PutNode(event.node);
  addresses_.PutSigned(address - (of_class != 0 ? of_class : last_obtained_));
  of_class = last_obtained_ = address;
  origins_[SlotOf(address)] = {address, obtained_, epoch_};
  obtained_++;
}

void EventEncoder::Encode(const EventsHeader& header, std::span<const TraceEvent> events, Payload* payload) {
  StartSection(events.size());
  uint64_t last_time = 0;
  bool any_time = false, any_elapsed = false;
  for (const TraceEvent& event : events) {
    const uint32_t api = Obtains(event.kind) ? static_cast<uint32_t>(event.api) & 15 : 0;
    kinds_.PutByte(static_cast<uint8_t>((static_cast<uint32_t>(event.kind) & 15) | api << 4));
    // Arithmetic shift: a clock that steps back gives a negative time, not a huge one.
    const uint64_t time = static_cast<uint64_t>(static_cast<int64_t>(event.tsc - header.first_tsc) >> header.tsc_shift);
    times_.PutSigned(time - last_time);
    any_time |= time != last_time;
    last_time = time;
    switch (event.kind) {
      case RecordKind::kAlloc:
        PutObtained(event);
        break;
      case RecordKind::kFree:
        PutReleased(Units(event.address));
        break;
      case RecordKind::kRealloc:
        PutReleased(Units(event.old_address));
        PutObtained(event);
        elapsed_.Put(event.elapsed);
        any_elapsed |= event.elapsed != 0;
        break;
      case RecordKind::kGap:
        gaps_.Reserve(3);
        gaps_.Put(event.gap_kind);
        gaps_.Put(event.count);
        gaps_.Put(event.size);
        break;
      case RecordKind::kHeapError:
        errors_.Reserve(2);
        PutNode(event.node);
        errors_.Put(event.count);
        errors_.Put(Units(event.address));
        break;
      case RecordKind::kMark:
        marks_.PutText(std::string_view(event.text).substr(0, kMaxTextBytes));
        break;
      default:
        break;  // the other kinds are not events; as a kind without columns they only advance the time
    }
  }
  header_.Reserve(6);
  header_.Put(header.thread_serial);
  header_.Put(header.chunk_sequence);
  header_.Put(header.fragment);
  header_.Put(header.part);
  header_.Put(header.first_tsc);
  header_.Put(header.tsc_shift);
  payload->StartTable(events.size());
  payload->AddColumn(EventColumn::kHeader, header_);
  payload->AddColumn(EventColumn::kKind, kinds_);
  payload->stamped = any_time;
  if (any_time) payload->AddColumn(EventColumn::kTime, times_);
  const auto add_unless_empty = [payload](EventColumn id, const ColumnBuilder& column) {
    if (!column.view().empty()) payload->AddColumn(id, column);
  };
  add_unless_empty(EventColumn::kSize, sizes_);
  add_unless_empty(EventColumn::kNode, nodes_);
  add_unless_empty(EventColumn::kAddress, addresses_);
  add_unless_empty(EventColumn::kOrigin, origins_column_);
  add_unless_empty(EventColumn::kFar, far_);
  if (any_elapsed) payload->AddColumn(EventColumn::kElapsed, elapsed_);
  add_unless_empty(EventColumn::kGap, gaps_);
  add_unless_empty(EventColumn::kHeapError, errors_);
  add_unless_empty(EventColumn::kMark, marks_);
}

}  // namespace tidemark
