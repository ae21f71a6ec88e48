// A plugin that allocates while it is loaded and in a chain of functions of its own; -DLETTER=x names them, so that two
// plugins that take turns at one address can be told apart, -DROOM=n makes their frames different. See
// unwinding_modules_test.py.
#include <stdlib.h>

#ifndef ROOM
#define ROOM 0
#endif
#define PASTE(a, b) a##b
#define NAME(a, b) PASTE(a, b)
#define FRAME __attribute__((noinline, noclone))
#define HERE __asm__ volatile("" ::: "memory")  // no tail call

static void (*callback)(void);
FRAME static void NAME(bottom_, LETTER)(int n) {
  void* volatile block = malloc(500 + (size_t)n);
  free(block);
  if (callback != 0) callback();
  HERE;
}
FRAME static void NAME(middle_, LETTER)(int n) {
  volatile char room[64 + ROOM];
  room[0] = (char)n;
  NAME(bottom_, LETTER)(n + room[0]);
  HERE;
}
void plugin_entry(int n) {
  NAME(middle_, LETTER)(n);
  HERE;
}
void plugin_call(void (*function)(void)) {
  callback = function;
  NAME(middle_, LETTER)(1);
  callback = 0;
}
__attribute__((constructor)) static void loading(void) { plugin_entry(2); }
