// Calls each hooked function in loops of two lengths, and has callgrind write its counters down after every loop.
//
//   valgrind --tool=callgrind --callgrind-out-file=OUT hook_loop
// The difference of two lengths is the calls alone: start-up, first use and the loop's ends cancel. Each dump is named
// "HOOK LENGTH". A hook that needs a free of its own is counted with it. Must not: allocate anything else in a loop.
#include <malloc.h>
#include <valgrind/callgrind.h>

#include <cstdio>
#include <cstdlib>
#include <string>

namespace {

constexpr unsigned long kShort = 1'000, kLong = 11'000;

template <typename T>
T Opaque(T value) {  // the compiler knows malloc and would leave out what nobody uses
  asm volatile("" : "+r"(value) : : "memory");
  return value;
}

void Pair(unsigned long count) {
  for (unsigned long i = 0; i < count; i++) std::free(Opaque(std::malloc(64)));
}
void Calloc(unsigned long count) {
  for (unsigned long i = 0; i < count; i++) std::free(Opaque(std::calloc(4, 16)));
}
void Realloc(unsigned long count) {  // to a size that fits in place
  void* block = Opaque(std::malloc(64));
  for (unsigned long i = 0; i < count; i++) block = Opaque(std::realloc(block, 60 + i % 4));
  std::free(block);
}
void Memalign(unsigned long count) {
  for (unsigned long i = 0; i < count; i++) std::free(Opaque(memalign(64, 64)));
}
void UsableSize(unsigned long count) {
  void* block = Opaque(std::malloc(64));
  for (unsigned long i = 0; i < count; i++) Opaque(malloc_usable_size(block));
  std::free(block);
}

void Count(const char* name, void (*loop)(unsigned long)) {
  loop(kLong);  // whatever happens the first time, or with the first page, has happened
  for (const unsigned long length : {kShort, kLong}) {
    const std::string title = std::string(name) + " " + std::to_string(length);
    CALLGRIND_ZERO_STATS;
    loop(length);
    CALLGRIND_DUMP_STATS_AT(title.c_str());
  }
}

}  // namespace

int main() {
  // As in any real heap, the page has other blocks: freeing a page's last block is another, longer path.
  void* neighbours[] = {Opaque(std::malloc(64)), Opaque(memalign(64, 64))};
  Count("pair", Pair);
  Count("calloc", Calloc);
  Count("realloc", Realloc);
  Count("memalign", Memalign);
  Count("usable_size", UsableSize);
  for (void* block : neighbours) std::free(block);
  return 0;
}
