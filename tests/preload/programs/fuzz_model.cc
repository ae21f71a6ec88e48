// Random calls of the whole allocation interface against a model of what is live; see api_fuzz_test.py.
//
//   fuzz_model SEED OPERATIONS THREADS
//
// The model lies in memory of its own (mmap). Each live block has a pattern at both ends of its usable size and in
// between, which is looked at when the block is resized, freed, handed to another thread, and at the end of a round; in
// between rounds all live blocks of all threads are sorted and may not overlap. Blocks change hands through shared
// places. Threads end after each round, their blocks live on. Any wrong answer ends the program with status 4 and one
// line that says what, where, and the seed.
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

extern "C" {
__attribute__((weak)) void cfree(void*);
__attribute__((weak)) void free_sized(void*, size_t);
__attribute__((weak)) void free_aligned_sized(void*, size_t, size_t);
}

namespace {

constexpr int kThreadsMost = 16, kSlots = 512, kPlaces = 256, kSentinel = 77;
constexpr size_t kEdge = 64, kStride = 509;

struct Block {
  unsigned char* start;
  size_t size, usable, alignment;
  unsigned char seed;
};
struct Worker {
  Block slots[kSlots];
  uint64_t state;
  uint64_t operations;
  uint64_t done[16];
};
struct Shared {
  Worker workers[kThreadsMost];
  Block places[kPlaces];
  std::atomic<int> taken[kPlaces];
};
Shared* shared;
uint64_t seed_of_run;

[[noreturn]] void Wrong(const char* format, ...) {
  char text[300];
  va_list arguments;
  va_start(arguments, format);
  int length = std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  length += std::snprintf(text + length, sizeof text - static_cast<size_t>(length), " (seed %llu)\n",
                          static_cast<unsigned long long>(seed_of_run));
  if (write(1, text, static_cast<size_t>(length)) < 0) _exit(5);
  _exit(4);
}

uint64_t Random(Worker* worker) {  // xorshift64*
  uint64_t x = worker->state;
  x ^= x >> 12;
  x ^= x << 25;
  x ^= x >> 27;
  worker->state = x;
  return x * 0x2545f4914f6cdd1d;
}

size_t RandomSize(Worker* worker) {
  const uint64_t r = Random(worker);
  const uint64_t kind = r % 100;
  const size_t any = static_cast<size_t>(r >> 8);
  if (kind < 45) return any % 200;
  if (kind < 75) return any % 2100;
  if (kind < 90) return any % 20000;
  if (kind < 97) return (size_t{1} << (any % 17)) + any / 17 % 3 - (any % 17 == 0 ? 0 : 1);
  if (kind < 99) return any % 300000;
  return any % 200 == 0 ? any / 200 % (5 << 20) : any % 70000;
}

// ---- Patterns.

unsigned char At(const Block& block, size_t i) { return static_cast<unsigned char>(block.seed + i * 13 + (i >> 8)); }

template <typename F>
void EachPlace(size_t end, size_t usable, F visit) {
  for (size_t i = 0; i < end; i += i < kEdge ? 1 : kStride) visit(i);
  if (end == usable) {
    for (size_t i = usable > kEdge ? usable - kEdge : 0; i < usable; i++) visit(i);
  }
}
void Mark(Block* block) {
  EachPlace(block->usable, block->usable, [&](size_t i) { block->start[i] = At(*block, i); });
}
// The first `end` bytes; all, with both ends, if that is the usable size.
void Check(const Block& block, size_t end, const char* when) {
  EachPlace(end, block.usable, [&](size_t i) {
    if (block.start[i] != At(block, i))
      Wrong("byte %zu of a block of %zu (usable %zu) has changed, seen %s", i, block.size, block.usable, when);
  });
}

void Adopt(Worker* worker, Block* block, void* start, size_t size, size_t alignment, bool zero) {
  if (start == nullptr) Wrong("no block of %zu bytes aligned to %zu: errno %d", size, alignment, errno);
  if (errno != kSentinel) Wrong("errno changed by an allocation of %zu bytes: %d", size, errno);
  if (reinterpret_cast<uintptr_t>(start) % alignment != 0) Wrong("%zu bytes are not aligned to %zu", size, alignment);
  const size_t usable = malloc_usable_size(start);
  if (usable < size) Wrong("%zu bytes usable of %zu", usable, size);
  *block = {static_cast<unsigned char*>(start), size, usable, alignment, static_cast<unsigned char>(Random(worker))};
  if (zero) {
    for (size_t i = 0; i < size; i++) {
      if (block->start[i] != 0) Wrong("byte %zu of a cleared block of %zu is not zero", i, size);
    }
  }
  Mark(block);
}

void Allocate(Worker* worker, Block* block) {
  const uint64_t r = Random(worker);
  const size_t size = RandomSize(worker);
  size_t alignment = 16;
  void* start = nullptr;
  bool zero = false;
  const unsigned way = static_cast<unsigned>(r % 16);
  worker->done[way]++;
  errno = kSentinel;
  switch (way) {
    default:
      start = malloc(size);
      break;
    case 5:
    case 6: {
      const size_t count = 1 + (r >> 8) % 7;
      start = calloc(count, size / count);
      Adopt(worker, block, start, size / count * count, alignment, true);
      return;
    }
    case 7:
      start = realloc(nullptr, size);
      break;
    case 8:
      start = reallocarray(nullptr, size, 1);
      break;
    case 9:
      alignment = size_t{1} << (r >> 8) % 14;
      start = memalign(alignment, size);
      break;
    case 10:
      alignment = size_t{1} << (r >> 8) % 13;
      start = aligned_alloc(alignment, size);
      break;
    case 11:
      alignment = size_t{8} << (r >> 8) % ((r >> 20) % 64 == 0 ? 22 : 10);
      if (const int code = posix_memalign(&start, alignment, size); code != 0) Wrong("posix_memalign: %d", code);
      break;
    case 12:
      alignment = 4096;
      start = (r >> 8 & 1) == 0 ? valloc(size) : pvalloc(size);
      break;
    case 13: {
      char text[64];
      std::memset(text, 'x', sizeof text);
      text[size % 63] = 0;
      start = strdup(text);
      Adopt(worker, block, start, size % 63 + 1, 16, false);
      return;
    }
    case 14:
    case 15:
      zero = way == 14 || (r >> 8) % 4 != 0;
      if (zero) {
        start = calloc(size, 1);
      } else {
        alignment = 64;  // what 48 is rounded up to
        start = memalign(48, size);
      }
      break;
  }
  Adopt(worker, block, start, size, alignment < 16 ? 16 : alignment, zero);
}

void Release(Worker* worker, Block* block) {
  Check(*block, block->usable, "when freed");
  const uint64_t r = Random(worker);
  errno = kSentinel;
  switch (r % 8) {
    default:
      free(block->start);
      break;
    case 5:
      if (realloc(block->start, 0) != nullptr) Wrong("realloc to 0 gave a block");
      break;
    case 6:
      cfree != nullptr ? cfree(block->start) : free(block->start);
      break;
    case 7:
      if (free_sized != nullptr && (r >> 8 & 1) == 0)
        free_sized(block->start, block->size);
      else if (free_aligned_sized != nullptr)
        free_aligned_sized(block->start, block->alignment, block->size);
      else
        free(block->start);
      break;
  }
  if (errno != kSentinel) Wrong("errno changed by free of %zu bytes: %d", block->size, errno);
  *block = {};
}

void Resize(Worker* worker, Block* block) {
  Check(*block, block->usable, "before realloc");
  const Block old = *block;
  size_t size = (Random(worker) & 3) == 0 ? old.size + Random(worker) % 40 : RandomSize(worker);
  if (size == 0) size = 1;
  errno = kSentinel;
  void* start = (Random(worker) & 7) == 0 ? reallocarray(old.start, 1, size) : realloc(old.start, size);
  if (start == nullptr) Wrong("realloc of %zu to %zu failed: errno %d", old.size, size, errno);
  Block moved = old;
  moved.start = static_cast<unsigned char*>(start);
  moved.usable = malloc_usable_size(start);
  const size_t kept = std::min(old.size, size);
  for (size_t i = 0; i < kept; i += i < kEdge ? 1 : kStride) {
    if (i < old.usable && moved.start[i] != At(old, i))
      Wrong("realloc from %zu to %zu lost byte %zu", old.size, size, i);
  }
  Adopt(worker, block, start, size, 16, false);
}

// What has to fail, and change nothing.
void Fail(Worker* worker, Block* block) {
  static volatile size_t huge[] = {PTRDIFF_MAX, size_t{PTRDIFF_MAX} + 1, SIZE_MAX - 4096, SIZE_MAX};
  const size_t size = huge[Random(worker) % 4];
  void* result = nullptr;
  errno = kSentinel;
  switch (Random(worker) % 9) {
    case 0:
      result = malloc(size);
      break;
    case 1:
      result = calloc(size, 3);
      break;
    case 2:
      result = memalign(64, size);
      break;
    case 3:
      result = valloc(size);
      break;
    case 4:
      result = pvalloc(size);
      break;
    case 5:
      result = reallocarray(block->start, size, 2);
      break;
    case 6:
      if (posix_memalign(&result, 64, size) != ENOMEM) Wrong("posix_memalign of too much has no ENOMEM");
      errno = ENOMEM;
      break;
    case 7:
      if (posix_memalign(&result, 24, 10) != EINVAL || errno != kSentinel) Wrong("posix_memalign to 24 has no EINVAL");
      errno = ENOMEM;
      break;
    default:
      result = realloc(block->start, size);
      break;
  }
  if (result != nullptr) Wrong("a block of %zu bytes", size);
  if (errno != ENOMEM) Wrong("failure with errno %d", errno);
  if (block->start != nullptr) Check(*block, block->usable, "after a failed call");
}

// Leaves a block in a shared place, or takes another thread's out of it.
void Exchange(Worker* worker, Block* block) {
  const size_t place = Random(worker) % kPlaces;
  if (shared->taken[place].exchange(1, std::memory_order_acquire) != 0) return;  // somebody is there now
  std::swap(*block, shared->places[place]);
  shared->taken[place].store(0, std::memory_order_release);
  if (block->start != nullptr) Check(*block, block->usable, "when it came from another thread");
}

void* Work(void* argument) {
  auto* worker = static_cast<Worker*>(argument);
  for (uint64_t i = 0; i < worker->operations; i++) {
    const uint64_t r = Random(worker);
    Block* block = &worker->slots[(r >> 32) % kSlots];
    if (r % 100 < 5) {
      Exchange(worker, block);
    } else if (r % 400 < 22) {
      Fail(worker, block);
    } else if (block->start == nullptr) {
      Allocate(worker, block);
    } else if (r % 100 < 30) {
      Resize(worker, block);
    } else {
      Release(worker, block);
    }
  }
  return nullptr;
}

// All live blocks, sorted by address: none reaches into the next.
void CheckOverlaps(int threads, Block** sorted) {
  size_t count = 0;
  for (int t = 0; t < threads; t++) {
    for (Block& block : shared->workers[t].slots) sorted[count++] = &block;
  }
  for (Block& block : shared->places) sorted[count++] = &block;
  std::sort(sorted, sorted + count, [](const Block* a, const Block* b) { return a->start < b->start; });
  for (size_t i = 0; i < count; i++) {
    if (sorted[i]->start == nullptr) continue;
    Check(*sorted[i], sorted[i]->usable, "at the end of a round");
    if (i + 1 < count && sorted[i]->start + std::max(sorted[i]->usable, size_t{1}) > sorted[i + 1]->start)
      Wrong("blocks of %zu and %zu bytes overlap", sorted[i]->usable, sorted[i + 1]->usable);
  }
}

// A child goes on with its copy of everything.
void ForkAndGoOn(int threads, Block** sorted) {
  const pid_t child = fork();
  if (child == 0) {
    shared->workers[0].operations = 500;
    Work(&shared->workers[0]);
    CheckOverlaps(threads, sorted);
    _exit(0);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child || status != 0) Wrong("a forked child ended with %x", status);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  seed_of_run = std::strtoull(argv[1], nullptr, 10);
  const uint64_t operations = std::strtoull(argv[2], nullptr, 10);
  const int threads = std::atoi(argv[3]);
  if (threads < 1 || threads > kThreadsMost) return 2;
  // Private: a forked child has a model of its own, as it has blocks of its own.
  constexpr size_t kSorted = (size_t{kSlots} * kThreadsMost + kPlaces) * sizeof(Block*);
  void* memory = mmap(nullptr, sizeof(Shared) + kSorted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return 3;
  shared = static_cast<Shared*>(memory);
  auto** sorted = reinterpret_cast<Block**>(shared + 1);
  for (int t = 0; t < threads; t++)
    shared->workers[t].state = (seed_of_run + 1) * 0x9e3779b97f4a7c15 + static_cast<uint64_t>(t) * 0x1234567;
  constexpr int kRounds = 8;
  for (int round = 0; round < kRounds; round++) {
    pthread_t ids[kThreadsMost];
    for (int t = 0; t < threads; t++) {
      shared->workers[t].operations = operations / kRounds / static_cast<uint64_t>(threads);
      if (threads > 1 && pthread_create(&ids[t], nullptr, Work, &shared->workers[t]) != 0) return 3;
    }
    if (threads == 1) Work(&shared->workers[0]);
    for (int t = 0; t < threads && threads > 1; t++) pthread_join(ids[t], nullptr);
    CheckOverlaps(threads, sorted);
    ForkAndGoOn(threads, sorted);
  }
  for (int t = 0; t < threads; t++) {
    for (Block& block : shared->workers[t].slots) {
      if (block.start != nullptr) Release(&shared->workers[t], &block);
    }
  }
  for (Block& block : shared->places) {
    if (block.start != nullptr) Release(&shared->workers[0], &block);
  }
  std::printf("done\n");
  return 0;
}
