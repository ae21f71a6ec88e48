// The k-way merge over threads; see event_merge.h.
#include "tools/event_merge.h"

#include <algorithm>
#include <queue>
#include <tuple>

namespace tidemark {

bool PrecedesInThread(const EventsPlace& a, const EventsPlace& b) {
  const auto key = [](const EventsPlace& place) {
    const EventsHeader& h = place.header;
    return std::tuple(h.thread_serial, h.chunk_sequence, h.fragment, h.part);
  };
  return key(a) < key(b);
}

EventMerge::EventMerge(std::vector<EventsPlace> places, Loader loader, Complaint complain, size_t resident_limit)
    : places_(std::move(places)),
      loader_(std::move(loader)),
      complain_(std::move(complain)),
      resident_limit_(resident_limit) {
  std::sort(places_.begin(), places_.end(), PrecedesInThread);
}

void EventMerge::EnterSection(Stream* stream) {
  Unload(stream);
  stream->has_head = false;
  stream->events_read = 0;
  if (stream->at < stream->end) stream->key = places_[stream->at].header.first_tsc;
}

void EventMerge::Unload(Stream* stream) {
  if (stream->decoder == nullptr) return;
  resident_bytes_ -= std::min(resident_bytes_, stream->decoder->resident_bytes());
  stream->decoder.reset();
}

// Decodes the stream's section again, up to where it had been read.
bool EventMerge::Load(Stream* stream) {
  std::string payload;
  auto decoder = std::make_unique<EventDecoder>();
  if (!loader_(places_[stream->at].section, &payload) || !decoder->Start(std::move(payload), &workspace_)) return false;
  TraceEvent skipped;
  while (decoder->events_read() < stream->events_read) {
    if (!decoder->Next(&skipped)) return false;
  }
  if (resident_bytes_ > resident_limit_) {
    for (Stream& other : streams_) Unload(&other);
    resident_bytes_ = 0;
  }
  stream->decoder = std::move(decoder);
  return true;
}

// Makes the next event the head; false when the section has no more.
bool EventMerge::Advance(Stream* stream) {
  if (stream->decoder == nullptr) {
    if (!Load(stream)) {
      complain_(places_[stream->at], stream->events_read);
      return false;
    }
    resident_bytes_ += stream->decoder->resident_bytes();
  }
  const size_t before = stream->decoder->resident_bytes();
  stream->has_head = stream->decoder->Next(&stream->head);
  resident_bytes_ += stream->decoder->resident_bytes() - before;
  stream->events_read = stream->decoder->events_read();
  if (stream->has_head) {
    stream->key = stream->head.tsc;
    return true;
  }
  if (stream->decoder->failed()) complain_(places_[stream->at], stream->events_read);
  return false;
}

// Makes the next event, or the next section's beginning, the stream's turn; false at its end.
bool EventMerge::Next(Stream* stream) {
  if (Advance(stream)) return true;
  stream->at++;
  EnterSection(stream);
  return stream->at < stream->end;
}

// Obtains a block that is in use, or releases one that is not: something else must have come before.
bool EventMerge::Contradicts(const TraceEvent& event, const AddressSet& alive) {
  switch (event.kind) {
    case RecordKind::kAlloc:
      return alive.Contains(event.address);
    case RecordKind::kFree:
      return !alive.Contains(event.address);
    case RecordKind::kRealloc:
      return !alive.Contains(event.old_address) ||
             (event.address != event.old_address && alive.Contains(event.address));
    default:
      return false;
  }
}

void EventMerge::Apply(const TraceEvent& event, AddressSet* alive) {
  if (event.kind == RecordKind::kFree) alive->Erase(event.address);
  if (event.kind == RecordKind::kRealloc) alive->Erase(event.old_address);
  const bool obtains = event.kind == RecordKind::kAlloc || event.kind == RecordKind::kRealloc;
  if (obtains) alive->Insert(event.address);
}

void EventMerge::ForEach(const Visitor& visit) {
  streams_.clear();
  resident_bytes_ = 0;
  for (size_t i = 0; i < places_.size(); i++) {
    if (i == 0 || places_[i].header.thread_serial != places_[i - 1].header.thread_serial) {
      streams_.emplace_back();
      streams_.back().at = i;
    }
    streams_.back().end = i + 1;
  }
  // Streams are in order of thread serials, so that the index breaks ties the same way every time.
  using Turn = std::pair<uint64_t, size_t>;
  std::priority_queue<Turn, std::vector<Turn>, std::greater<>> turns;
  for (size_t i = 0; i < streams_.size(); i++) {
    EnterSection(&streams_[i]);
    turns.emplace(streams_[i].key, i);
  }
  AddressSet alive;
  const bool ties = streams_.size() > 1;
  std::vector<Turn> waiting;  // streams whose event contradicts what is alive; all of one time
  while (!turns.empty() || !waiting.empty()) {
    // When nobody else can go first, the one that has waited longest goes: its block is older than the trace, or events
    // were lost.
    const bool must_go = !waiting.empty() && (turns.empty() || turns.top().first > waiting.front().first);
    const size_t index = must_go ? waiting.front().second : turns.top().second;
    if (must_go) {
      waiting.erase(waiting.begin());
      for (const Turn& turn : waiting) turns.push(turn);
      waiting.clear();
    } else {
      turns.pop();
    }
    Stream& stream = streams_[index];
    const uint32_t thread_serial = places_[stream.at].header.thread_serial;
    const Turn next_turn = turns.empty() ? Turn(UINT64_MAX, SIZE_MAX) : turns.top();
    bool more = true, may_wait = !must_go;
    // Stay with this thread for as long as it is its turn: usually many events.
    do {
      if (stream.has_head) {
        if (ties) {
          const bool others = next_turn.first == stream.key || !waiting.empty();
          if (others && may_wait && Contradicts(stream.head, alive)) {
            waiting.emplace_back(stream.key, index);
            break;
          }
          Apply(stream.head, &alive);
        }
        visit(thread_serial, stream.head);
        may_wait = true;
      }
      more = Next(&stream);
    } while (more && waiting.empty() && Turn(stream.key, index) <= next_turn);
    const bool waits = !waiting.empty() && waiting.back().second == index;
    if (waits) continue;
    if (more) turns.emplace(stream.key, index);
    for (const Turn& turn : waiting) turns.push(turn);  // something has changed: they try again
    waiting.clear();
  }
  streams_.clear();
}

}  // namespace tidemark
