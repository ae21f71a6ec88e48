// From the loader's first call to the last destructor: which heap serves, and who records.
//
//   kEarly     before our constructor: glibc's own heap serves; a short list remembers those blocks
//   kForward   for good: glibc's (or the next library's) heap serves; nothing is recorded. Set-uid programs, valgrind,
//              no mimalloc, no address space, executables with a malloc of their own
//   kOurs      mimalloc serves; whether anything is recorded is the recorder's business
//
// There is no way back and no teardown: hooks work after the last destructor as they did before.
//
// Context: the constructor runs first of all (-z initfirst), single-threaded; the rest is any thread.
#pragma once

#include <cstddef>

// musl's loader takes the library for one of its own (it believes to be libc.so.6 itself), looks for every symbol by
// name alone, and ends the process when one is missing that is not weak. So whatever only glibc has is weak.
#pragma weak __libc_malloc
#pragma weak __libc_calloc
#pragma weak __libc_realloc
#pragma weak __libc_memalign
#pragma weak __libc_free
#pragma weak _dl_find_object
#pragma weak dladdr1

namespace tidemark::lifecycle {

enum class Phase { kEarly, kForward, kOurs };
extern Phase phase;

// The allocator behind us: what the program would use without tidemark (another library's, if the program brings one),
// and before the constructor glibc's own.
struct NextAllocator {
  void* (*malloc)(size_t);
  void* (*calloc)(size_t, size_t);
  void* (*realloc)(void*, size_t);
  void* (*memalign)(size_t, size_t);
  void (*free)(void*);
  size_t (*usable_size)(void*);
};
const NextAllocator& Next();

// Blocks handed out before the constructor: their owner is glibc, whatever Next() is.
void RememberEarly(void* block);
bool IsEarly(const void* block);

}  // namespace tidemark::lifecycle
