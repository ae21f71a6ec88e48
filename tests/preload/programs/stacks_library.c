// A shared library in the middle of a call chain; see stacks.cc.
#include <stddef.h>
__attribute__((noinline)) static void library_inner(void (*callback)(size_t), size_t size) {
  callback(size);
  __asm__ volatile("" ::: "memory");
}
void library_entry(void (*callback)(size_t), size_t size) {
  library_inner(callback, size);
  __asm__ volatile("" ::: "memory");
}
