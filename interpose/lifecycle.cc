// Start-up and exit of the library; see lifecycle.h.
#include "interpose/lifecycle.h"

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <unistd.h>

#include <atomic>

#include "interpose/exit_hooks.h"
#include "interpose/guard_faults.h"
#include "interpose/heap.h"
#include "interpose/hot_state.h"
#include "interpose/sample_region.h"
#include "interpose/sandbox_hooks.h"
#include "profiler/leak_request.h"
#include "profiler/live_table.h"
#include "profiler/module_map.h"
#include "profiler/options.h"
#include "profiler/os.h"
#include "profiler/own_memory.h"
#include "profiler/recorder.h"

// glibc's own allocator, under the names that it exports for libraries like this one.
extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);
}

namespace tidemark {

HotState hot = {};
__thread uint64_t countdown __attribute__((tls_model("initial-exec"))) = 0;

namespace lifecycle {

Phase phase = Phase::kEarly;

namespace {

// Before Start() nobody has resolved a usable_size; glibc's chunk header tells (size in the word before the block).
size_t EarlyUsableSize(void* block) {
  const size_t chunk = static_cast<size_t*>(block)[-1];
  const bool mapped = (chunk & 2) != 0;
  return (chunk & ~size_t{7}) - (mapped ? 16 : 8);
}

constexpr NextAllocator kGlibc = {__libc_malloc,   __libc_calloc, __libc_realloc,
                                  __libc_memalign, __libc_free,   EarlyUsableSize};
NextAllocator next = kGlibc;

bool IsGlibc() { return &_dl_find_object != nullptr; }

constexpr uint32_t kMaxEarly = 4096;
std::atomic<void*> early_blocks[kMaxEarly];
std::atomic<uint32_t> early_count{0};

void ResolveNext(const char* memalign = "memalign") {
  NextAllocator found = next;
  const auto resolve = []<typename F>(const char* name, F* function) {
    if (void* symbol = dlsym(RTLD_NEXT, name)) *function = reinterpret_cast<F>(symbol);
  };
  resolve("malloc", &found.malloc);
  resolve("calloc", &found.calloc);
  resolve("realloc", &found.realloc);
  resolve(memalign, &found.memalign);
  resolve("free", &found.free);
  resolve("malloc_usable_size", &found.usable_size);
  next = found;
}

// Somebody else's libc: its heap serves, for good. musl's memalign calls the global aligned_alloc, which is ours.
void StayOut() {
  ResolveNext("aligned_alloc");
  phase = Phase::kForward;
}

const char* FindVariable(char** environment, const char* name) {
  const size_t length = __builtin_strlen(name);
  for (; environment != nullptr && *environment != nullptr; environment++) {
    const char* entry = *environment;
    size_t i = 0;
    while (i < length && entry[i] == name[i]) i++;  // own loop: nothing of libc is needed this early
    if (i == length && entry[i] == '=') return entry + i + 1;
  }
  return nullptr;
}

bool Contains(const char* text, const char* part) {
  if (text == nullptr) return false;
  const size_t length = __builtin_strlen(part);
  for (; *text != 0; text++) {
    size_t i = 0;
    while (i < length && text[i] == part[i]) i++;
    if (i == length) return true;
  }
  return false;
}

uint64_t AuxiliaryValue(char** environment, uint64_t type) {
  while (*environment != nullptr) environment++;
  for (auto* entry = reinterpret_cast<ElfW(auxv_t)*>(environment + 1); entry->a_type != AT_NULL; entry++) {
    if (entry->a_type == type) return entry->a_un.a_val;
  }
  return 0;
}

// The only message that the library ever prints: at start, when it was asked to record and cannot.
void Complain(const char* what) {
  const char* parts[] = {"tidemark: not recording: ", what, "\n"};
  for (const char* part : parts) {
    os::Syscall(SYS_write, 2, reinterpret_cast<long>(part), static_cast<long>(__builtin_strlen(part)));
  }
}

// An executable (or an earlier preload) with a malloc of its own wins symbol lookup: whatever we did, its blocks would
// not be ours. A fixed-address executable that takes malloc's address also answers, with the stub in its PLT: that
// symbol is undefined there and leads back to us.
bool IsBypassed() {
  void* found = dlsym(RTLD_DEFAULT, "malloc");
  if (found == reinterpret_cast<void*>(&malloc)) return false;
  Dl_info info;
  ElfW(Sym)* symbol = nullptr;
  if (dladdr1(found, &info, reinterpret_cast<void**>(&symbol), RTLD_DL_SYMENT) == 0 || symbol == nullptr) return true;
  return symbol->st_shndx != SHN_UNDEF;
}

link_map* EntryOf(const void* address) {
  Dl_info info;
  void* entry = nullptr;
  return dladdr1(address, &info, &entry, RTLD_DL_LINKMAP) != 0 ? static_cast<link_map*>(entry) : nullptr;
}

// heap::Start() opens a library, and with the first one that is opened the loader runs libc's own initialisers, before
// their turn and with the arguments that libc has stored, which it does in those initialisers: none. Programs would
// have no name in their messages, and no arguments in the constructors of libraries that they open. So they run here
// with what the process was started with; libc's initialisers may run twice.
void InitialiseLibc(int count, char** arguments, char** environment) {
  const link_map* libc = EntryOf(dlsym(RTLD_NEXT, "gnu_get_libc_version"));
  if (libc == nullptr) return;
  using Initialiser = void (*)(int, char**, char**);
  const Initialiser* initialisers = nullptr;
  size_t bytes = 0;
  for (const ElfW(Dyn)* entry = libc->l_ld; entry->d_tag != DT_NULL; entry++) {
    if (entry->d_tag == DT_INIT_ARRAY)
      initialisers = reinterpret_cast<const Initialiser*>(libc->l_addr + entry->d_un.d_ptr);
    if (entry->d_tag == DT_INIT_ARRAYSZ) bytes = entry->d_un.d_val;
  }
  if (initialisers == nullptr) return;
  for (size_t i = 0; i < bytes / sizeof(Initialiser); i++) initialisers[i](count, arguments, environment);
}

// The runtime library of a sanitizer brings a malloc of its own, which does more than allocate.
bool IsSanitizer(const char* path) {
  for (const char* name : {"/libasan.so", "/libtsan.so", "/liblsan.so", "/libhwasan.so", "/libclang_rt.asan",
                           "/libclang_rt.tsan", "/libclang_rt.hwasan", "/libclang_rt.lsan"}) {
    if (Contains(path, name)) return true;
  }
  return false;
}

// Such a runtime refuses to start when another library comes before it in the loader's list. Ours comes first of all;
// it steps back to the end of that list, which decides nothing else: symbols are looked up in an order of its own.
bool StepsAsideForSanitizer() {
  link_map* own = EntryOf(reinterpret_cast<const void*>(&EntryOf));
  if (own == nullptr || own->l_prev == nullptr) return false;
  bool found = false;
  link_map* last = own;
  for (link_map* entry = own->l_next; entry != nullptr; entry = entry->l_next) {
    found |= IsSanitizer(entry->l_name);
    last = entry;
  }
  if (!found) return false;
  own->l_prev->l_next = own->l_next;
  own->l_next->l_prev = own->l_prev;
  own->l_prev = last;
  own->l_next = nullptr;
  last->l_next = own;
  return true;
}

void TakeOver(const Options& options, const char* options_text, char** environment) {
  const bool bypassed = IsBypassed() || StepsAsideForSanitizer();
  RememberExecutable(AuxiliaryValue(environment, AT_PHDR), AuxiliaryValue(environment, AT_PHNUM));
  if (bypassed) {
    phase = Phase::kForward;
    if (options.session[0] != 0)
      recorder::Begin(options, options_text, true);
    else if (options.present)
      Complain("this program brings its own malloc, the preload has no effect on it");
    return;
  }
  if (!heap::Start()) {
    phase = Phase::kForward;
    if (options.present)
      Complain("libmimalloc.so.2 is missing, of another version, or address space is limited too tightly");
    return;
  }
  region::Start();  // without it nothing is sampled into it, and that is counted
  bool full = false;
  if (options.present) {
    if (options.leak_check) {
      own_memory::Start();
      if (options.mode == Mode::kFull) live_table::Start();
    }
    const recorder::Start start = recorder::Begin(options, options_text, false);
    full = start == recorder::Start::kRecording && options.mode == Mode::kFull;
    if (options.leak_check && start == recorder::Start::kRecording) {
      exits::Start(options);
      leak_request::Start();
    }
    // Under `tidemark record`, that says it, once and in its own place.
    const bool alone = options.session[0] == 0;
    if (start == recorder::Start::kNoCollector && alone)
      Complain("the tidemark program was not found beside the library, or cannot start or write the trace");
    if (start == recorder::Start::kNoMemory && alone) Complain("not enough memory for the profiler's tables");
    if (options.error[0] != 0) Complain(options.error);
  }
  if (recorder::UsesGuards()) guard::Arm(options.guard_kills);
  // Complete mode leaves the range empty, so that each free takes the slow path, where it is recorded.
  hot.length = full ? 0 : hot.heap_length;
  phase = Phase::kOurs;
  hot.records_all = full;
  // Words of the allocator's, and of blocks that were there before, are no pointers of the program's.
  if (live_table::IsOn() && full) hot.malloc = hot.zalloc;
}

// Runs before every other constructor of the process (-z initfirst), as the loader calls it: with the arguments, since
// libc has not stored its environ yet.
__attribute__((constructor)) void Construct(int count, char** arguments, char** environment) {
  exits::Resolve();
  if (!IsGlibc()) {  // musl calls constructors without arguments
    StayOut();
    return;
  }
  const int saved_errno = errno;
  os::LocateThreadId();
  process_entry_sp = reinterpret_cast<uintptr_t>(arguments) - sizeof(uintptr_t);
  if (environ == nullptr) {  // else libc has been initialised, and earlier constructors may have set variables
    environ = environment;
    InitialiseLibc(count, arguments, environment);
  }
  ResolveNext();
  FindSandboxCalls();
  const char* text = FindVariable(environment, "TIDEMARK_OPTIONS");
  const bool secure = AuxiliaryValue(environment, AT_SECURE) != 0;
  const Options options = ParseOptions(text);
  // Valgrind's tools that replace malloc themselves must keep it; callgrind does not, and counts our instructions.
  const bool valgrind = Contains(FindVariable(environment, "LD_PRELOAD"), "vgpreload") && !options.under_valgrind;
  if (secure || valgrind) {
    phase = Phase::kForward;
  } else {
    TakeOver(options, text, environment);
  }
  errno = saved_errno;
}

__attribute__((destructor)) void Destruct() {
  if (phase != Phase::kOurs) return;
  exits::AfterDestructors(reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) + 16);
  recorder::OnExit(countdown);
}

}  // namespace

// Early blocks are glibc's even after the next allocator is known: IsEarly() promises so.
const NextAllocator& Next() {
  if (phase != Phase::kEarly) return next;
  if (IsGlibc()) return kGlibc;
  StayOut();
  return next;
}

void RememberEarly(void* block) {
  if (block == nullptr) return;
  const uint32_t index = early_count.fetch_add(1, std::memory_order_relaxed);
  if (index < kMaxEarly) early_blocks[index].store(block, std::memory_order_release);
}

bool IsEarly(const void* block) {
  uint32_t count = early_count.load(std::memory_order_acquire);
  if (count > kMaxEarly) count = kMaxEarly;
  for (uint32_t i = 0; i < count; i++) {
    if (early_blocks[i].load(std::memory_order_relaxed) == block) return true;
  }
  return false;
}

}  // namespace lifecycle
}  // namespace tidemark
