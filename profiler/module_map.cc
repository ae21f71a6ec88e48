// Lock-free module lookup and change detection; see module_map.h.
#include "profiler/module_map.h"

#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>

#include "profiler/os.h"

// Not in musl, whose loader ends a process that names them: there nothing of this file is called (lifecycle.cc).
#pragma weak _dl_find_object
#pragma weak dlvsym

namespace tidemark {
namespace {

// Points at ld.so's counter of additions once found; until then at a constant.
const uint64_t kNoCounter = 0;
const volatile uint64_t* loader_adds = &kNoCounter;
uint64_t adds_before = 0;

char executable_path[4096] = "";
struct ProgramHeaders {
  const ElfW(Phdr) * at;
  size_t count;
};
ProgramHeaders executable_headers = {nullptr, 0};

int TakeAdds(dl_phdr_info* info, size_t, void* adds) {
  *static_cast<uint64_t*>(adds) = info->dlpi_adds;
  return 1;
}

// The program headers of a module: the kernel told where the executable's are; a shared object's ELF header is mapped
// at its load address.
ProgramHeaders HeadersOf(const ModuleView& module) {
  if (module.loader_name != nullptr && module.loader_name[0] == 0) return executable_headers;
  const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(module.load_bias);
  if (module.load_bias % 4096 != 0 || !os::IsReadable(module.load_bias) ||
      __builtin_memcmp(header->e_ident, ELFMAG, SELFMAG) != 0 || header->e_phentsize != sizeof(ElfW(Phdr)) ||
      header->e_phoff > 4096 || header->e_phnum > (4096 - header->e_phoff) / sizeof(ElfW(Phdr))) {
    return {nullptr, 0};
  }
  return {reinterpret_cast<const ElfW(Phdr)*>(module.load_bias + header->e_phoff), header->e_phnum};
}

// The loader answers with one segment when a module's segments leave holes between them; widen to all of them.
void WidenToAllSegments(ModuleView* module) {
  const ProgramHeaders headers = HeadersOf(*module);
  for (size_t i = 0; i < headers.count; i++) {
    if (headers.at[i].p_type != PT_LOAD) continue;
    const uintptr_t begin = (module->load_bias + headers.at[i].p_vaddr) & ~uintptr_t{4095};
    const uintptr_t end = (module->load_bias + headers.at[i].p_vaddr + headers.at[i].p_memsz + 4095) & ~uintptr_t{4095};
    if (begin < module->start) module->start = begin;
    if (end > module->end) module->end = end;
  }
}

}  // namespace

void LoaderCounter::ObserveBefore() { dl_iterate_phdr(TakeAdds, &adds_before); }

// The counter is a private member of ld.so's _rtld_global. It is recognised by three things at once: its value, and
// the two recursive mutexes (kind 1) that every glibc since 2.35 keeps right before it. A value that also moved with
// the dlopen in between leaves no room for chance.
bool LoaderCounter::ObserveAfter() {
  uint64_t adds_after = 0;
  dl_iterate_phdr(TakeAdds, &adds_after);
  if (adds_after == adds_before) return false;
  const auto* global = static_cast<const char*>(dlvsym(RTLD_DEFAULT, "_rtld_global", "GLIBC_PRIVATE"));
  if (global == nullptr) return false;
  ModuleView loader;
  if (!FindModule(reinterpret_cast<uintptr_t>(global), &loader)) return false;
  constexpr size_t kScanBytes = 8192, kMutexBytes = 40, kKindOffset = 16;
  const uint64_t* found = nullptr;
  for (size_t offset = 2 * kMutexBytes; offset < kScanBytes; offset += 8) {
    const char* at = global + offset;
    if (reinterpret_cast<uintptr_t>(at) + 8 > loader.end) break;
    if (*reinterpret_cast<const uint64_t*>(at) != adds_after) continue;
    bool mutexes = true;
    for (size_t i = 1; i <= 2; i++) {
      mutexes &= *reinterpret_cast<const uint32_t*>(at - i * kMutexBytes + kKindOffset) == 1;
    }
    if (!mutexes) continue;
    if (found != nullptr) return false;  // ambiguous
    found = reinterpret_cast<const uint64_t*>(at);
  }
  if (found == nullptr) return false;
  loader_adds = found;
  return true;
}

uint64_t LoaderGeneration() { return *loader_adds; }

bool FindModule(uintptr_t pc, ModuleView* module) {
  dl_find_object found;
  if (_dl_find_object(reinterpret_cast<void*>(pc), &found) != 0) return false;
  module->start = reinterpret_cast<uintptr_t>(found.dlfo_map_start);
  module->end = reinterpret_cast<uintptr_t>(found.dlfo_map_end);
  module->load_bias = found.dlfo_link_map->l_addr;
  module->eh_frame_hdr = static_cast<const uint8_t*>(found.dlfo_eh_frame);
  module->loader_name = found.dlfo_link_map->l_name;
  WidenToAllSegments(module);
  return true;
}

bool IsExecutable(const ModuleView& module, uintptr_t pc) {
  const ProgramHeaders headers = HeadersOf(module);
  for (size_t i = 0; i < headers.count; i++) {
    const ElfW(Phdr)& header = headers.at[i];
    if (header.p_type == PT_LOAD && (header.p_flags & PF_X) != 0 &&
        pc - module.load_bias - header.p_vaddr < header.p_memsz) {
      return true;
    }
  }
  return headers.count == 0;  // unknown: believe it
}

size_t ReadBuildId(const ModuleView& module, uint8_t* out, size_t capacity) {
  const ProgramHeaders headers = HeadersOf(module);
  for (size_t i = 0; i < headers.count; i++) {
    if (headers.at[i].p_type != PT_NOTE) continue;
    const uintptr_t begin = module.load_bias + headers.at[i].p_vaddr;
    if (begin < module.start || headers.at[i].p_memsz > module.end - module.start ||
        begin + headers.at[i].p_memsz > module.end || !os::IsReadable(begin)) {
      continue;
    }
    size_t offset = 0;
    while (offset + sizeof(ElfW(Nhdr)) <= headers.at[i].p_memsz) {
      const auto* note = reinterpret_cast<const ElfW(Nhdr)*>(begin + offset);
      const size_t name_at = offset + sizeof(*note);
      const size_t value_at = name_at + ((size_t{note->n_namesz} + 3) & ~size_t{3});
      const size_t next = value_at + ((size_t{note->n_descsz} + 3) & ~size_t{3});
      if (next > headers.at[i].p_memsz) break;
      if (note->n_type == NT_GNU_BUILD_ID && note->n_namesz == 4 &&
          __builtin_memcmp(reinterpret_cast<const char*>(begin + name_at), "GNU", 4) == 0) {
        const size_t bytes = note->n_descsz < capacity ? note->n_descsz : capacity;
        __builtin_memcpy(out, reinterpret_cast<const void*>(begin + value_at), bytes);
        return bytes;
      }
      offset = next;
    }
  }
  return 0;
}

void RememberExecutable(uintptr_t program_headers, size_t count) {
  executable_headers = {reinterpret_cast<const ElfW(Phdr)*>(program_headers), program_headers == 0 ? 0 : count};
  const long n = os::Syscall(SYS_readlink, reinterpret_cast<long>("/proc/self/exe"),
                             reinterpret_cast<long>(executable_path), sizeof(executable_path) - 1);
  executable_path[os::IsError(n) ? 0 : n] = 0;
}

const char* ModulePath(const ModuleView& module) {
  if (module.loader_name == nullptr || module.loader_name[0] == 0) return executable_path;
  if (__builtin_strcmp(module.loader_name, "linux-vdso.so.1") == 0) return "[vdso]";
  return module.loader_name;
}

}  // namespace tidemark
