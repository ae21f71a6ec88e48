// The predictors of the events section, reader's side; the writer's is profiler/event_encoder.cc.
// Must not: hand out an enumerator that the enumeration does not have; callers index tables with them.
#include "tools/event_decoder.h"

#include <limits>

#include "tools/table_view.h"

namespace tidemark {
namespace {

bool GetSmall(ColumnCursor* cursor, uint32_t* value) {
  const uint64_t wide = cursor->Get();
  *value = static_cast<uint32_t>(wide);
  return wide <= std::numeric_limits<uint32_t>::max();
}

bool ParseHeader(const TableView& table, EventsHeader* header) {
  ColumnCursor cursor = table.Column(EventColumn::kHeader);
  const bool sound = GetSmall(&cursor, &header->thread_serial) && GetSmall(&cursor, &header->chunk_sequence) &&
                     GetSmall(&cursor, &header->fragment) && GetSmall(&cursor, &header->part);
  header->first_tsc = cursor.Get();
  // Bytes behind the shift belong to later minor versions.
  return sound && GetSmall(&cursor, &header->tsc_shift) && header->tsc_shift <= kMaxTscShift && cursor.ok() &&
         table.Has(EventColumn::kHeader) && table.rows() <= kMaxEventsPerSection &&
         table.BytesOf(EventColumn::kKind) == table.rows();
}

}  // namespace

bool ParseEventsHeader(std::string_view payload, EventsHeader* header, uint64_t* count) {
  TableView table;
  if (!table.Parse(payload) || !ParseHeader(table, header)) return false;
  *count = table.rows();
  return true;
}

bool EventDecoder::Start(std::string payload) {
  payload_ = std::move(payload);
  next_ = count_ = 0;
  failed_ = true;
  TableView table;
  if (!table.Parse(payload_) || !ParseHeader(table, &header_)) return false;
  failed_ = false;
  count_ = table.rows();
  has_times_ = table.Has(EventColumn::kTime);
  has_elapsed_ = table.Has(EventColumn::kElapsed);
  kinds_ = table.Column(EventColumn::kKind);
  times_ = table.Column(EventColumn::kTime);
  sizes_ = table.Column(EventColumn::kSize);
  nodes_ = table.Column(EventColumn::kNode);
  addresses_ = table.Column(EventColumn::kAddress);
  origins_ = table.Column(EventColumn::kOrigin);
  far_ = table.Column(EventColumn::kFar);
  elapsed_ = table.Column(EventColumn::kElapsed);
  gaps_ = table.Column(EventColumn::kGap);
  errors_ = table.Column(EventColumn::kHeapError);
  marks_ = table.Column(EventColumn::kMark);
  time_ = last_node_ = last_obtained_ = last_far_ = 0;
  last_of_class_.fill(0);
  obtained_.clear();
  return true;
}

uint32_t EventDecoder::GetNode() {
  last_node_ = (last_node_ + nodes_.GetSigned()) & 0xffffffff;
  return static_cast<uint32_t>(last_node_);
}

bool EventDecoder::GetObtained(TraceEvent* event) {
  event->size = sizes_.Get();
  event->node = GetNode();
  uint64_t& of_class = last_of_class_[SizeClassOf(event->size)];
  const uint64_t predicted = of_class != 0 ? of_class : last_obtained_;
  const uint64_t address = (predicted + addresses_.GetSigned()) & kAddressMask;
  of_class = last_obtained_ = address;
  obtained_.push_back(address);
  event->address = address << 4;
  return sizes_.ok() && nodes_.ok() && addresses_.ok();
}

bool EventDecoder::GetReleased(uint64_t* address) {
  const uint64_t back = origins_.Get();
  if (back > obtained_.size() || !origins_.ok()) return false;
  if (back != 0) {
    *address = obtained_[obtained_.size() - static_cast<size_t>(back)] << 4;
    return true;
  }
  last_far_ = (last_far_ + far_.GetSigned()) & kAddressMask;
  *address = last_far_ << 4;
  return far_.ok();
}

// Columns with bytes left over were not written for these events.
bool EventDecoder::Finish() {
  for (const ColumnCursor* column :
       {&times_, &sizes_, &nodes_, &addresses_, &origins_, &far_, &elapsed_, &gaps_, &errors_, &marks_}) {
    if (!column->ok() || !column->AtEnd()) failed_ = true;
  }
  return false;
}

bool EventDecoder::Next(TraceEvent* event) {
  while (next_ < count_ && !failed_) {
    const uint8_t kind_and_api = kinds_.GetByte();
    next_++;
    if (has_times_) {
      time_ += times_.GetSigned();
    }
    event->kind = static_cast<RecordKind>(kind_and_api & 15);
    const uint32_t api = kind_and_api >> 4;
    event->api = api <= static_cast<uint32_t>(Api::kCfree) ? static_cast<Api>(api) : Api::kMalloc;
    event->tsc = header_.first_tsc + (time_ << header_.tsc_shift);
    event->node = 0;
    event->address = event->old_address = event->size = event->elapsed = event->count = 0;
    event->gap_kind = 0;
    event->text.clear();
    bool sound = times_.ok();
    switch (event->kind) {
      case RecordKind::kAlloc:
        sound &= GetObtained(event);
        break;
      case RecordKind::kFree:
        sound &= GetReleased(&event->address);
        break;
      case RecordKind::kRealloc:
        sound &= GetReleased(&event->old_address) && GetObtained(event);
        if (has_elapsed_) event->elapsed = elapsed_.Get();
        sound &= elapsed_.ok();
        break;
      case RecordKind::kGap:
        sound &= GetSmall(&gaps_, &event->gap_kind) && event->gap_kind < kKindCount;
        event->count = gaps_.Get();
        event->size = gaps_.Get();
        sound &= gaps_.ok();
        break;
      case RecordKind::kHeapError:
        event->node = GetNode();
        event->count = errors_.Get();
        event->address = (errors_.Get() & kAddressMask) << 4;
        sound &= nodes_.ok() && errors_.ok();
        break;
      case RecordKind::kMark:
        event->text = marks_.GetText();
        sound &= marks_.ok();
        break;
      default:
        continue;  // a kind of a later minor version: its data is in columns that we do not know
    }
    failed_ = !sound;
    return sound;
  }
  return failed_ ? false : Finish();
}

}  // namespace tidemark
