// Slabs and page runs; see sample_region.h.
#include "interpose/sample_region.h"

#include <sys/mman.h>

#include <atomic>

#include "interpose/guard_slots.h"
#include "profiler/os.h"
#include "profiler/reserved_memory.h"

namespace tidemark::region {
namespace {

constexpr size_t kPage = 4096, kNatural = 16;
constexpr size_t kSlabZoneBytes = size_t{4} << 30;
constexpr size_t kSlabBytes = 64 << 10;
constexpr uint32_t kSlabs = kSlabZoneBytes / kSlabBytes;
constexpr size_t kRunZoneBytes = size_t{60} << 30;
constexpr uint32_t kRunPages = kRunZoneBytes / kPage;
constexpr size_t kRegionBytes =
    kSlabZoneBytes + ((guard::kZoneBytes + kSlabBytes - 1) & ~(kSlabBytes - 1)) + kRunZoneBytes;
// Pages of freed runs that stay resident for the next sample; more goes back to the system.
constexpr size_t kRetainedBytes = 8 << 20;

constexpr uint16_t kClassBytes[] = {16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048};
constexpr uint32_t kClasses = sizeof(kClassBytes) / sizeof(kClassBytes[0]);
constexpr size_t kLargestSlabBlock = 2048;
constexpr uint32_t kSlabsPerClass = 4096;

struct Slab {
  std::atomic<uint64_t> live[kSlabBytes / 16 / 64];  // one bit per block
  uint16_t requested[kSlabBytes / 16];
};
struct SlabClass {
  std::atomic<uint32_t> count;                  // slabs claimed, some perhaps not filled in yet
  std::atomic<uint32_t> hint;                   // where the last free block was found
  std::atomic<uint32_t> slabs[kSlabsPerClass];  // number + 1; 0: not there yet
};
constexpr uint32_t kLive = 1;
struct Run {                    // at the index of the page that the block starts in
  std::atomic<uint32_t> state;  // kLive or not
  uint32_t first_page, pages;   // of the whole run (over-aligned blocks start later)
  std::atomic<uint32_t> next;   // in the stack of free runs: index + 1; at first_page
  uint64_t requested;
  uint32_t dirty;  // pages may hold old bytes; at first_page
  uint32_t unsampled;
};
constexpr uint32_t kRunClasses = 8 * 32;

// What is always there. The tables of slabs and runs, a gigabyte together, become accessible as they are needed: a
// limit on data (RLIMIT_DATA, strict overcommit) counts what could be written to.
struct Tables {
  SlabClass classes[kClasses];
  std::atomic<uint64_t> free_runs[kRunClasses];  // tag 32 | first page + 1
  std::atomic<uint8_t> slab_class[kSlabs];       // by slab number: class + 1, 0 while unused
};

uintptr_t base = 0;
uintptr_t length = 0;
uintptr_t guard_base = 0, run_base = 0;
Tables* tables = nullptr;
Slab* slabs = nullptr;  // by slab number
Run* runs = nullptr;    // by page of the run zone
std::atomic<uint32_t> slabs_used{0}, pages_used{0};
std::atomic<size_t> slab_committed{0}, run_committed{0}, retained{0};
std::atomic<size_t> slab_table_committed{0}, run_table_committed{0};

uint32_t SlabClassOf(size_t size) {
  uint32_t c = 0;
  while (kClassBytes[c] < size) c++;
  return c;
}

// A free bit of the slab, claimed; -1: full.
int32_t ClaimBlock(Slab* slab, uint32_t blocks) {
  for (uint32_t word = 0; word * 64 < blocks; word++) {
    uint64_t bits = slab->live[word].load(std::memory_order_relaxed);
    const uint32_t valid = blocks - word * 64 < 64 ? blocks - word * 64 : 64;
    const uint64_t mask = valid == 64 ? ~uint64_t{0} : (uint64_t{1} << valid) - 1;
    while ((~bits & mask) != 0) {
      const uint64_t bit = ~bits & mask & -(~bits & mask);
      const uint64_t before = slab->live[word].fetch_or(bit, std::memory_order_acquire);
      if ((before & bit) == 0) return static_cast<int32_t>(word * 64 + static_cast<uint32_t>(__builtin_ctzll(bit)));
      bits = before | bit;
    }
  }
  return -1;
}

void* AllocateInSlab(size_t size, bool zero) {
  const uint32_t c = SlabClassOf(size);
  const uint32_t blocks = kSlabBytes / kClassBytes[c];
  SlabClass& cls = tables->classes[c];
  const auto take = [&](uint32_t number) -> void* {
    Slab* slab = &slabs[number];
    const int32_t index = ClaimBlock(slab, blocks);
    if (index < 0) return nullptr;
    slab->requested[index] = static_cast<uint16_t>(size);
    void* block = reinterpret_cast<void*>(base + number * kSlabBytes + static_cast<size_t>(index) * kClassBytes[c]);
    if (zero) __builtin_memset(block, 0, kClassBytes[c]);
    return block;
  };
  uint32_t count = cls.count.load(std::memory_order_acquire);
  if (count > kSlabsPerClass) count = kSlabsPerClass;
  const uint32_t hint = cls.hint.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < count; i++) {
    const uint32_t at = (hint + i) % count;
    const uint32_t number = cls.slabs[at].load(std::memory_order_acquire);
    if (number == 0) continue;
    if (void* block = take(number - 1)) {
      if (i != 0) cls.hint.store(at, std::memory_order_relaxed);
      return block;
    }
  }
  const uint32_t place = cls.count.fetch_add(1, std::memory_order_acq_rel);
  if (place >= kSlabsPerClass) {
    cls.count.store(kSlabsPerClass, std::memory_order_relaxed);
    return nullptr;
  }
  const uint32_t number = slabs_used.fetch_add(1, std::memory_order_relaxed);
  if (number >= kSlabs ||
      !MakeAccessible(reinterpret_cast<void*>(base), (size_t{number} + 1) * kSlabBytes, kSlabZoneBytes,
                      &slab_committed) ||
      !MakeAccessible(slabs, (size_t{number} + 1) * sizeof(Slab), kSlabs * sizeof(Slab), &slab_table_committed)) {
    if (number >= kSlabs) slabs_used.store(kSlabs, std::memory_order_relaxed);
    return nullptr;
  }
  tables->slab_class[number].store(static_cast<uint8_t>(c + 1), std::memory_order_release);
  void* block = take(number);
  cls.hint.store(place, std::memory_order_relaxed);
  cls.slabs[place].store(number + 1, std::memory_order_release);
  return block;
}

struct SlabPlace {
  Slab* slab;
  uint32_t c, index;
};

bool FindInSlab(uintptr_t address, SlabPlace* place) {
  const uintptr_t offset = address - base;
  const uint32_t number = static_cast<uint32_t>(offset / kSlabBytes);
  const uint8_t c = tables->slab_class[number].load(std::memory_order_acquire);
  if (c == 0) return false;
  const uint32_t within = static_cast<uint32_t>(offset % kSlabBytes);
  if (within % kClassBytes[c - 1] != 0) return false;
  *place = {&slabs[number], c - 1u, within / kClassBytes[c - 1]};
  return (place->slab->live[place->index / 64].load(std::memory_order_relaxed) >> (place->index % 64) & 1) != 0;
}

// ---- Page runs. Sizes are rounded up to eight classes per doubling, so that freed runs find takers.

uint32_t RunClassOf(uint32_t pages, uint32_t* rounded) {
  if (pages <= 8) {
    *rounded = pages;
    return pages - 1;
  }
  const uint32_t log = 31 - static_cast<uint32_t>(__builtin_clz(pages - 1));  // pages - 1 in [2^log, 2^(log+1))
  const uint32_t step = log - 3;
  const uint32_t units = ((pages - 1) >> step) + 1;  // 9..16
  *rounded = units << step;
  return 8 * (log - 2) + units - 9;
}

uint32_t PopRun(uint32_t c) {
  std::atomic<uint64_t>& stack = tables->free_runs[c];
  uint64_t head = stack.load(std::memory_order_acquire);
  while (static_cast<uint32_t>(head) != 0) {
    const uint32_t page = static_cast<uint32_t>(head) - 1;
    const uint64_t next = runs[page].next.load(std::memory_order_relaxed);
    const uint64_t desired = ((head >> 32) + 1) << 32 | next;  // the tag defeats ABA
    if (stack.compare_exchange_weak(head, desired, std::memory_order_acquire)) return page + 1;
  }
  return 0;
}

void PushRun(uint32_t c, uint32_t page) {
  std::atomic<uint64_t>& stack = tables->free_runs[c];
  uint64_t head = stack.load(std::memory_order_relaxed);
  uint64_t desired;
  do {
    runs[page].next.store(static_cast<uint32_t>(head), std::memory_order_relaxed);
    desired = ((head >> 32) + 1) << 32 | (page + 1);
  } while (!stack.compare_exchange_weak(head, desired, std::memory_order_release, std::memory_order_relaxed));
}

void* AllocateRun(size_t size, size_t alignment, bool zero, bool unsampled) {
  const size_t slack = alignment > kPage ? alignment - kPage : 0;
  if (size > kRunZoneBytes || slack > kRunZoneBytes) return nullptr;
  const size_t wanted = (size + slack + kPage - 1) / kPage;
  if (wanted == 0 || wanted > kRunPages) return nullptr;
  uint32_t pages;
  const uint32_t c = RunClassOf(static_cast<uint32_t>(wanted), &pages);
  if (c >= kRunClasses) return nullptr;
  uint32_t first = PopRun(c);
  if (first != 0) {
    first--;
    if (runs[first].dirty != 0) retained.fetch_sub(size_t{pages} * kPage, std::memory_order_relaxed);
  } else {
    first = pages_used.load(std::memory_order_relaxed);
    do {
      if (pages > kRunPages - first) return nullptr;
    } while (!pages_used.compare_exchange_weak(first, first + pages, std::memory_order_relaxed));
    if (!MakeAccessible(reinterpret_cast<void*>(run_base), (size_t{first} + pages) * kPage, kRunZoneBytes,
                        &run_committed) ||
        !MakeAccessible(runs, (size_t{first} + pages) * sizeof(Run), kRunPages * sizeof(Run), &run_table_committed)) {
      return nullptr;  // the address space of this run is lost; memory was short anyway
    }
  }
  const uintptr_t start = run_base + size_t{first} * kPage;
  const uintptr_t block = (start + alignment - 1) & ~(alignment - 1);
  if (zero && runs[first].dirty != 0) __builtin_memset(reinterpret_cast<void*>(block), 0, size);
  Run& run = runs[(block - run_base) / kPage];
  run.first_page = first;
  run.pages = pages;
  run.requested = size;
  run.unsampled = unsampled;
  run.state.store(kLive, std::memory_order_release);
  return reinterpret_cast<void*>(block);
}

bool ReleaseRun(Run* run) {
  uint32_t live = kLive;
  if (!run->state.compare_exchange_strong(live, 0, std::memory_order_acq_rel)) return false;
  const uint32_t first = run->first_page, pages = run->pages;
  const size_t bytes = size_t{pages} * kPage;
  // What the system does not take back is kept, and so are the old bytes in it.
  const bool keep =
      retained.load(std::memory_order_relaxed) + bytes <= kRetainedBytes ||
      os::IsError(os::Advise(reinterpret_cast<void*>(run_base + size_t{first} * kPage), bytes, MADV_DONTNEED));
  if (keep) retained.fetch_add(bytes, std::memory_order_relaxed);
  runs[first].dirty = keep;
  uint32_t rounded;
  PushRun(RunClassOf(pages, &rounded), first);
  return true;
}

Run* FindRun(uintptr_t address) {
  const uintptr_t number = (address - run_base) / kPage;
  if ((number + 1) * sizeof(Run) > run_table_committed.load(std::memory_order_acquire)) return nullptr;
  Run* run = &runs[number];
  const uintptr_t page = address & ~(kPage - 1);
  if (address != page || run->state.load(std::memory_order_acquire) != kLive) return nullptr;
  return run;
}

enum class Zone { kSlab, kGuard, kRun };
Zone ZoneOf(uintptr_t address) {
  return address < guard_base ? Zone::kSlab : address < run_base ? Zone::kGuard : Zone::kRun;
}

}  // namespace

