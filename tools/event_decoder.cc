// The predictors of the events section, reader's side; the writer's is profiler/event_encoder.h.
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
         table.BytesOf(EventColumn::kOp) >= table.rows();
}

}  // namespace

bool ParseEventsHeader(std::string_view payload, EventsHeader* header, uint64_t* count) {
  TableView table;
  if (!table.Parse(payload) || !ParseHeader(table, header)) return false;
  *count = table.rows();
  return true;
}

// Walks over the operations of a section for their addresses only.
class EventDecoder::AddressPass {
 public:
  AddressPass(const TableView& table, Workspace* workspace, EventDecoder* decoder)
      : ops_(table.Column(EventColumn::kOp)),
        realloc_shapes_(table.Column(EventColumn::kReallocShape)),
        misses_(table.Column(EventColumn::kAddress)),
        origins_(table.Column(EventColumn::kOrigin)),
        far_(table.Column(EventColumn::kFar)),
        lists_(workspace->lists),
        obtained_(workspace->obtained),
        shapes_(decoder->shapes_),
        addresses_(decoder->addresses_) {
    // A realloc has two addresses.
    lists_.Start(static_cast<size_t>(table.rows()) + table.BytesOf(EventColumn::kReallocShape));
    obtained_.clear();
    addresses_.clear();
    addresses_.reserve(static_cast<size_t>(table.rows()) + table.BytesOf(EventColumn::kReallocShape));
    StartHits();
  }

  // Up to the first contradiction; true when there is none.
  bool Run(uint64_t rows) {
    for (uint64_t row = 0; row < rows; row++) {
      if (!One(ops_.Get())) return false;
    }
    return misses_.ok() && misses_.AtEnd() && origins_.AtEnd() && far_.AtEnd();
  }

 private:
  bool One(uint64_t op) {
    if (op >= kFirstShapeOp) return Obtain(op - kFirstShapeOp);
    uint64_t units;
    switch (static_cast<EventOp>(op)) {
      case EventOp::kFree:
        if (!Origin(&units)) return false;
        lists_.Release(units, lists_.PageOf(units));
        addresses_.push_back(units << 4);
        return true;
      case EventOp::kRealloc:
        if (!Origin(&units)) return false;
        addresses_.push_back(units << 4);
        if (!Obtain(realloc_shapes_.Get()) || !realloc_shapes_.ok()) return false;
        lists_.Release(units, lists_.PageOf(units));
        return true;
      case EventOp::kReallocInPlace:
        if (!Origin(&units)) return false;
        obtained_.push_back(units);
        addresses_.push_back(units << 4);
        realloc_shapes_.Get();
        return realloc_shapes_.ok();
      default:
        return ops_.ok();
    }
  }
  bool Obtain(uint64_t shape) {
    if (shape >= shapes_.size()) return false;
    const uint32_t size_class = SizeClassOf(shapes_[static_cast<size_t>(shape)].size);
    FreeLists::Prediction block = lists_.Predict(size_class);
    if (hits_ == 0) {
      block = {(block.units + misses_.GetSigned()) & kAddressMask, FreeLists::kNone};
      if (!misses_.ok()) return false;
      StartHits();
    } else {
      hits_--;
    }
    lists_.Obtain(block.units, size_class, block.page);
    obtained_.push_back(block.units);
    addresses_.push_back(block.units << 4);
    return true;
  }
  void StartHits() { hits_ = misses_.AtEnd() ? kEndless : misses_.Get(); }
  bool Origin(uint64_t* units) {
    const uint64_t back = origins_.Get();
    if (back > obtained_.size() || !origins_.ok()) return false;
    if (back != 0) {
      *units = obtained_[obtained_.size() - static_cast<size_t>(back)];
      return true;
    }
    last_far_ = (last_far_ + far_.GetSigned()) & kAddressMask;
    *units = last_far_;
    return far_.ok();
  }

  ColumnCursor ops_, realloc_shapes_, misses_, origins_, far_;
  FreeLists& lists_;
  std::vector<uint64_t>& obtained_;
  const std::vector<Shape>& shapes_;
  std::vector<uint64_t>& addresses_;
  uint64_t hits_ = 0, last_far_ = 0;
};

bool EventDecoder::ReadShapes(ColumnCursor sizes, ColumnCursor nodes, ColumnCursor apis, bool has_apis) {
  shapes_.clear();
  shapes_.reserve(sizes.remaining());
  uint64_t node = 0;
  while (!sizes.AtEnd()) {
    const uint64_t size = sizes.Get();
    node = (node + nodes.GetSigned()) & 0xffffffff;
    const uint32_t api = has_apis ? apis.GetByte() : 0;
    shapes_.push_back({size, static_cast<uint32_t>(node),
                       api <= static_cast<uint32_t>(Api::kCfree) ? static_cast<Api>(api) : Api::kMalloc});
  }
  return sizes.ok() && nodes.ok() && nodes.AtEnd() && (!has_apis || (apis.ok() && apis.AtEnd()));
}

