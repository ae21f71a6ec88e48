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
  while (!turns.empty()) {
    const size_t index = turns.top().second;
    turns.pop();
    Stream& stream = streams_[index];
    const uint32_t thread_serial = places_[stream.at].header.thread_serial;
    const Turn next_turn = turns.empty() ? Turn(UINT64_MAX, SIZE_MAX) : turns.top();
    // Stay with this thread for as long as it is its turn: usually many events.
    while (Turn(stream.key, index) <= next_turn) {
      if (stream.has_head) visit(thread_serial, stream.head);
      if (Advance(&stream)) continue;
      stream.at++;
      EnterSection(&stream);
      if (stream.at == stream.end) break;
    }
    if (stream.at < stream.end) turns.emplace(stream.key, index);
  }
  streams_.clear();
}

}  // namespace tidemark
