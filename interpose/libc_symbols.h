// What a library finds that looks for malloc in libc itself: ours as well.
//
// A plugin loaded with RTLD_DEEPBIND searches itself and its own dependencies first, so libc stands before every
// preload there. Its malloc would be glibc's, which our free forwards; but its free would be glibc's, too, and that one
// ends the process when it gets a block of ours (a plugin in C++ need only delete a string that its host made). Hooking
// dlopen to drop the flag would change whose RUNPATH counts, and patching code would need writable code. So the values
// of malloc, free and the others are changed in libc's dynamic symbol table, in this process's copy of its pages: from
// then on every search that ends at libc ends here, and there is one allocator. What was bound before keeps what it
// has; __libc_malloc and its family stay glibc's, for those who mean it.
//
// Context: the constructor, single-threaded, once it is certain that our heap serves. Where the table cannot be found
// or the page not be written, nothing is changed. Must not: be used where another malloc than ours serves.
#pragma once

#include <dlfcn.h>
#include <link.h>

#include <cstddef>
#include <cstdint>

#include "profiler/os.h"

namespace tidemark::libc_symbols {

struct Replacement {
  const char* name;
  uintptr_t address;
};

// The tables of one loaded module that a search by name goes through.
struct SymbolTables {
  ElfW(Sym) * symbols = nullptr;
  const char* names = nullptr;
  const uint32_t* hash = nullptr;  // DT_GNU_HASH

  explicit SymbolTables(const link_map* module) {
    // The loader has added the module's address to these already, except where it cannot write to the section.
    const auto at = [module](ElfW(Addr) value) { return value < module->l_addr ? value + module->l_addr : value; };
    for (const ElfW(Dyn)* entry = module->l_ld; entry->d_tag != DT_NULL; entry++) {
      if (entry->d_tag == DT_SYMTAB) symbols = reinterpret_cast<ElfW(Sym)*>(at(entry->d_un.d_ptr));
      if (entry->d_tag == DT_STRTAB) names = reinterpret_cast<const char*>(at(entry->d_un.d_ptr));
      if (entry->d_tag == DT_GNU_HASH) hash = reinterpret_cast<const uint32_t*>(at(entry->d_un.d_ptr));
    }
  }
  bool complete() const { return symbols != nullptr && names != nullptr && hash != nullptr; }

  // The function of that name that the module defines, or nullptr.
  ElfW(Sym) * Find(const char* name) const {
    uint32_t wanted = 5381;
    for (const char* c = name; *c != 0; c++) wanted = wanted * 33 + static_cast<unsigned char>(*c);
    const uint32_t buckets = hash[0], first = hash[1], bloom_words = hash[2];
    const uint32_t* bucket = hash + 4 + bloom_words * (sizeof(ElfW(Addr)) / sizeof(uint32_t));
    const uint32_t* chain = bucket + buckets;
    for (uint32_t i = bucket[wanted % buckets]; i >= first; i++) {
      const uint32_t found = chain[i - first];
      ElfW(Sym)* symbol = symbols + i;
      if ((found | 1) == (wanted | 1) && __builtin_strcmp(names + symbol->st_name, name) == 0) {
        const bool is_function = (symbol->st_info & 0xf) == STT_FUNC && symbol->st_shndx != SHN_UNDEF;
        return is_function ? symbol : nullptr;
      }
      if ((found & 1) != 0) break;  // the last of this bucket
    }
    return nullptr;
  }
};

template <size_t count>
void Replace(const Replacement (&replacements)[count]) {
  void* libc = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);
  if (libc == nullptr) return;
  const auto* module = static_cast<const link_map*>(libc);
  const SymbolTables tables(module);
  if (!tables.complete()) return;
  ElfW(Sym) * found[count];
  uintptr_t low = ~uintptr_t{0}, high = 0;
  for (size_t i = 0; i < count; i++) {
    found[i] = tables.Find(replacements[i].name);
    if (found[i] == nullptr) continue;
    const uintptr_t value = reinterpret_cast<uintptr_t>(&found[i]->st_value);
    if (value < low) low = value;
    if (value > high) high = value;
  }
  if (high == 0) return;
  constexpr uintptr_t kPage = 4096;
  void* start = reinterpret_cast<void*>(low & ~(kPage - 1));
  const size_t bytes = (high | (kPage - 1)) + 1 - (low & ~(kPage - 1));
  if (os::IsError(os::Protect(start, bytes, PROT_READ | PROT_WRITE))) return;
  for (size_t i = 0; i < count; i++) {
    if (found[i] != nullptr) found[i]->st_value = replacements[i].address - module->l_addr;
  }
  os::Protect(start, bytes, PROT_READ);
}

}  // namespace tidemark::libc_symbols