bool EventDecoder::Start(std::string payload, Workspace* workspace) {
  payload_ = std::move(payload);
  next_ = count_ = 0;
  failed_ = true;
  TableView table;
  if (!table.Parse(payload_) || !ParseHeader(table, &header_)) return false;
  if (!ReadShapes(table.Column(EventColumn::kShapeSize), table.Column(EventColumn::kShapeNode),
                  table.Column(EventColumn::kShapeApi), table.Has(EventColumn::kShapeApi))) {
    return false;
  }
  failed_ = false;
  count_ = table.rows();
  ops_ = table.Column(EventColumn::kOp);
  times_ = table.Column(EventColumn::kTime);
  realloc_shapes_ = table.Column(EventColumn::kReallocShape);
  elapsed_ = table.Column(EventColumn::kElapsed);
  has_elapsed_ = table.Has(EventColumn::kElapsed);
  gaps_ = table.Column(EventColumn::kGap);
  errors_ = table.Column(EventColumn::kHeapError);
  marks_ = table.Column(EventColumn::kMark);
  guards_ = table.Column(EventColumn::kGuardReport);
  time_ = header_.first_tsc >> header_.tsc_shift;
  same_time_ = times_.AtEnd() ? kEndless : times_.Get();
  addresses_sound_ = AddressPass(table, workspace, this).Run(count_);
  next_address_ = 0;
  return true;
}

bool EventDecoder::SetShape(uint64_t number, TraceEvent* event) const {
  if (number >= shapes_.size()) return false;
  const Shape& shape = shapes_[static_cast<size_t>(number)];
  event->size = shape.size;
  event->node = shape.node;
  event->api = shape.api;
  return true;
}

bool EventDecoder::NextTime() {
  if (same_time_ != 0) {
    same_time_--;
    return true;
  }
  time_ += times_.GetSigned();
  const bool sound = times_.ok();
  same_time_ = times_.AtEnd() ? kEndless : times_.Get();
  return sound && times_.ok();
}

bool EventDecoder::NextAddress(uint64_t* address) {
  if (next_address_ == addresses_.size()) return false;  // the section contradicts itself here
  *address = addresses_[next_address_++];
  return true;
}

// Columns with bytes left over were not written for these events.
bool EventDecoder::Finish() {
  for (const ColumnCursor* column :
       {&ops_, &times_, &realloc_shapes_, &elapsed_, &gaps_, &errors_, &marks_, &guards_}) {
    if (!column->ok() || !column->AtEnd()) failed_ = true;
  }
  if (!addresses_sound_) failed_ = true;
  return false;
}

bool EventDecoder::ReadGuardReport(TraceEvent* event) {
  GuardReport& report = event->guard;
  uint32_t error = 0, access = 0;
  bool sound = GetSmall(&guards_, &error) && GetSmall(&guards_, &access) && GetSmall(&guards_, &event->node);
  report.error = static_cast<HeapError>(error);
  report.access = static_cast<Access>(access);
  event->address = report.block = (guards_.Get() & kAddressMask) << 4;
  report.offset = static_cast<int64_t>(guards_.GetSigned());
  event->size = report.size = guards_.Get();
  for (StackOfThread* stack : {&report.allocated, &report.released}) {
    sound &= GetSmall(&guards_, &stack->node) && GetSmall(&guards_, &stack->thread_serial);
  }
  return sound && guards_.ok();
}

bool EventDecoder::Next(TraceEvent* event) {
  while (next_ < count_ && !failed_) {
    const uint64_t op = ops_.Get();
    next_++;
    bool sound = ops_.ok() && NextTime();
    event->tsc = time_ << header_.tsc_shift;
    event->api = Api::kMalloc;
    event->node = 0;
    event->address = event->old_address = event->size = event->elapsed = event->count = 0;
    event->gap_kind = 0;
    event->text.clear();
    if (op >= kFirstShapeOp) {
      event->kind = RecordKind::kAlloc;
      failed_ = !(sound && SetShape(op - kFirstShapeOp, event) && NextAddress(&event->address));
      return !failed_;
    }
    switch (static_cast<EventOp>(op)) {
      case EventOp::kFree:
        event->kind = RecordKind::kFree;
        sound &= NextAddress(&event->address);
        break;
      case EventOp::kRealloc:
      case EventOp::kReallocInPlace:
        event->kind = RecordKind::kRealloc;
        sound &= SetShape(realloc_shapes_.Get(), event) && NextAddress(&event->old_address);
        event->address = event->old_address;
        if (static_cast<EventOp>(op) == EventOp::kRealloc) sound &= NextAddress(&event->address);
        if (has_elapsed_) event->elapsed = elapsed_.Get() << header_.tsc_shift;
        sound &= realloc_shapes_.ok() && elapsed_.ok();
        break;
      case EventOp::kGap:
        event->kind = RecordKind::kGap;
        sound &= GetSmall(&gaps_, &event->gap_kind) && event->gap_kind < kKindCount;
        event->count = gaps_.Get();
        event->size = gaps_.Get();
        sound &= gaps_.ok();
        break;
      case EventOp::kHeapError:
        event->kind = RecordKind::kHeapError;
        event->count = errors_.Get();
        sound &= GetSmall(&errors_, &event->node);
        event->address = (errors_.Get() & kAddressMask) << 4;
        sound &= errors_.ok();
        break;
      case EventOp::kGuardReport:
        event->kind = RecordKind::kGuardReport;
        sound &= ReadGuardReport(event);
        break;
      case EventOp::kMark:
        event->kind = RecordKind::kMark;
        event->text = marks_.GetText();
        sound &= marks_.ok();
        break;
      default:
        if (sound) continue;  // of a later minor version: its data is in columns that we do not know
        break;
    }
    failed_ = !sound;
    return sound;
  }
  return failed_ ? false : Finish();
}

}  // namespace tidemark