bool Start() {
  constexpr size_t kSlabTable = kSlabs * sizeof(Slab), kRunTable = kRunPages * sizeof(Run);
  void* zones = os::Map(kRegionBytes, PROT_NONE);
  void* slab_table = os::Map(kSlabTable, PROT_NONE);
  void* run_table = os::Map(kRunTable, PROT_NONE);
  auto* all = static_cast<Tables*>(os::Map(sizeof(Tables)));
  if (zones == nullptr || slab_table == nullptr || run_table == nullptr || all == nullptr) {
    if (zones != nullptr) os::Unmap(zones, kRegionBytes);
    if (slab_table != nullptr) os::Unmap(slab_table, kSlabTable);
    if (run_table != nullptr) os::Unmap(run_table, kRunTable);
    if (all != nullptr) os::Unmap(all, sizeof(Tables));
    return false;
  }
  os::Advise(zones, kRegionBytes, MADV_NOHUGEPAGE);
  os::Advise(slab_table, kSlabTable, MADV_NOHUGEPAGE);
  os::Advise(run_table, kRunTable, MADV_NOHUGEPAGE);
  os::Advise(all, sizeof(Tables), MADV_NOHUGEPAGE);
  slabs = static_cast<Slab*>(slab_table);
  runs = static_cast<Run*>(run_table);
  base = reinterpret_cast<uintptr_t>(zones);
  guard_base = base + kSlabZoneBytes;
  run_base = base + kRegionBytes - kRunZoneBytes;
  length = kRegionBytes;
  guard::Start(guard_base);
  tables = all;
  return true;
}

