// What allocates and frees after everything is over: destructors of threads, keys, statics and libraries, atexit; and
// threads that are cancelled, jump out of handlers, or are still running at exit. See threads_test.py.
//   thread_ends WAY [COUNT | LIBRARY]
// Prints what must not depend on who allocates. Blocks are checked: each holds a value that its owner knows.
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

namespace {

void churn(unsigned seed, int rounds) {
  void* blocks[64] = {};
  for (int i = 0; i < rounds; i++) {
    seed = seed * 1103515245 + 12345;
    const unsigned k = seed >> 16 & 63;
    if (blocks[k] != nullptr && *static_cast<void**>(blocks[k]) != blocks[k]) abort();
    free(blocks[k]);
    blocks[k] = malloc(16 + (seed >> 8) % 3000);
    *static_cast<void**>(blocks[k]) = blocks[k];
  }
  for (void* block : blocks) free(block);
}

int threads_now() {
  int n = -2;
  DIR* folder = opendir("/proc/self/task");
  while (readdir(folder) != nullptr) n++;
  closedir(folder);
  return n;
}

// Allocated when the thread starts, used and replaced by each destructor, released by the last.
struct Keeper {
  std::vector<std::string> texts{10, std::string(100, 'x')};
  ~Keeper() {
    for (const std::string& text : texts) {
      if (text != std::string(100, 'x')) abort();
    }
    std::vector<std::string> other(50, std::string(200, 'y'));
    churn(static_cast<unsigned>(other.size()), 50);
  }
};
thread_local Keeper keeper;

pthread_key_t keys[40];  // more than the 32 that glibc keeps in the thread itself
std::atomic<int> rounds_seen{0};

// Called again in each of the rounds that POSIX grants (PTHREAD_DESTRUCTOR_ITERATIONS, 4): sets its key again until the
// last one, each time with a new block.
void at_thread_end(void* value) {
  auto* block = static_cast<int*>(value);
  const int key = block[0], round = block[1];
  free(block);
  churn(static_cast<unsigned>(key), 30);
  rounds_seen++;
  if (round >= 3) return;
  block = static_cast<int*>(malloc(64 + 1000 * static_cast<size_t>(round)));
  block[0] = key;
  block[1] = round + 1;
  pthread_setspecific(keys[key], block);
}

void* thread_with_keys(void*) {
  keeper.texts[0] = std::string(100, 'x');
  for (int key = 0; key < 40; key++) {
    auto* block = static_cast<int*>(malloc(64));
    block[0] = key;
    block[1] = 0;
    pthread_setspecific(keys[key], block);
  }
  return nullptr;
}

int ends_of_threads(int count) {
  for (pthread_key_t& key : keys) pthread_key_create(&key, at_thread_end);
  for (int i = 0; i < count; i += 10) {
    pthread_t threads[10];
    for (pthread_t& thread : threads) pthread_create(&thread, nullptr, thread_with_keys, nullptr);
    for (const pthread_t thread : threads) pthread_join(thread, nullptr);
  }
  printf("destructor calls %d\n", rounds_seen.load());
  return 0;
}

int all_keys() {
  std::vector<pthread_key_t> all;
  pthread_key_t key;
  while (pthread_key_create(&key, free) == 0) all.push_back(key);
  for (const pthread_key_t one : all) {
    if (pthread_setspecific(one, malloc(100)) != 0) return 1;
  }
  printf("keys at least %d\n", all.size() >= 1023 ? 1023 : static_cast<int>(all.size()));
  return 0;
}

// Deferred cancellation: allocation is no cancellation point, in no mode. The thread is cancelled before it starts to
// allocate and must come to its end.
std::atomic<bool> cancelled{false};
void* uncancellable_allocations(void*) {
  while (!cancelled) sched_yield();
  churn(1, 20000);
  return reinterpret_cast<void*>(5);  // reached: nobody has looked for the request in between
}
void release(void* block) {
  free(block);
  churn(2, 20);
}
std::atomic<int> cleaned{0};
void* deferred(void*) {
  void* volatile block = malloc(100);
  pthread_cleanup_push(release, block);
  for (;;) {
    churn(3, 20);
    pthread_testcancel();
  }
  pthread_cleanup_pop(1);
}
// Asynchronous cancellation is allowed around code that holds nothing; a malloc may precede and follow it at once.
void* asynchronous(void*) {
  for (;;) {
    churn(4, 5);
    int old;
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
    for (volatile int i = 0; i < 500; i = i + 1) {
    }
    pthread_setcanceltype(PTHREAD_CANCEL_DEFERRED, &old);
  }
}
int cancellations(int count) {
  pthread_t thread;
  void* result = nullptr;
  pthread_create(&thread, nullptr, uncancellable_allocations, nullptr);
  pthread_cancel(thread);
  cancelled = true;
  pthread_join(thread, &result);
  printf("allocations passed over the request: %d\n", result == reinterpret_cast<void*>(5));
  int good = 0;
  for (int i = 0; i < count; i++) {
    pthread_t pair[2];
    pthread_create(&pair[0], nullptr, deferred, nullptr);
    pthread_create(&pair[1], nullptr, asynchronous, nullptr);
    churn(5, 1 + i % 50);
    for (const pthread_t one : pair) pthread_cancel(one);
    for (const pthread_t one : pair) {
      pthread_join(one, &result);
      good += result == PTHREAD_CANCELED;
    }
  }
  printf("cancelled %d, threads left %d\n", good, threads_now());
  return 0;
}

// A handler, on the ordinary and on an alternate stack, that allocates and never returns.
sigjmp_buf out_of_handler;
void* volatile lost;
void jump(int) {
  lost = malloc(500);
  churn(6, 20);
  siglongjmp(out_of_handler, 1);
}
int jumps(int count) {
  static char alternate[64 << 10];
  const stack_t stack = {alternate, 0, sizeof alternate};
  sigaltstack(&stack, nullptr);
  struct sigaction action = {};
  action.sa_handler = jump;
  sigaction(SIGSEGV, &action, nullptr);
  action.sa_flags = SA_ONSTACK;
  sigaction(SIGBUS, &action, nullptr);
  int jumped = 0;
  for (int i = 0; i < count; i++) {
    if (sigsetjmp(out_of_handler, 1) == 0) {
      churn(7, 10);
      if (i % 2 == 0) {
        *reinterpret_cast<volatile int*>(8) = 1;
      } else {
        raise(SIGBUS);
      }
    } else {
      jumped++;
      free(lost);
      churn(8, 10);
    }
  }
  printf("jumped %d\n", jumped);
  return 0;
}

std::atomic<bool> stop{false};
void* churn_for_ever(void* argument) {
  while (!stop) churn(static_cast<unsigned>(reinterpret_cast<uintptr_t>(argument)), 100);
  return nullptr;
}

struct AtTheEnd {
  std::string* text = new std::string(5000, 'z');
  ~AtTheEnd() {
    churn(9, 500);
    printf("static destructor: %zu\n", text->size());
    delete text;
  }
};

int exit_with_threads() {
  static AtTheEnd at_the_end;
  atexit([] {
    churn(10, 500);
    printf("at exit\n");
  });
  for (uintptr_t i = 0; i < 4; i++) {
    pthread_t thread;
    pthread_create(&thread, nullptr, churn_for_ever, reinterpret_cast<void*>(i));
  }
  churn(11, 2000);
  exit(8);
}

pthread_t main_thread;
void* outlives_main(void*) {
  pthread_join(main_thread, nullptr);
  churn(12, 2000);
  printf("threads after main has left: %d\n", threads_now());
  return nullptr;  // the last thread: the process ends with status 0
}
int main_leaves() {
  main_thread = pthread_self();
  keeper.texts[1] = std::string(100, 'x');
  pthread_t thread;
  pthread_create(&thread, nullptr, outlives_main, nullptr);
  pthread_detach(thread);
  pthread_exit(nullptr);
}

int count_threads() {
  printf("threads at main %d\n", threads_now());
  churn(13, 5000);
  void* volatile block = malloc(200 << 20);
  free(block);
  printf("after allocating %d\n", threads_now());
  std::vector<pthread_t> threads(50);
  for (pthread_t& thread : threads) pthread_create(&thread, nullptr, churn_for_ever, nullptr);
  printf("with 50 more %d\n", threads_now());
  stop = true;
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
  usleep(50000);  // a joined thread's entry in /proc may outlive the join a little
  printf("after they ended %d\n", threads_now());
  return 0;
}

// Opens and closes `path` (libtidemark.so) while it allocates, as a program with plugins might.
int open_and_close(const char* path) {
  pthread_t thread;
  pthread_create(&thread, nullptr, churn_for_ever, nullptr);
  int good = 0;
  for (unsigned i = 0; i < 50; i++) {
    void* library = dlopen(path, i % 2 == 0 ? RTLD_NOW | RTLD_GLOBAL : RTLD_LAZY | RTLD_LOCAL);
    if (library == nullptr) {
      printf("%s\n", dlerror());
      return 1;
    }
    auto* recording = reinterpret_cast<int (*)()>(dlsym(library, "tidemark_is_recording"));
    auto* take = reinterpret_cast<void* (*)(size_t)>(dlsym(library, "malloc"));
    auto* release = reinterpret_cast<void (*)(void*)>(dlsym(library, "free"));
    void* block = take(1000);
    good += recording != nullptr && recording() == 0 && block != nullptr;
    if (i % 3 == 0) {
      release(block);
    } else {
      free(block);
    }
    release(malloc(100));
    dlclose(library);
    churn(i, 200);
  }
  stop = true;
  pthread_join(thread, nullptr);
  printf("opened %d\n", good);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string way = argc > 1 ? argv[1] : "";
  const int count = argc > 2 ? atoi(argv[2]) : 0;
  if (way == "ends") return ends_of_threads(count);
  if (way == "keys") return all_keys();
  if (way == "cancel") return cancellations(count);
  if (way == "jump") return jumps(count);
  if (way == "exit") return exit_with_threads();
  if (way == "main_leaves") return main_leaves();
  if (way == "count") return count_threads();
  if (way == "open" && argc > 2) return open_and_close(argv[2]);
  return 2;
}
