// Allocates through templates, inlined calls, recursion, two named threads and a file of another name, with known
// totals: what exports are held to. Prints what it allocated by itself. Must not: use names that anything else has.
#include <pthread.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#define KEEP __attribute__((noinline, noclone))

static void* volatile g_kept[4096];
static int g_kept_count;
static volatile size_t g_sum;

template <typename Item, int kCount>
struct Shelf {
  static inline __attribute__((always_inline)) void* PutInline(size_t extra) {
    return malloc(sizeof(Item) * kCount + extra);
  }
  KEEP static void* Fill(size_t extra) {
    void* block = PutInline(extra);
    memset(block, 1, 1);
    return block;
  }
};
struct Book {
  char pages[120];
};

KEEP void Keep(void* block) { g_kept[__atomic_fetch_add(&g_kept_count, 1, __ATOMIC_RELAXED)] = block; }

KEEP void Recurse(int depth) {
  if (depth == 0) {
    Keep(malloc(777));
  } else {
    Recurse(depth - 1);
  }
  g_sum += static_cast<size_t>(depth);
}

KEEP void Churn(int rounds) {
  for (int i = 0; i < rounds; ++i) {
    void* block = Shelf<Book, 4>::Fill(static_cast<size_t>(i % 3));
    g_sum += static_cast<unsigned char*>(block)[0];
    free(block);
  }
}

KEEP void Grow(int steps) {
  void* block = nullptr;
  for (int i = 1; i <= steps; ++i) block = realloc(block, static_cast<size_t>(i) * 1000);
  free(block);
}

static void* Work(void* name) {
  pthread_setname_np(pthread_self(), static_cast<const char*>(name));
  for (int i = 0; i < 500; ++i) Keep(Shelf<int, 64>::Fill(0));
  Churn(500);
  return nullptr;
}

int main(int argc, char** argv) {
  const int factor = argc > 1 ? atoi(argv[1]) : 1;
  pthread_t threads[2];
  pthread_create(&threads[0], nullptr, Work, const_cast<char*>("worker-a"));
  pthread_create(&threads[1], nullptr, Work, const_cast<char*>("worker-b"));
  for (pthread_t thread : threads) pthread_join(thread, nullptr);
  for (int i = 0; i < factor; ++i) {
    Churn(2000);
    Grow(300);
    for (int depth = 0; depth < 10; ++depth) Recurse(depth);
  }
  void* big[16];
  for (void*& block : big) block = Shelf<Book, 1000>::Fill(0);
  for (void* block : big) free(block);
  std::printf("%zu\n", g_sum);
  return 0;
}