size_t CommittedBytes() {
  return slab_committed.load(std::memory_order_relaxed) + run_committed.load(std::memory_order_relaxed);
}

size_t UsedBytes() {
  if (tables == nullptr) return 0;
  size_t used = 0;
  const uint32_t slab_count = slabs_used.load(std::memory_order_relaxed);
  for (uint32_t number = 0; number < slab_count && number < kSlabs; number++) {
    const uint8_t c = tables->slab_class[number].load(std::memory_order_acquire);
    if (c == 0) continue;
    for (const std::atomic<uint64_t>& word : slabs[number].live) {
      used += static_cast<size_t>(__builtin_popcountll(word.load(std::memory_order_relaxed))) * kClassBytes[c - 1];
    }
  }
  const size_t known_runs = run_table_committed.load(std::memory_order_acquire) / sizeof(Run);
  const uint32_t pages = pages_used.load(std::memory_order_relaxed);
  for (uint32_t page = 0; page < pages && page < known_runs; page++) {
    if (runs[page].state.load(std::memory_order_acquire) == kLive) used += runs[page].pages * kPage;
  }
  return used;
}

bool Contains(const void* block) { return reinterpret_cast<uintptr_t>(block) - base < length; }

void* Allocate(size_t size, size_t alignment, bool zero, Placement placement) {
  if (tables == nullptr) return nullptr;
  const size_t bytes = size == 0 ? 1 : size;
  if (bytes <= kLargestSlabBlock && alignment <= 16) return AllocateInSlab(bytes, zero);
  return AllocateRun(bytes, alignment, zero, placement == Placement::kUnsampled);
}

