// The code that signal handlers of ours return to; see signal_action.h. As every libc has it: unwinders and debuggers
// know these bytes for a signal frame's.
#include "profiler/signal_action.h"

asm(R"(
  .text
  .hidden tidemark_restore_rt
  .globl tidemark_restore_rt
  .type tidemark_restore_rt, @function
  nop
tidemark_restore_rt:
  mov $15, %eax
  syscall
  .size tidemark_restore_rt, . - tidemark_restore_rt
)");
