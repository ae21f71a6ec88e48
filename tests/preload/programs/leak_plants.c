/* Blocks of known sizes whose fate is known, and all ways to end a program. The size is the name of a block.
 *
 *   leak_plants ENDING [WITH...]     see main; compiled with -O0, so that what is in a variable is in memory
 *
 * Must not: print with stdio (its buffers are blocks, too), or keep a planted pointer where the table of the test does
 * not say. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#define OUT_OF_LINE __attribute__((noinline, noclone))

static void **global, *inside, *behind, *freed_by_destructor;
static char **mapped, **shared, **sealed;
static __thread void *thread_local_holder;
extern char **environ;

static void **block(size_t size) {
  void **made = malloc(size);
  memset(made, 0, size);
  return made;
}

OUT_OF_LINE static void plant_lost(void) {
  void **head = block(1001);
  head[0] = block(1002);
  *(void **)head[0] = block(1003);
  void **left = block(1011), **right = block(1011);
  left[3] = right;
  right[3] = left;
  void **gone = block(1701);
  gone[5] = block(1702);
  free(gone);
  malloc(0);
  aligned_alloc(64, 2201);
  aligned_alloc(16 << 20, 2301);
  calloc(3, 801);
  void *grown = block(2501);
  realloc(grown, 2502);
}

OUT_OF_LINE static void plant_held(void) {
  global = block(1101);
  global[0] = block(1102);
  inside = (char *)block(1201) + 64;
  behind = (char *)block(1216) + 1216;
  thread_local_holder = block(1301);
  mapped = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mapped[600] = (char *)block(1401);
  shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  shared[7] = (char *)block(1402);
  sealed = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  sealed[8] = (char *)block(1403);
  mprotect(sealed, 4096, PROT_READ);
  freed_by_destructor = block(1901);
}

__attribute__((destructor)) static void at_the_end(void) {
  free(freed_by_destructor);
  freed_by_destructor = NULL;
}

OUT_OF_LINE static void leave_words_on_the_stack(int depth) {
  void *volatile words[64];
  for (int i = 0; i < 64; i++) words[i] = block(1601);
  for (int i = 1; i < 64; i++) free(words[i]);
  if (depth > 0) leave_words_on_the_stack(depth - 1);
}

static volatile int ready;
static void *hold_on_stack(void *unused) {
  (void)unused;
  void *volatile mine = block(2001);
  __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
  for (;;) pause();
  return mine;
}
static void *hold_while_running(void *unused) {
  (void)unused;
  void *volatile mine = block(2002);
  __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
  for (;;) (void)(volatile void *)mine;
  return NULL;
}
static pthread_key_t key;
static void *hold_by_key(void *unused) {
  (void)unused;
  pthread_setspecific(key, block(2003));
  __atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
  for (;;) pause();
  return NULL;
}
static void start_threads(void) {
  pthread_t thread;
  pthread_key_create(&key, NULL);
  pthread_create(&thread, NULL, hold_on_stack, NULL);
  pthread_create(&thread, NULL, hold_while_running, NULL);
  pthread_create(&thread, NULL, hold_by_key, NULL);
  while (ready != 3) usleep(1000);
}

/* A module's variables go with it. */
static void hold_in_module(const char *path) {
  void *module = dlopen(path, RTLD_NOW);
  void (*hold)(void *) = (void (*)(void *))dlsym(module, "hold");
  hold(block(1907));
  dlclose(module);
}

/* A stack that is a block itself; the program ends on it. */
static ucontext_t coroutine, suspended;
static void end_on_coroutine(void) {
  void *volatile mine = block(1507);
  (void)mine;
  exit(7);
}
static void start_coroutine(void) {
  getcontext(&coroutine);
  coroutine.uc_stack.ss_sp = block(70000);
  coroutine.uc_stack.ss_size = 70000;
  makecontext(&coroutine, end_on_coroutine, 0);
  swapcontext(&suspended, &coroutine);
}

/* Mappings that must not be touched, or not take long. */
static void lay_traps(void) {
  char path[] = "/tmp/tidemark-leak-trap.XXXXXX";
  int fd = mkstemp(path);
  unlink(path);
  ftruncate(fd, 8192);
  char *file = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
  char *common = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  file[0] = common[0] = 1;
  ftruncate(fd, 0); /* SIGBUS from here on */
  close(fd);
  mmap(NULL, (size_t)64 << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (int i = 0; i < 3000; i++) { /* that the kernel cannot merge */
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(page, 4096, PROT_NONE);
  }
}

static void forbid_memory(void) {
  const struct rlimit none = {4096, 4096};
  setrlimit(RLIMIT_AS, &none);
}

static void fork_child(const char *how) {
  if (strcmp(how, "vfork") == 0) {
    pid_t child = vfork();
    if (child == 0) _exit(0);
    waitpid(child, NULL, 0);
    return;
  }
  pid_t child = fork();
  if (child == 0) {
    block(3001);
    if (strcmp(how, "daemon") == 0 && fork() != 0) _exit(0);
    exit(0);
  }
  waitpid(child, NULL, 0);
}

int main(int count, char **arguments) {
  const char *ending = count > 1 ? arguments[1] : "return";
  void *volatile on_stack = block(1501);
  (void)on_stack;
  plant_lost();
  plant_held();
  leave_words_on_the_stack(3);
  for (int i = 2; i < count; i++) {
    const char *with = arguments[i];
    if (strcmp(with, "threads") == 0) start_threads();
    if (strcmp(with, "traps") == 0) lay_traps();
    if (strcmp(with, "closed") == 0) close(0), close(1), close(2);
    if (strcmp(with, "no-memory") == 0) forbid_memory();
    if (strcmp(with, "coroutine") == 0) start_coroutine();
    if (with[0] == '/') hold_in_module(with);
    if (strcmp(with, "fork") == 0 || strcmp(with, "vfork") == 0 || strcmp(with, "daemon") == 0) fork_child(with);
  }
  if (strcmp(ending, "exit") == 0) exit(7);
  if (strcmp(ending, "_exit") == 0) _exit(7);
  if (strcmp(ending, "_Exit") == 0) _Exit(7);
  if (strcmp(ending, "quick_exit") == 0) quick_exit(7);
  if (strcmp(ending, "abort") == 0) abort();
  if (strcmp(ending, "TERM") == 0) raise(SIGTERM);
  char *next[] = {"sh", "-c", "exit 7", NULL};
  execl("/nowhere/at/all", "x", NULL); /* fails, and is no end */
  if (strcmp(ending, "execl") == 0) execl("/bin/sh", "sh", "-c", "exit 7", NULL);
  if (strcmp(ending, "execle") == 0) execle("/bin/sh", "sh", "-c", "exit 7", NULL, environ);
  if (strcmp(ending, "execlp") == 0) execlp("sh", "sh", "-c", "exit 7", NULL);
  if (strcmp(ending, "execv") == 0) execv("/bin/sh", next);
  if (strcmp(ending, "execvp") == 0) execvp("sh", next);
  if (strcmp(ending, "execvpe") == 0) execvpe("sh", next, environ);
  if (strcmp(ending, "execve") == 0) execve("/bin/sh", next, environ);
  if (strcmp(ending, "fexecve") == 0) fexecve(open("/bin/sh", O_RDONLY | O_CLOEXEC), next, environ);
  if (strcmp(ending, "execveat") == 0) execveat(AT_FDCWD, "/bin/sh", next, environ, 0);
  return 7;
}