bool IsLive(const void* block) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(block);
  SlabPlace place;
  switch (ZoneOf(address)) {
    case Zone::kSlab:
      return FindInSlab(address, &place);
    case Zone::kGuard:
      return guard::LiveSize(block) != 0;
    case Zone::kRun:
      return FindRun(address) != nullptr;
  }
  return false;
}

bool IsSampled(const void* block) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(block);
  if (ZoneOf(address) != Zone::kRun) return true;
  const Run* run = FindRun(address);
  return run != nullptr && run->unsampled == 0;
}

bool Release(void* block) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(block);
  switch (ZoneOf(address)) {
    case Zone::kSlab: {
      SlabPlace place;
      if (!FindInSlab(address, &place)) return false;
      const uint64_t bit = uint64_t{1} << (place.index % 64);
      return (place.slab->live[place.index / 64].fetch_and(~bit, std::memory_order_release) & bit) != 0;
    }
    case Zone::kGuard:
      return false;  // guard_faults.h takes these back
    case Zone::kRun: {
      Run* run = FindRun(address);
      return run != nullptr && ReleaseRun(run);
    }
  }
  return false;
}

void Bounds(uint64_t* start, uint64_t* end) {
  *start = base;
  *end = base + length;
}

namespace {

bool NextInSlabs(uintptr_t* at, SlabPlace* place) {
  const uint32_t used = slabs_used.load(std::memory_order_relaxed);
  while (*at < guard_base) {
    const uintptr_t offset = *at - base;
    const uintptr_t number = offset / kSlabBytes;
    if (number >= used || number >= kSlabs) return false;
    const uint8_t c = tables->slab_class[number].load(std::memory_order_acquire);
    const size_t block_bytes = c == 0 ? kSlabBytes : kClassBytes[c - 1];
    const size_t index = (offset % kSlabBytes + block_bytes - 1) / block_bytes;
    if (c == 0 || (index + 1) * block_bytes > kSlabBytes) {
      *at = base + (number + 1) * kSlabBytes;
      continue;
    }
    *at = base + number * kSlabBytes + index * block_bytes;
    if (FindInSlab(*at, place)) return true;
    *at += block_bytes;
  }
  return false;
}

}  // namespace

