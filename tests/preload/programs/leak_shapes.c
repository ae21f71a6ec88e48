// Loses known amounts, as its arguments say, in their order: list (5 nodes of 32 bytes, the head included), one (100
// bytes), many=N (N times one), other (48 bytes), keep (77 bytes in a global; prints "keep"), fork (what follows
// happens in a child, too), close (descriptors 1 and 2), exit=N.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct node {
  struct node* next;
  char rest[24];
};

static char* kept;

__attribute__((noinline)) static struct node* node_new(struct node* next) {
  struct node* node = malloc(sizeof *node);
  memset(node, 0, sizeof *node);
  node->next = next;
  return node;
}

__attribute__((noinline)) static void lose_list(void) {
  struct node* volatile list = NULL;
  for (int i = 0; i < 5; i++) list = node_new(list);
  list = NULL;
}

__attribute__((noinline)) static void lose_one(void) { memset(malloc(100), 1, 100); }

__attribute__((noinline)) static void lose_other(void) { memset(malloc(48), 1, 48); }

// What is left of earlier calls on the stack.
__attribute__((noinline)) static void wipe_stack(void) {
  volatile char bytes[8192];
  for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = 0;
}

int main(int argc, char** argv) {
  int status = 0;
  pid_t child = -1;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "list") == 0) lose_list();
    if (strcmp(argv[i], "one") == 0) lose_one();
    if (strncmp(argv[i], "many=", 5) == 0) {
      for (int n = atoi(argv[i] + 5); n > 0; n--) lose_one();
    }
    if (strcmp(argv[i], "other") == 0) lose_other();
    if (strcmp(argv[i], "keep") == 0) {
      kept = malloc(77);
      (void)!write(1, "keep\n", 5);
    }
    if (strcmp(argv[i], "fork") == 0) child = fork();
    if (strcmp(argv[i], "close") == 0) {
      close(1);
      close(2);
    }
    if (strncmp(argv[i], "exit=", 5) == 0) status = atoi(argv[i] + 5);
    wipe_stack();
  }
  if (child > 0) waitpid(child, NULL, 0);
  return status;
}
