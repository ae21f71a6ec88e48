// mimalloc behind a function table; see heap.h.
#include "interpose/heap.h"

#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <mimalloc.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "interpose/hot_state.h"
#include "interpose/imports.h"
#include "interpose/libc_symbols.h"
#include "profiler/module_map.h"
#include "profiler/os.h"

extern "C" void cfree(void*);  // no header declares it any more

namespace tidemark::heap {
namespace {

struct Functions {
  decltype(&mi_malloc) malloc;
  decltype(&mi_zalloc) zalloc;
  decltype(&mi_malloc_aligned) malloc_aligned;
  decltype(&mi_zalloc_aligned) zalloc_aligned;
  decltype(&mi_realloc) realloc;
  decltype(&mi_free) free;
  decltype(&mi_usable_size) usable_size;
  decltype(&mi_option_set) option_set;
  decltype(&mi_manage_os_memory) manage_os_memory;
  decltype(&mi_register_error) register_error;
  decltype(&mi_process_info) process_info;
  decltype(&mi_heap_get_default) heap_get_default;
  decltype(&mi_heap_visit_blocks) heap_visit_blocks;
  decltype(&mi_collect) collect;
  decltype(&mi_version) version;
};
Functions mi;

template <typename F>
bool Resolve(void* library, const char* name, F* out) {
  *out = reinterpret_cast<F>(dlsym(library, name));
  return *out != nullptr;
}

bool ResolveAll(void* library) {
  return Resolve(library, "mi_malloc", &mi.malloc) && Resolve(library, "mi_zalloc", &mi.zalloc) &&
         Resolve(library, "mi_malloc_aligned", &mi.malloc_aligned) &&
         Resolve(library, "mi_zalloc_aligned", &mi.zalloc_aligned) && Resolve(library, "mi_realloc", &mi.realloc) &&
         Resolve(library, "mi_free", &mi.free) && Resolve(library, "mi_usable_size", &mi.usable_size) &&
         Resolve(library, "mi_option_set", &mi.option_set) &&
         Resolve(library, "mi_manage_os_memory", &mi.manage_os_memory) &&
         Resolve(library, "mi_register_error", &mi.register_error) &&
         Resolve(library, "mi_process_info", &mi.process_info) &&
         Resolve(library, "mi_heap_get_default", &mi.heap_get_default) &&
         Resolve(library, "mi_heap_visit_blocks", &mi.heap_visit_blocks) &&
         Resolve(library, "mi_collect", &mi.collect) && Resolve(library, "mi_version", &mi.version);
}

// mimalloc reports failures here and leaves errno to chance; C programs expect ENOMEM.
void OnError(int error, void*) {
  if (error == ENOMEM || error == EOVERFLOW) errno = ENOMEM;
}

// mimalloc's unit of memory from the system; its arenas must be aligned to it.
constexpr size_t kSegmentBytes = size_t{32} << 20;

constexpr size_t kLargestRange = size_t{1} << 40, kSmallestRange = size_t{256} << 20;

// A range of `length` bytes aligned to the segments, or 0. With a limit on address space a reservation leaves the
// application its share: as much again as is reserved has to be free after it.
uintptr_t ReserveHalf(size_t length) {
  void* memory = os::Map(length + kSegmentBytes, PROT_NONE);
  if (memory == nullptr) return 0;
  void* share = os::Map(length, PROT_NONE);
  if (share == nullptr) {
    os::Unmap(memory, length + kSegmentBytes);
    return 0;
  }
  os::Unmap(share, length);
  const uintptr_t start = reinterpret_cast<uintptr_t>(memory);
  const uintptr_t base = (start + kSegmentBytes - 1) & ~(kSegmentBytes - 1);
  const uintptr_t slack = base - start;
  if (slack != 0) os::Unmap(memory, slack);
  if (slack != kSegmentBytes) os::Unmap(reinterpret_cast<void*>(base + length), kSegmentBytes - slack);
  return base;
}

// The largest range that the process may have, from 1 TiB (address space, not memory) down to 256 MiB, in steps of an
// eighth.
bool ReserveRange() {
  for (size_t doubling = kLargestRange; doubling >= kSmallestRange; doubling /= 2) {
    for (size_t eighths = doubling == kLargestRange ? 8 : 15; eighths >= 8; eighths--) {
      const size_t length = doubling / 8 * eighths;
      hot.base = ReserveHalf(length);
      if (hot.base == 0) continue;
      hot.heap_length = length;
      return true;
    }
  }
  return false;
}

// Could a block of so many bytes be written to? mimalloc 2.0.9 commits a block above kLargestUnchecked at once and goes
// on when it could not, to crash on its first write. So the kernel is asked beforehand, by a mapping that counts
// against the same limits: those on data, and what strict overcommit allows. Several threads that ask at the limit at
// the same time may all hear yes.
bool CanCommit(size_t size) {
  const long probe =
      os::Syscall(SYS_mmap, 0, static_cast<long>(size), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (!os::IsError(probe)) {
    os::Unmap(reinterpret_cast<void*>(probe), size);
    return true;
  }
  if (hot.heap_length == kLargestRange) return false;
  // Address space is limited, too, and may have refused what the range has room for.
  rlimit data{};
  os::Syscall(SYS_prlimit64, 0, RLIMIT_DATA, 0, reinterpret_cast<long>(&data));
  return data.rlim_cur == RLIM_INFINITY;
}

// Is there a limit on data, or strict overcommit? Either refuses a writable mapping as large as the range, whose like
// is known to be free as address space.
bool MayRefuseMemory() {
  void* probe = os::Map(hot.heap_length);
  if (probe != nullptr) os::Unmap(probe, hot.heap_length);
  return probe == nullptr;
}

void* OutOfMemory() {
  errno = ENOMEM;
  return nullptr;
}

// mimalloc asks for the time when a block is released, to give memory back some time after it was last used. Where the
// program has forbidden rdtsc, which libc reads the clock by, or madvise, time stands still for it: memory is kept.
int ClockOfHeap(clockid_t clock, timespec* time) {
  const bool forbidden = os::frozen_tsc.load(std::memory_order_relaxed) != 0 || os::IsForbidden(SYS_madvise);
  if (!forbidden) return clock_gettime(clock, time);
  *time = {};
  return 0;
}

// It also asks the kernel for random numbers when a thread begins, and does without where it has to.
long SyscallOfHeap(long number, long a, long b, long c, long d, long e, long f) {
  if (os::IsForbidden(number)) {
    errno = EPERM;
    return -1;
  }
  return syscall(number, a, b, c, d, e, f);
}

// One page of the calling thread's, by mi_heap_visit_blocks.
bool AddPage(const mi_heap_t*, const mi_heap_area_t* page, void*, size_t, void* sum) {
  auto* usage = static_cast<Usage*>(sum);
  usage->committed_by_thread += page->committed;
  usage->used_by_thread += page->used * page->block_size;
  return true;
}

// From here on there is one allocator in the process, also for those who look for libc's.
void ReplaceLibcs() {
#define TIDEMARK_ENTRY(name) \
  { #name, reinterpret_cast < uintptr_t>(&::name) }
  const libc_symbols::Replacement replacements[] = {
      TIDEMARK_ENTRY(malloc),   TIDEMARK_ENTRY(calloc),        TIDEMARK_ENTRY(realloc),
      TIDEMARK_ENTRY(free),     TIDEMARK_ENTRY(reallocarray),  TIDEMARK_ENTRY(cfree),
      TIDEMARK_ENTRY(memalign), TIDEMARK_ENTRY(aligned_alloc), TIDEMARK_ENTRY(posix_memalign),
      TIDEMARK_ENTRY(valloc),   TIDEMARK_ENTRY(pvalloc),       TIDEMARK_ENTRY(malloc_usable_size)};
#undef TIDEMARK_ENTRY
  libc_symbols::Replace(replacements);
}

}  // namespace

bool Start() {
  LoaderCounter counter;
  counter.ObserveBefore();
  void* library = dlopen(TIDEMARK_MIMALLOC_PATH, RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) library = dlopen("libmimalloc.so.2", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr || !ResolveAll(library)) return false;
  counter.ObserveAfter();
  if (mi.version() != MI_MALLOC_VERSION) return false;  // option numbers move between releases
  if (!ReserveRange()) return false;
  mi.register_error(OnError, nullptr);
  const auto* module = static_cast<const link_map*>(library);
  ReplaceImport(module, "clock_gettime", reinterpret_cast<uintptr_t>(&ClockOfHeap));
  ReplaceImport(module, "syscall", reinterpret_cast<uintptr_t>(&SyscallOfHeap));
  mi.option_set(mi_option_show_errors, 0);
  mi.option_set(mi_option_verbose, 0);
  mi.option_set(mi_option_large_os_pages, 0);
  mi.option_set(mi_option_limit_os_alloc, 1);  // nothing outside of the range
  // mimalloc 2.0.9 does not look whether a whole segment could be committed, and crashes on the first write when it
  // could not. What it commits piece by piece it looks at, but smaller pages cost a growing program up to a tenth of
  // its time: only where the system may refuse. CanCommit() has the rest.
  if (MayRefuseMemory()) mi.option_set(mi_option_eager_commit, 0);
  constexpr bool kCommitted = false, kLargePages = false, kZeroed = true;
  constexpr int kAnyNode = -1;
  void* range = reinterpret_cast<void*>(hot.base);
  if (!mi.manage_os_memory(range, hot.heap_length, kCommitted, kLargePages, kZeroed, kAnyNode)) {
    os::Unmap(range, hot.heap_length);
    hot.heap_length = 0;
    return false;
  }
  // The first block tells whether mimalloc really stays inside: it may have taken memory before it had the arena.
  void* probe = mi.malloc(1);
  const bool inside = Owns(probe);
  mi.free(probe);
  if (!inside) return false;
  hot.malloc = mi.malloc;
  hot.zalloc = mi.zalloc;
  hot.realloc = mi.realloc;
  hot.free = mi.free;
  hot.usable_size = mi.usable_size;
  ReplaceLibcs();
  return true;
}

void* Allocate(size_t size, bool zero) {
  size = AtLeastSmallest(size);
  if (size > kLargestUnchecked && !CanCommit(size)) return OutOfMemory();
  return zero ? mi.zalloc(size) : mi.malloc(size);
}
void* AllocateAligned(size_t size, size_t alignment, bool zero) {
  // mimalloc 2.0.9 believes that blocks of up to 1 KiB whose size is a multiple of the alignment are aligned, but the
  // first block of a page is to 128 bytes only. With 16 bytes more it looks.
  constexpr size_t kTrueAlignment = 128, kLargestBelieved = 1024;
  size = AtLeastSmallest(size);
  if (alignment > kTrueAlignment && size <= kLargestBelieved && (size & (alignment - 1)) == 0) size += kSmallest;
  if (size > kLargestUnchecked - alignment && !CanCommit(size + alignment)) return OutOfMemory();
  return zero ? mi.zalloc_aligned(size, alignment) : mi.malloc_aligned(size, alignment);
}
void* Reallocate(void* block, size_t size) {
  if (size > kLargestUnchecked && size > mi.usable_size(block) && !CanCommit(size)) return OutOfMemory();
  return mi.realloc(block, AtLeastSmallest(size));
}
void Free(void* block) { mi.free(block); }
size_t UsableSize(const void* block) { return mi.usable_size(block); }

Usage CurrentUsage() {
  Usage usage = {};
  size_t elapsed, user, system, rss, peak_rss, faults;
  mi.process_info(&elapsed, &user, &system, &rss, &peak_rss, &usage.committed, &usage.peak_committed, &faults);
  // mimalloc's count may fall below zero; see heap_reports.cc.
  if (usage.committed > PTRDIFF_MAX) usage.committed = 0;
  constexpr bool kEachBlock = false;
  mi.heap_visit_blocks(mi.heap_get_default(), kEachBlock, AddPage, &usage);
  return usage;
}

bool Trim() {
  if (os::IsForbidden(SYS_madvise) || os::IsForbidden(SYS_mprotect)) return false;
  const size_t before = CurrentUsage().committed;
  mi.collect(true);
  return CurrentUsage().committed < before;
}

}  // namespace tidemark::heap
