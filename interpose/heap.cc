// mimalloc behind a function table; see heap.h.
#include "interpose/heap.h"

#include <dlfcn.h>
#include <errno.h>
#include <mimalloc.h>
#include <sys/mman.h>

#include "interpose/hot_state.h"
#include "profiler/module_map.h"
#include "profiler/os.h"

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
         Resolve(library, "mi_process_info", &mi.process_info) && Resolve(library, "mi_version", &mi.version);
}

// mimalloc reports failures here and leaves errno to chance; C programs expect ENOMEM.
void OnError(int error, void*) {
  if (error == ENOMEM || error == EOVERFLOW) errno = ENOMEM;
}

// mimalloc's unit of memory from the system; its arenas must be aligned to it.
constexpr size_t kSegmentBytes = size_t{32} << 20;

// The largest range that the process may have, from 1 TiB (address space, not memory) down to 256 MiB.
bool ReserveRange() {
  for (unsigned shift = 40; shift >= 28; shift -= 2) {
    const size_t length = size_t{1} << shift;
    void* memory = os::Map(length + kSegmentBytes, PROT_NONE);
    if (memory == nullptr) continue;
    const uintptr_t start = reinterpret_cast<uintptr_t>(memory);
    const uintptr_t base = (start + kSegmentBytes - 1) & ~(kSegmentBytes - 1);
    const uintptr_t slack = base - start;
    if (slack != 0) os::Unmap(memory, slack);
    if (slack != kSegmentBytes) os::Unmap(reinterpret_cast<void*>(base + length), kSegmentBytes - slack);
    // With a limit on address space a smaller reservation leaves the application its share: ask for twice as much and
    // give the half back, so that at least as much as is reserved here stays free.
    void* share = os::Map(length, PROT_NONE);
    if (share == nullptr && shift > 28) {
      os::Unmap(reinterpret_cast<void*>(base), length);
      continue;
    }
    if (share != nullptr) os::Unmap(share, length);
    hot.base = base;
    hot.heap_length = length;
    return true;
  }
  return false;
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
  mi.option_set(mi_option_show_errors, 0);
  mi.option_set(mi_option_verbose, 0);
  mi.option_set(mi_option_large_os_pages, 0);
  mi.option_set(mi_option_limit_os_alloc, 1);  // nothing outside of the range
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
  return true;
}

void* Allocate(size_t size, bool zero) {
  size = AtLeastSmallest(size);
  return zero ? mi.zalloc(size) : mi.malloc(size);
}
void* AllocateAligned(size_t size, size_t alignment, bool zero) {
  // mimalloc 2.0.9 believes that blocks of up to 1 KiB whose size is a multiple of the alignment are aligned, but the
  // first block of a page is to 128 bytes only. With 16 bytes more it looks.
  constexpr size_t kTrueAlignment = 128, kLargestBelieved = 1024;
  size = AtLeastSmallest(size);
  if (alignment > kTrueAlignment && size <= kLargestBelieved) size += kSmallest;
  return zero ? mi.zalloc_aligned(size, alignment) : mi.malloc_aligned(size, alignment);
}
void* Reallocate(void* block, size_t size) { return mi.realloc(block, AtLeastSmallest(size)); }
void Free(void* block) { mi.free(block); }
size_t UsableSize(const void* block) { return mi.usable_size(block); }

size_t CommittedBytes() {
  size_t elapsed, user, system, rss, peak_rss, commit, peak_commit, faults;
  mi.process_info(&elapsed, &user, &system, &rss, &peak_rss, &commit, &peak_commit, &faults);
  return commit;
}

}  // namespace tidemark::heap
