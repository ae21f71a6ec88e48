// Recorded words and their validation; see previous_stack.h.
#include "profiler/previous_stack.h"

#include "profiler/os.h"
#include "profiler/own_memory.h"
#include "profiler/session.h"

namespace tidemark {
namespace {

constexpr uint32_t kFirstCapacity = 21;    // with its words and the thread's state in one page
constexpr uint32_t kMiddleCapacity = 110;  // with its words just under four pages
constexpr uint32_t kSpareWords = 32;       // for steps that read more than two

// A word that differs from what is recorded for it: whoever depends on it never holds.
const uintptr_t kNeverEqual = 0;

uint32_t WordCapacity(uint32_t frames) { return 2 * frames + kSpareWords; }

size_t BytesFor(uint32_t capacity) {
  return (size_t{capacity} * 2 + 1) * sizeof(StackFrame) + size_t{WordCapacity(capacity)} * sizeof(StackWord);
}
size_t MapBytes(uint32_t capacity) { return (BytesFor(capacity) + 4095) & ~size_t{4095}; }

bool Differs(const StackWord& word) { return *reinterpret_cast<const uintptr_t*>(word.address) != word.value; }

// Index + 1 of the last of words[0 .. count) that differs; 0: none. All are known to be readable.
uint32_t LastDifference(const StackWord* words, uint32_t count) {
  while (count >= 4) {
    const StackWord* four = words + count - 4;
    if (Differs(four[0]) | Differs(four[1]) | Differs(four[2]) | Differs(four[3])) break;
    count -= 4;
  }
  while (count > 0 && !Differs(words[count - 1])) count--;
  return count;
}

// The same where nothing is known: the stack was walked over more than one memory area.
uint32_t LastDifferenceChecked(const StackWord* words, uint32_t count, StackReader* stack) {
  for (; count > 0; count--) {
    const StackWord& word = words[count - 1];
    uintptr_t value;
    if (word.address == reinterpret_cast<uintptr_t>(&kNeverEqual)) break;
    if (!stack->Read(word.address, &value) || value != word.value) break;
  }
  return count;
}

}  // namespace

bool GrowFrames(StackMemory* memory) {
  if (memory->capacity == kMaxCapacity) return false;
  const StackMemory old = *memory;
  uint32_t capacity = old.capacity < kMiddleCapacity ? kMiddleCapacity : kMaxCapacity;
  StackFrame* frames;
  if (old.capacity == 0 && BytesFor(kFirstCapacity) <= old.first_room_bytes) {
    capacity = kFirstCapacity;
    frames = static_cast<StackFrame*>(old.first_room);
  } else {
    frames = static_cast<StackFrame*>(own_memory::Map(MapBytes(capacity)));
    if (frames == nullptr) return false;
  }
  StackFrame* previous = frames + 1;
  StackFrame* walked = previous + capacity;
  auto* words = reinterpret_cast<StackWord*>(walked + capacity);
  previous[-1].sp = ~uintptr_t{0};
  if (old.capacity != 0) {
    __builtin_memcpy(previous, old.previous, old.previous_count * sizeof(StackFrame));
    __builtin_memcpy(walked, old.walked, old.capacity * sizeof(StackFrame));
    __builtin_memcpy(words, old.words, WordCapacity(old.capacity) * sizeof(StackWord));
  }
  memory->previous = previous;
  memory->walked = walked;
  memory->words = words;
  memory->capacity = capacity;
  // Last: whoever interrupts this and never comes back leaves pointers to what is mapped.
  if (old.capacity > kFirstCapacity) own_memory::Unmap(old.previous - 1, MapBytes(old.capacity));
  return true;
}

void GrowKnownNodes(StackMemory* memory) {
  constexpr uint32_t kFirstBits = 9, kMoreBits = 1, kLastBits = 14;
  memory->known_misses = 0;
  if (memory->known_bits == kLastBits) return;
  const uint32_t bits = memory->known == nullptr ? kFirstBits : memory->known_bits + kMoreBits;
  auto* larger = static_cast<KnownNode*>(own_memory::Map(sizeof(KnownNode) << bits));
  if (larger == nullptr) return;  // slower without
  const StackMemory old = *memory;
  memory->known_bits = 0;  // never bits of the one with the memory of the other, whoever interrupts this
  memory->known = larger;
  memory->known_bits = bits;
  if (old.known != nullptr) own_memory::Unmap(old.known, sizeof(KnownNode) << old.known_bits);
}

void FollowEpoch(StackMemory* memory, uint32_t epoch) {
  if (memory->epoch == epoch) return;
  memory->epoch = epoch;
  if (memory->known != nullptr) os::Advise(memory->known, sizeof(KnownNode) << memory->known_bits, MADV_DONTNEED);
}

int64_t FirstDifference(StackMemory* memory, StackReader* stack, int64_t from) {
  const uint32_t count = memory->previous[from].words;
  const uint32_t moves = stack->moves();
  uint32_t last;
  if (memory->settled && memory->moves == moves) [[likely]] {
    last = LastDifference(memory->words, count);
  } else {
    last = LastDifferenceChecked(memory->words, count, stack);
    stack->ForgetFrom(memory->trusted_end);
    if (last == 0) {
      memory->settled = memory->all_trusted && stack->moves() == moves;
      memory->moves = moves;
    }
  }
  if (last == 0) [[likely]]
    return -1;
  while (from > 0 && memory->previous[from - 1].words >= last) from--;
  return from;
}

void AppendFrame(StackMemory* memory, uint32_t index, const StackFrame& frame, const StackPath& path,
                 const StackWord* evaluated, const StackWord& last_read) {
  if (IsPlain(frame) && index > 0) return AppendPlainFrame(memory->previous + index, memory->words, frame, path);
  StackFrame& out = memory->previous[index];
  const uint32_t first = index > 0 ? memory->previous[index - 1].words : 0;
  StackWord* word = memory->words + first;
  out = frame;
  out.node = path.node;
  out.hash = path.hash;
  out.flags |= (frame.flags & kFrameUsesBp) >> 1;  // needs what it uses
  if (IsPlain(frame)) {
    if (last_read.address != 0) *word++ = last_read;
  } else {
    const uint32_t words = frame.words & 0xff;
    const bool fits = first + words + 2 * (memory->capacity - index) <= WordCapacity(memory->capacity);
    if ((frame.flags & kFrameOpaque) != 0 || !fits) {
      *word++ = {reinterpret_cast<uintptr_t>(&kNeverEqual), 1};
    } else {
      for (uint32_t i = 0; i < words; i++) *word++ = evaluated[(frame.words >> 8) + i];
    }
  }
  out.words = static_cast<uint32_t>(word - memory->words);
}

void Settle(StackMemory* memory, const StackReader& stack, uint32_t moves, bool all_read) {
  const bool stayed = stack.moves() == moves;
  memory->settled = memory->all_trusted && stayed && (all_read || (memory->settled && memory->moves == moves));
  memory->moves = moves;
}

}  // namespace tidemark
