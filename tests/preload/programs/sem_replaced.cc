// A program that replaces some of the global allocation operators, as REPLACE_... says, and uses all of them; see
// semantics_rows_test.py. A replaced pair shifts and tags its blocks: one that ends at another's delete is a stranger.
// LIBRARY_ONLY: the operators alone, to be a library.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <new>
#include <sstream>
#include <string>
#include <vector>

extern "C" {
__attribute__((weak)) int replaced_strangers = 0;
__attribute__((weak)) int replaced_live = 0;
}

namespace {

constexpr uint64_t kTag = 0x7265706c61636564;

[[maybe_unused]] void* Get(size_t size, size_t alignment) {
  const size_t shift = alignment < 32 ? 32 : alignment;
  char* start = static_cast<char*>(std::aligned_alloc(shift, (size + 2 * shift) / shift * shift));
  if (start == nullptr) return nullptr;
  char* block = start + shift;
  reinterpret_cast<uint64_t*>(block)[-1] = kTag;
  reinterpret_cast<uint64_t*>(block)[-2] = shift;
  replaced_live++;
  return block;
}
[[maybe_unused]] void Give(void* block) {
  if (block == nullptr) return;
  auto* words = static_cast<uint64_t*>(block);
  if (words[-1] != kTag) {
    replaced_strangers++;
    std::fprintf(stderr, "a stranger came to delete\n");
    std::exit(4);
  }
  words[-1] = 0;
  replaced_live--;
  std::free(static_cast<char*>(block) - words[-2]);
}
[[maybe_unused]] void* GetOrThrow(size_t size, size_t alignment) {
  void* block = Get(size, alignment);
  if (block == nullptr) throw std::bad_alloc();
  return block;
}

}  // namespace

// The array, sized and nothrow forms of the standard library call the plain ones: replacing these two is enough.
#if defined(REPLACE_PLAIN) || defined(REPLACE_ALL)
void* operator new(size_t size) { return GetOrThrow(size, 16); }
void operator delete(void* block) noexcept { Give(block); }
#endif
// Blocks come from the library's operator new, which is malloc: they end at free.
#if defined(REPLACE_SIZED)
void operator delete(void* block, size_t) noexcept { std::free(block); }
void operator delete[](void* block, size_t) noexcept { std::free(block); }
#endif
#if defined(REPLACE_DELETE_ONLY)
void operator delete(void* block) noexcept { std::free(block); }
#endif
#if defined(REPLACE_ALIGNED) || defined(REPLACE_ALL)
void* operator new(size_t size, std::align_val_t to) { return GetOrThrow(size, static_cast<size_t>(to)); }
void operator delete(void* block, std::align_val_t) noexcept { Give(block); }
#endif
#if defined(REPLACE_NOTHROW)
void* operator new(size_t size, const std::nothrow_t&) noexcept { return std::malloc(size); }
#endif
#if defined(REPLACE_ARRAY) || defined(REPLACE_ALL)
void* operator new[](size_t size) { return GetOrThrow(size, 16); }
void operator delete[](void* block) noexcept { Give(block); }
#endif
#if defined(REPLACE_ALL)
void operator delete(void* block, size_t) noexcept { Give(block); }
void operator delete[](void* block, size_t) noexcept { Give(block); }
void* operator new(size_t size, const std::nothrow_t&) noexcept { return Get(size, 16); }
void* operator new[](size_t size, const std::nothrow_t&) noexcept { return Get(size, 16); }
void* operator new[](size_t size, std::align_val_t to) { return GetOrThrow(size, static_cast<size_t>(to)); }
void operator delete[](void* block, std::align_val_t) noexcept { Give(block); }
void operator delete(void* block, size_t, std::align_val_t) noexcept { Give(block); }
void operator delete[](void* block, size_t, std::align_val_t) noexcept { Give(block); }
#endif

#if !defined(LIBRARY_ONLY)
namespace {

struct alignas(512) Wide {
  char bytes[700];
};
struct WithDestructor {
  ~WithDestructor() { sum += bytes[0]; }
  char bytes[40] = {1};
  static inline int sum = 0;
};

void UseAll() {
  for (size_t i = 1; i < 200; i++) {
    std::unique_ptr<char> one(new char);
    std::unique_ptr<char[]> many(new char[i * 37]);
    std::unique_ptr<WithDestructor[]> counted(new WithDestructor[i]);
    std::unique_ptr<Wide> wide(new Wide);
    std::unique_ptr<Wide[]> wides(new Wide[3]);
    std::unique_ptr<char> quiet(new (std::nothrow) char);
    std::unique_ptr<char[]> quiet_many(new (std::nothrow) char[i]);
    std::unique_ptr<Wide> quiet_wide(new (std::nothrow) Wide);
    if (reinterpret_cast<uintptr_t>(wide.get()) % 512 != 0 || reinterpret_cast<uintptr_t>(wides.get()) % 512 != 0 ||
        reinterpret_cast<uintptr_t>(many.get()) % 16 != 0) {
      std::printf("not aligned\n");
    }
    // Sized and unsized deletes called by name, as containers' allocators do.
    ::operator delete(::operator new(i), i);
    ::operator delete(::operator new(i));
    ::operator delete[](::operator new[](i), i);
    ::operator delete (::operator new (i, std::align_val_t{64}), i, std::align_val_t{64});
    ::operator delete[](::operator new[](i, std::align_val_t{64}), std::align_val_t{64});
  }
  // Code of libstdc++.so: it binds to the same operators.
  std::vector<std::string> strings;
  for (int i = 0; i < 3000; i++) strings.push_back("a string that does not fit in place " + std::to_string(i));
  std::ostringstream stream;
  for (const auto& s : strings) stream << s;
  const auto shared = std::make_shared<std::string>(stream.str());
  std::printf("length %zu\n", shared->size());
}

}  // namespace

int main() {
  UseAll();
  std::printf("strangers %d live %d\n", replaced_strangers, replaced_live);
  return 0;
}
#endif
