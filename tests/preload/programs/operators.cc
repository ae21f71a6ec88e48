// operator new and its handlers, and a program that replaces some of the operators; see semantics_test.py.
#include <malloc.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <vector>

#ifdef REPLACE_SOME
// Blocks of this one are shifted: a free() that bypasses the delete below would be noticed.
static int live = 0;
void* operator new(size_t size) {
  char* block = static_cast<char*>(std::malloc(size + 32));
  if (block == nullptr) throw std::bad_alloc();
  live++;
  return block + 32;
}
void operator delete(void* block) noexcept {
  if (block == nullptr) return;
  live--;
  std::free(static_cast<char*>(block) - 32);
}
#endif

static int handler_calls = 0;
struct FromHandler {};

int main() {
  volatile size_t huge = PTRDIFF_MAX - 100;
  try {
    delete[] new char[huge];
    std::puts("no bad_alloc");
  } catch (const std::bad_alloc& e) {
    std::printf("caught %s\n", e.what());
  }
  std::printf("nothrow %d\n", new (std::nothrow) char[huge] == nullptr);
#ifndef REPLACE_SOME  // its operator new calls no handler
  std::set_new_handler([] {
    if (++handler_calls == 3) std::set_new_handler(nullptr);
  });
  try {
    delete[] new char[huge];
  } catch (const std::bad_alloc&) {
    std::printf("handler called %d times\n", handler_calls);
  }
  std::set_new_handler([] { throw FromHandler(); });
  for (int i = 0; i < 100; i++) {
    try {
      delete[] new char[huge];
    } catch (const FromHandler&) {
      handler_calls++;
    }
  }
  std::printf("thrown by the handler, %d calls\n", handler_calls);
  std::set_new_handler(nullptr);
#endif
  struct alignas(256) Aligned {
    char bytes[1000];
  };
  int aligned = 0;
  for (int i = 0; i < 100; i++) {
    auto one = std::make_unique<Aligned>();
    auto many = std::make_unique<Aligned[]>(3);
    aligned += reinterpret_cast<uintptr_t>(one.get()) % 256 == 0 && reinterpret_cast<uintptr_t>(many.get()) % 256 == 0;
  }
  std::printf("aligned new %d\n", aligned);
  std::vector<std::string> strings;
  for (int i = 0; i < 20000; i++) strings.push_back(std::string(static_cast<size_t>(i % 100), 'x'));
  size_t total = 0;
  for (const auto& s : strings) total += s.size();
  strings.clear();
  strings.shrink_to_fit();
  std::printf("total %zu\n", total);
#ifdef REPLACE_SOME
  std::printf("live %d\n", live);
#endif
}
