// Allocations from code whose registers and stack mislead an unwinder, for unwinding_garbage_test.py:
//   unwind_garbage ROUNDS
// Functions in assembly call malloc with any value in rbp: addresses that are not mapped, not accessible, misaligned,
// at the very end of a mapping, on the stack, pointing to themselves. One function has no call frame information, the
// others have some that is wrong: the frame by rbp, the caller far above, the frame by an expression that dereferences
// rbp; and the same once more in memory that belongs to no file, as a JIT's code does. No compiler makes such code; it
// must cost nobody a fault. Prints the number of calls.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef void* (*caller)(size_t size, uintptr_t bp, void* (*obtain)(size_t));

// rsi into rbp, then a call by rdx. Ten instructions that do not care where they are.
#define BODY(cfi_begin, cfi_inside, cfi_end) \
  cfi_begin                                  \
      "push %rbp\n"                          \
      "push %rbx\n"                          \
      "sub $8, %rsp\n"                       \
      "mov %rsi, %rbp\n" cfi_inside          \
      "call *%rdx\n"                         \
      "add $8, %rsp\n"                       \
      "pop %rbx\n"                           \
      "pop %rbp\n"                           \
      "ret\n" cfi_end
#define FUNCTION(name, cfi_begin, cfi_inside, cfi_end)                                          \
  __asm__(".pushsection .text\n.globl " #name "\n.type " #name ", @function\n" #name            \
          ":\n" BODY(cfi_begin, cfi_inside, cfi_end) #name "_end:\n.size " #name ", . - " #name \
                                                           "\n"                                 \
                                                           ".popsection\n");                    \
  void* name(size_t size, uintptr_t bp, void* (*obtain)(size_t));

FUNCTION(no_information, "", "", "")
FUNCTION(frame_by_bp, ".cfi_startproc\n", ".cfi_def_cfa rbp, 16\n.cfi_offset rbp, -16\n", ".cfi_endproc\n")
FUNCTION(far_above, ".cfi_startproc\n", ".cfi_def_cfa rsp, 131064\n.cfi_offset rbp, -131064\n", ".cfi_endproc\n")
FUNCTION(beyond_everything, ".cfi_startproc\n", ".cfi_def_cfa rsp, 0x7ffffff8\n", ".cfi_endproc\n")
// def_cfa_expression, 5 bytes: breg6 0, deref, plus_uconst 16
FUNCTION(by_expression, ".cfi_startproc\n", ".cfi_escape 0x0f, 5, 0x76, 0, 0x06, 0x23, 16\n", ".cfi_endproc\n")
// The return address by an expression (register 16, 3 bytes: breg6 8), and rbp is where rbp points.
FUNCTION(address_by_expression, ".cfi_startproc\n",
         ".cfi_def_cfa rsp, 32\n.cfi_escape 0x10, 16, 2, 0x76, 8\n.cfi_escape 0x10, 6, 2, 0x76, 0\n", ".cfi_endproc\n")
extern char no_information_end[];

static uint64_t random_state = 88172645463325252u;
static uint64_t next_random(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  return random_state ^= random_state << 17;
}

int main(int argc, char** argv) {
  const long rounds = argc > 1 ? atol(argv[1]) : 1;
  const size_t page = 4096;
  char* pages = mmap(NULL, 4 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(pages + page, page, PROT_NONE);
  munmap(pages + 3 * page, page);
  char* jit = mmap(NULL, page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memcpy(jit, (char*)no_information, (size_t)(no_information_end - (char*)no_information));
  const caller callers[] = {no_information, frame_by_bp,           far_above,         beyond_everything,
                            by_expression,  address_by_expression, (caller)(void*)jit};
  uintptr_t* loop = (uintptr_t*)(pages + 2 * page);
  loop[0] = (uintptr_t)loop;
  loop[1] = (uintptr_t)&main;
  loop[4] = (uintptr_t)(pages + page);
  loop[5] = (uintptr_t)&malloc;
  uintptr_t here[64];
  for (int i = 0; i < 64; i++) here[i] = (uintptr_t)&here[(i * 7) % 64];
  const uintptr_t values[] = {0,
                              1,
                              8,
                              16,
                              ~(uintptr_t)0,
                              ~(uintptr_t)7,
                              (uintptr_t)1 << 63,
                              ((uintptr_t)1 << 47) - 8,
                              (uintptr_t)1 << 47,
                              0xffffffffff600000u,
                              (uintptr_t)pages + page,
                              (uintptr_t)pages + page - 8,
                              (uintptr_t)pages + page - 16,
                              (uintptr_t)pages + 3 * page - 8,
                              (uintptr_t)pages + 3 * page - 16,
                              (uintptr_t)pages + 3 * page,
                              (uintptr_t)loop,
                              (uintptr_t)(loop + 4),
                              (uintptr_t)here,
                              (uintptr_t)here + 4,
                              (uintptr_t)&here[63],
                              (uintptr_t)&here[32],
                              (uintptr_t)&main,
                              (uintptr_t)jit,
                              (uintptr_t)argv,
                              (uintptr_t)&rounds,
                              (uintptr_t)here - (1 << 20)};
  const size_t count = sizeof values / sizeof values[0];
  long calls = 0;
  for (long round = 0; round < rounds; round++) {
    for (size_t c = 0; c < sizeof callers / sizeof callers[0]; c++) {
      for (size_t v = 0; v < count + 8; v++) {
        const uintptr_t bp = v < count       ? values[v]
                             : v < count + 4 ? (uintptr_t)here + next_random() % 512 * 8
                                             : (uintptr_t)next_random();
        void* block = callers[c](50 + v, bp, malloc);
        free(block);
        calls++;
      }
    }
  }
  printf("calls %ld\n", calls);
  return 0;
}
