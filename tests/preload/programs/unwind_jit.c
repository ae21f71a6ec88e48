// Code that no file knows calls back into functions that one does, for unwinding_code_test.py:
//   unwind_jit FRAMES ROUNDS
// FRAMES pieces of machine code in memory of the process's own call one another, keeping frame pointers as nearly all
// JITs do, and the last one calls a function that allocates. Each round writes them to new memory and gives the old
// back. Prints the rounds.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define FRAME __attribute__((noinline, noclone))
#define HERE __asm__ volatile("" ::: "memory")  // no tail call

FRAME void leaf(void) {
  void* volatile block = malloc(4711);
  free(block);
  HERE;
}
FRAME void called_by_jit(void) {
  leaf();
  HERE;
}
FRAME void enters_jit(void (*code)(void)) {
  code();
  HERE;
}

// push %rbp; mov %rsp,%rbp; sub $16,%rsp; movabs $callee,%rax; call *%rax; leave; ret
static char* emit(char* at, void (*callee)(void)) {
  static const unsigned char head[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x10, 0x48, 0xb8};
  static const unsigned char tail[] = {0xff, 0xd0, 0xc9, 0xc3};
  memcpy(at, head, sizeof head);
  memcpy(at + sizeof head, &callee, 8);
  memcpy(at + sizeof head + 8, tail, sizeof tail);
  return at + sizeof head + 8 + sizeof tail;
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const int frames = atoi(argv[1]), rounds = atoi(argv[2]);
  const size_t bytes = ((size_t)frames * 32 + 4095) & ~(size_t)4095;
  for (int k = 0; k < rounds; k++) {
    char* code = mmap(NULL, bytes, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code == MAP_FAILED) return 1;
    char* at = code;
    void (*callee)(void) = called_by_jit;
    for (int i = 0; i < frames; i++) {
      char* const piece = at;
      at = emit(piece, callee);
      callee = (void (*)(void))(void*)piece;
    }
    enters_jit(callee);
    munmap(code, bytes);
  }
  printf("rounds %d\n", rounds);
  return 0;
}
