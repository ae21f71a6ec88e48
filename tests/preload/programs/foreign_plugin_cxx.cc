// A C++ library that trades blocks with its user by operator new and delete; see foreign_churn.c.
#include <malloc.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <string>

extern "C" {

void* plugin_take(size_t size) { return ::operator new(size); }  // libstdc++'s is malloc
void plugin_give(void* block) { ::operator delete(block); }
void* plugin_resize(void* block, size_t size) {
  void* moved = ::operator new(size);
  std::memcpy(moved, block, malloc_usable_size(block) < size ? malloc_usable_size(block) : size);
  ::operator delete(block);
  return moved;
}
size_t plugin_usable(void* block) { return malloc_usable_size(block); }

int plugin_inside(int count) {
  std::map<int, std::string> strings;
  for (int i = 0; i < count; i++) strings[i] = std::string(static_cast<size_t>(i % 90), 'x');
  auto copy = std::make_unique<std::map<int, std::string>>(strings);
  try {
    throw std::string("an exception is allocated, too");
  } catch (const std::string&) {
    return static_cast<int>(copy->size());
  }
}

}  // extern "C"