bool NextLive(uint64_t* from, uint64_t* block, uint64_t* size, bool* sampled) {
  if (tables == nullptr) return false;
  const auto found = [&](uintptr_t at, size_t bytes, bool is_sampled) {
    *block = at;
    *size = bytes;
    *sampled = is_sampled;
    return true;
  };
  uintptr_t at = *from;
  if (at < guard_base) {
    SlabPlace place;
    if (NextInSlabs(&at, &place)) {
      *from = at + kClassBytes[place.c];
      return found(at, place.slab->requested[place.index], true);
    }
    at = guard_base;
  }
  for (at = (at + kNatural - 1) & ~(kNatural - 1); at < guard_base + guard::kZoneBytes; at += kNatural) {
    if (const size_t bytes = guard::LiveSize(reinterpret_cast<void*>(at)); bytes != 0) {
      *from = at + kNatural;
      return found(at, bytes, true);
    }
  }
  if (at < run_base) at = run_base;
  const uintptr_t end = run_base + size_t{pages_used.load(std::memory_order_relaxed)} * kPage;
  for (at = (at + kPage - 1) & ~(kPage - 1); at < end; at += kPage) {
    if (const Run* run = FindRun(at)) {
      *from = at + kPage;
      return found(at, run->requested, run->unsampled == 0);
    }
  }
  return false;
}

size_t RequestedSize(const void* block) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(block);
  switch (ZoneOf(address)) {
    case Zone::kSlab: {
      SlabPlace place;
      return FindInSlab(address, &place) ? place.slab->requested[place.index] : 0;
    }
    case Zone::kGuard:
      return guard::LiveSize(block);
    case Zone::kRun: {
      const Run* run = FindRun(address);
      return run == nullptr ? 0 : run->requested;
    }
  }
  return 0;
}

size_t UsableSize(const void* block) {
  const uintptr_t address = reinterpret_cast<uintptr_t>(block);
  switch (ZoneOf(address)) {
    case Zone::kSlab: {
      SlabPlace place;
      return FindInSlab(address, &place) ? kClassBytes[place.c] : 0;
    }
    case Zone::kGuard:
      return guard::LiveSize(block);
    case Zone::kRun: {
      const Run* run = FindRun(address);
      if (run == nullptr) return 0;
      return run_base + (size_t{run->first_page} + run->pages) * kPage - address;
    }
  }
  return 0;
}

}  // namespace tidemark::region
