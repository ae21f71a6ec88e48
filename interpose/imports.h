// What a loaded library calls by a name: somebody else of our choice.
//
// Its slot for the function (in the table that the loader has bound and made read-only) gets another address. Nobody
// but that library notices.
//
// Context: the constructor, single-threaded. Where there is no such slot, or it cannot be written, nothing is changed.
#pragma once

#include <link.h>

#include "interpose/libc_symbols.h"
#include "profiler/os.h"

namespace tidemark {

inline void ReplaceImport(const link_map* module, const char* name, uintptr_t address) {
  const libc_symbols::SymbolTables tables(module);
  if (!tables.complete()) return;
  const ElfW(Rela)* entry = nullptr;
  size_t bytes = 0;
  for (const ElfW(Dyn)* row = module->l_ld; row->d_tag != DT_NULL; row++) {
    if (row->d_tag == DT_JMPREL) entry = reinterpret_cast<const ElfW(Rela)*>(row->d_un.d_ptr);
    if (row->d_tag == DT_PLTRELSZ) bytes = row->d_un.d_val;
  }
  if (entry == nullptr) return;
  for (size_t i = 0; i < bytes / sizeof(*entry); i++, entry++) {
    const ElfW(Sym)& symbol = tables.symbols[ELF64_R_SYM(entry->r_info)];
    if (__builtin_strcmp(tables.names + symbol.st_name, name) != 0) continue;
    constexpr uintptr_t kPage = 4096;
    auto* slot = reinterpret_cast<uintptr_t*>(module->l_addr + entry->r_offset);
    void* page = reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(slot) & ~(kPage - 1));
    if (os::IsError(os::Protect(page, kPage, PROT_READ | PROT_WRITE))) return;
    *slot = address;
    os::Protect(page, kPage, PROT_READ);
    return;
  }
}

}  // namespace tidemark
