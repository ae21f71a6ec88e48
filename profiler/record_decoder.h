// The words of a ring chunk -> calls for what they say (session.h, "Records").
//
// A template over who listens, because the same records are read twice when several threads run: once for the nodes
// and modules that another thread's events may refer to, and once for the events. The words are the collector's own
// copy; still nothing in them is trusted, they come from the other process.
// Must not: read beyond `count` words, keep anything between two calls but the clock.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>

#include "profiler/session.h"
#include "profiler/trace_writer.h"

namespace tidemark {

constexpr uint64_t Bits(uint64_t word, unsigned first, unsigned count) {
  return (word >> first) & ((uint64_t{1} << count) - 1);
}
constexpr uint64_t AddressBits(uint64_t word, unsigned first) { return Bits(word, first, 44) << 4; }

// A kModule record of `length` words; false when its parts do not fit it.
inline bool DecodeModule(const uint64_t* words, size_t length, uint64_t tsc, TraceModule* module) {
  constexpr size_t kFixedWords = 5;
  const size_t build_id_bytes = Bits(words[0], 16, 8);
  const size_t path_bytes = Bits(words[0], 24, 16);
  if (length < kFixedWords || build_id_bytes + path_bytes > (length - kFixedWords) * 8) return false;
  const char* text = reinterpret_cast<const char*>(words + kFixedWords);
  module->start = words[1];
  module->end = words[2];
  module->load_bias = words[3];
  module->first_tsc = tsc;
  module->first_node = static_cast<uint32_t>(words[4]);
  module->build_id.assign(text, build_id_bytes);
  module->path.assign(text + build_id_bytes, path_bytes);
  return true;
}

// Of a kLeakCheck record.
inline TraceLeakCheck LeakCheckOf(const uint64_t* words, bool ended) {
  TraceLeakCheck check;
  check.number = static_cast<uint32_t>(Bits(words[0], 16, 16));
  check.trigger = static_cast<LeakTrigger>(Bits(words[0], 32, 8));
  check.method = static_cast<LeakMethod>(Bits(words[0], 40, 8));
  check.outcome = static_cast<LeakOutcome>(Bits(words[0], 48, 8));
  check.flags = static_cast<uint32_t>(Bits(words[0], 56, 8));
  check.tsc = words[1];
  if (!ended) return check;
  check.pause_us = words[2];
  check.scan_us = words[3];
  check.threads = static_cast<uint32_t>(words[4]);
  check.threads_not_stopped = static_cast<uint32_t>(words[4] >> 32);
  check.root_bytes = words[5];
  check.live_blocks = words[6];
  check.live_bytes = words[7];
  return check;
}

// Of a kLeakRow record.
inline TraceLeakRow LeakRowOf(const uint64_t* words) {
  TraceLeakRow row;
  row.leak_class = static_cast<uint8_t>(Bits(words[0], 4, 4));
  row.root = static_cast<uint8_t>(Bits(words[0], 8, 4));
  row.flags = static_cast<uint32_t>(Bits(words[0], 12, 8));
  row.node = static_cast<uint32_t>(Bits(words[0], 20, kNodeBits));
  row.address = words[1];
  row.bytes = words[2];
  row.blocks = row.address == 0 ? words[3] : 1;
  row.leader = row.address == 0 ? 0 : words[3];
  return row;
}

// `Events` has Alloc, Free, Realloc, Gap, HeapError, Guard and Mark as EventEncoder does; `tables` has OnNode,
// OnModule, OnLeakCheck and OnLeakRow, or is null: not wanted. False: the words do not make sense from some record on,
// what was before it has been handed out.
template <typename Events, typename Tables>
bool DecodeRecords(const uint64_t* words, size_t count, uint64_t* clock, Events& events, Tables* tables) {
  const uint64_t* at = words;
  const uint64_t* const end = words + count;
  uint64_t tsc = *clock;
  bool sound = true;
  const auto have = [&](size_t needed) {
    sound = static_cast<size_t>(end - at) >= needed;
    return sound;
  };
  while (at < end && sound) {
    const uint64_t w0 = *at;
    switch (static_cast<RecordKind>(w0 & 15)) {
      case RecordKind::kAlloc: {
        const uint64_t size = Bits(w0, 8, kSizeBits);
        const size_t length = size == kSizeEscape ? 3 : 2;
        if (!have(length)) break;
        tsc += Bits(at[1], 44, 20);
        events.Alloc(tsc, static_cast<Api>(Bits(w0, 4, 4)), static_cast<uint32_t>(Bits(w0, 36, kNodeBits)),
                     length == 3 ? at[2] : size, AddressBits(at[1], 0));
        at += length;
        break;
      }
      case RecordKind::kFree:
        tsc += Bits(w0, 48, 16);
        events.Free(tsc, AddressBits(w0, 4));
        ++at;
        break;
      case RecordKind::kRealloc: {
        const uint64_t size = Bits(w0, 8, kSizeBits);
        const size_t length = size == kSizeEscape ? 4 : 3;
        if (!have(length)) break;
        tsc += Bits(at[1], 44, 20);
        events.Realloc(tsc, static_cast<Api>(Bits(w0, 4, 4)), static_cast<uint32_t>(Bits(w0, 36, kNodeBits)),
                       length == 4 ? at[3] : size, AddressBits(at[1], 0), AddressBits(at[2], 0), Bits(at[2], 44, 20));
        at += length;
        break;
      }
      case RecordKind::kNode:
        if (!have(2)) break;
        if (tables != nullptr) {
          tables->OnNode({static_cast<uint32_t>(Bits(w0, 4, kNodeBits)), static_cast<uint32_t>(Bits(w0, 32, kNodeBits)),
                          static_cast<uint32_t>(Bits(w0, 60, 4)), at[1]});
        }
        at += 2;
        break;
      case RecordKind::kTime:
        tsc = w0 >> 4;
        ++at;
        break;
      case RecordKind::kPad:
        sound = w0 == 0;
        ++at;
        break;
      case RecordKind::kModule: {
        const size_t length = Bits(w0, 4, 12);
        if (!have(length)) break;
        TraceModule module;
        sound = DecodeModule(at, length, tsc, &module);
        if (sound && tables != nullptr) tables->OnModule(std::move(module));
        at += length;
        break;
      }
      case RecordKind::kGap:
        if (!have(2)) break;
        sound = Bits(w0, 4, 4) < kKindCount;
        if (!sound) break;
        events.Gap(tsc, static_cast<uint32_t>(Bits(w0, 4, 4)), w0 >> 8, at[1]);
        at += 2;
        break;
      case RecordKind::kHeapError:
        if (!have(2)) break;
        tsc += Bits(at[1], 44, 20);
        events.HeapError(tsc, Bits(w0, 4, 4), static_cast<uint32_t>(Bits(w0, 36, kNodeBits)), AddressBits(at[1], 0));
        at += 2;
        break;
      case RecordKind::kGuardReport: {
        if (!have(6)) break;
        tsc += Bits(at[1], 44, 20);
        const auto stack = [](uint64_t word) {
          return StackOfThread{static_cast<uint32_t>(word), static_cast<uint32_t>(word >> 32)};
        };
        events.Guard(tsc, static_cast<uint32_t>(Bits(w0, 36, kNodeBits)),
                     {static_cast<HeapError>(Bits(w0, 4, 4)), static_cast<Access>(Bits(w0, 8, 4)),
                      AddressBits(at[1], 0), static_cast<int64_t>(at[2]), at[3], stack(at[4]), stack(at[5])});
        at += 6;
        break;
      }
      case RecordKind::kMark: {
        const size_t length = Bits(w0, 4, 12);
        const size_t bytes = Bits(w0, 16, 16);
        const size_t text_words = (bytes + 7) / 8;
        if (!have(length)) break;
        sound = length >= 1 + text_words;
        if (!sound) break;
        tsc += Bits(w0, 32, 32);
        // The text ends the record, whatever stands between it and word 0.
        events.Mark(tsc, std::string_view(reinterpret_cast<const char*>(at + length - text_words), bytes));
        at += length;
        break;
      }
      case RecordKind::kLeakCheck: {
        const bool ended = Bits(w0, 4, 1) != 0;
        const size_t length = ended ? 8 : 2;
        if (!have(length)) break;
        if (tables != nullptr) tables->OnLeakCheck(LeakCheckOf(at, ended), ended);
        at += length;
        break;
      }
      case RecordKind::kLeakRow:
        if (!have(4)) break;
        if (tables != nullptr) tables->OnLeakRow(static_cast<uint32_t>(Bits(w0, 48, 16)), LeakRowOf(at));
        at += 4;
        break;
      default:
        sound = false;
        break;
    }
  }
  *clock = tsc;
  return sound;
}

}  // namespace tidemark
