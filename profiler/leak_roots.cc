// /proc/self/maps and /proc/self/pagemap, read and cut; see leak_roots.h.
#include "profiler/leak_roots.h"

#include <fcntl.h>

#include <algorithm>

#include "profiler/module_map.h"
#include "profiler/os.h"

namespace tidemark {
namespace {

constexpr uint64_t kPage = 4096;
constexpr size_t kMaxStacks = 1 << 15;
constexpr size_t kMaxLeftOut = own_memory::kMaxRanges + 64;
constexpr size_t kTextBytes = 64 << 10;
constexpr uint64_t kEntriesAtOnce = 4096;
constexpr uint64_t kPresent = uint64_t{1} << 63, kSwapped = uint64_t{1} << 62, kOfFile = uint64_t{1} << 61;

template <typename T>
T* MapTable(size_t count) {
  return static_cast<T*>(own_memory::Map(count * sizeof(T)));
}
template <typename T>
void UnmapTable(T* table, size_t count) {
  if (table != nullptr) own_memory::Unmap(table, count * sizeof(T));
}

long OpenForReading(const char* path) {
  constexpr long kHere = AT_FDCWD;
  return os::Syscall(SYS_openat, kHere, reinterpret_cast<long>(path), O_RDONLY | O_CLOEXEC);
}

bool StartsWith(const char* text, const char* end, const char* prefix) {
  for (; *prefix != 0; text++, prefix++) {
    if (text == end || *text != *prefix) return false;
  }
  return true;
}

uint64_t HexAt(const char** at, const char* end) {
  uint64_t value = 0;
  for (; *at < end; ++*at) {
    const char c = **at;
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
    if (digit < 0) break;
    value = value << 4 | static_cast<uint64_t>(digit);
  }
  return value;
}

// What reading would do things to, or tell nothing of the program: devices, rings of the kernel.
bool IsDevice(const char* path, const char* end) {
  if (StartsWith(path, end, "/dev/")) {
    return !StartsWith(path, end, "/dev/zero") && !StartsWith(path, end, "/dev/shm/");
  }
  return StartsWith(path, end, "anon_inode:") || StartsWith(path, end, "socket:");
}

}  // namespace

// ---- Pages.

PageMap::~PageMap() {
  if (fd_ >= 0) os::Close(fd_);
  UnmapTable(entries_, kEntriesAtOnce);
}

bool PageMap::Open() {
  entries_ = MapTable<uint64_t>(kEntriesAtOnce);
  if (entries_ == nullptr) return false;
  const long fd = OpenForReading("/proc/self/pagemap");
  if (os::IsError(fd)) return false;
  fd_ = static_cast<int>(fd);
  return true;
}

// Of a page before `last`. What the kernel does not tell is believed to hold something, if it can be read at all.
bool PageMap::Holds(uint64_t page, uint64_t last, Which which) {
  if (page - first_ >= count_) {
    const uint64_t wanted = std::min(last - page, kEntriesAtOnce);
    const long n = fd_ < 0 ? 0
                           : os::Syscall(SYS_pread64, fd_, reinterpret_cast<long>(entries_),
                                         static_cast<long>(wanted * 8), static_cast<long>(page * 8));
    if (n < 8) return os::IsReadable(page * kPage);
    first_ = page;
    count_ = static_cast<uint64_t>(n) / 8;
  }
  const uint64_t entry = entries_[page - first_];
  if ((entry & (kPresent | kSwapped)) == 0) return which == Which::kShared && IsInMemory(page);
  return which != Which::kAnonymous || (entry & kOfFile) == 0;
}

// A page that this process has not mapped yet, of memory that is not its own alone: a child has mapped none of them.
// One that nobody has touched must not be made by looking at it, and one behind the end of its file not be read.
bool PageMap::IsInMemory(uint64_t page) const {
  uint8_t in_memory = 0;
  return !os::IsError(
             os::Syscall(SYS_mincore, static_cast<long>(page * kPage), kPage, reinterpret_cast<long>(&in_memory))) &&
         (in_memory & 1) != 0 && os::IsReadable(page * kPage);
}

bool PageMap::NextRun(uint64_t at, uint64_t end, Which which, uint64_t* run_start, uint64_t* run_end) {
  const uint64_t last = (end + kPage - 1) / kPage;
  uint64_t page = at / kPage;
  while (page < last && !Holds(page, last, which)) page++;
  if (page >= last) return false;
  const uint64_t first = page;
  while (page < last && Holds(page, last, which)) page++;
  *run_start = std::max(first * kPage, at);
  *run_end = std::min(page * kPage, end);
  return true;
}

// ---- Mappings.

LeakRoots::~LeakRoots() {
  UnmapTable(mappings_, kMaxMappings);
  UnmapTable(left_out_, kMaxLeftOut);
  UnmapTable(stacks_, kMaxStacks);
  UnmapTable(text_, kTextBytes);
}

bool LeakRoots::MakeRoom() {
  if (mappings_ == nullptr) mappings_ = MapTable<Mapping>(kMaxMappings);
  if (left_out_ == nullptr) left_out_ = MapTable<Range>(kMaxLeftOut);
  if (stacks_ == nullptr) stacks_ = MapTable<uint64_t>(kMaxStacks);
  if (text_ == nullptr) text_ = MapTable<char>(kTextBytes);
  return mappings_ != nullptr && left_out_ != nullptr && stacks_ != nullptr && text_ != nullptr;
}

void LeakRoots::LeaveOut(uint64_t start, uint64_t end) {
  if (MakeRoom() && left_out_count_ < kMaxLeftOut && start < end) left_out_[left_out_count_++] = {start, end};
}

void LeakRoots::AddStack(uint64_t stack_pointer) {
  if (MakeRoom() && stack_count_ < kMaxStacks) stacks_[stack_count_++] = stack_pointer;
}

LeakRoots::Result LeakRoots::Read() {
  if (!MakeRoom()) return Result::kNoMemory;
  own_memory_known_ = !own_memory::IsIncomplete();
  left_out_count_ += own_memory::Ranges(left_out_ + left_out_count_, kMaxLeftOut - left_out_count_);
  SortLeftOut();
  std::make_heap(stacks_, stacks_ + stack_count_);
  std::sort_heap(stacks_, stacks_ + stack_count_);
  return ReadMaps() ? Result::kDone : Result::kNoMaps;
}

// By start, disjoint.
void LeakRoots::SortLeftOut() {
  const auto before = [](const Range& a, const Range& b) { return a.start < b.start; };
  std::make_heap(left_out_, left_out_ + left_out_count_, before);
  std::sort_heap(left_out_, left_out_ + left_out_count_, before);
  size_t kept = 0;
  for (size_t i = 0; i < left_out_count_; i++) {
    if (kept != 0 && left_out_[i].start <= left_out_[kept - 1].end) {
      left_out_[kept - 1].end = std::max(left_out_[kept - 1].end, left_out_[i].end);
    } else {
      left_out_[kept++] = left_out_[i];
    }
  }
  left_out_count_ = kept;
}

size_t LeakRoots::FirstLeftOutAfter(uint64_t address) const {
  size_t low = 0, high = left_out_count_;
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (left_out_[middle].end <= address)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

bool LeakRoots::ReadMaps() {
  const long fd = OpenForReading("/proc/self/maps");
  if (os::IsError(fd)) return false;
  constexpr long kInterrupted = -4;
  size_t have = 0;
  long n;
  for (;;) {
    n = os::Syscall(SYS_read, fd, reinterpret_cast<long>(text_ + have), static_cast<long>(kTextBytes - have));
    if (n == kInterrupted) continue;
    if (n <= 0) break;
    have += static_cast<size_t>(n);
    const char* line = text_;
    const char* const end = text_ + have;
    for (const char* at = line; at < end; at++) {
      if (*at != '\n') continue;
      TakeLine(line, at);
      line = at + 1;
    }
    have = static_cast<size_t>(end - line);
    if (have == kTextBytes) have = 0;  // no line of the kernel's is so long
    __builtin_memmove(text_, line, have);
  }
  os::Close(static_cast<int>(fd));
  return n == 0 && mapping_count_ != 0 && !too_many_;
}

// start-end rwxp offset device inode   path
void LeakRoots::TakeLine(const char* line, const char* end) {
  const char* at = line;
  Mapping mapping = {};
  mapping.start = HexAt(&at, end);
  if (at == end || *at++ != '-') return;
  mapping.end = HexAt(&at, end);
  if (end - at < 6 || *at++ != ' ') return;
  const bool readable = at[0] == 'r', writable = at[1] == 'w', is_private = at[3] == 'p';
  if (!readable && !writable && at[2] != 'x') guard_end_ = mapping.end;
  at += 5;
  for (int field = 0; field < 2; field++) {  // offset, device
    while (at < end && *at != ' ') at++;
    while (at < end && *at == ' ') at++;
  }
  const bool has_inode = at < end && *at != '0';
  while (at < end && *at != ' ') at++;
  while (at < end && *at == ' ') at++;
  if (!readable || IsDevice(at, end) || StartsWith(at, end, "[v")) return;
  if (!writable && !is_private) return;  // nobody's pointers: a file that others write
  mapping.small_is_all = is_private && !has_inode;
  mapping.pages = !is_private              ? PageMap::Which::kShared
                  : has_inode && !writable ? PageMap::Which::kAnonymous
                                           : PageMap::Which::kTouched;
  // What the kernel shows as one may be a module's .bss and a mapping of the program's behind it.
  ModuleView module;
  if (is_private && FindModule(mapping.start, &module)) {
    const uint64_t module_end = (module.end + kPage - 1) & ~(kPage - 1);
    Mapping variables = mapping;
    variables.end = std::min(mapping.end, module_end);
    variables.kind = RootKind::kGlobal;
    Keep(variables);
    mapping.start = variables.end;
    if (mapping.start == mapping.end) return;
  }
  Classify(&mapping);
  Keep(mapping);
}

// glibc keeps the stacks of threads that have ended, with their thread-local variables in them. At the upper end lies
// the description of the thread, which begins with its own address, has it again two words on (the ABI's thread
// pointer), and then 0 or -1 for the thread's id. Where that is; 0: this is something else.
uint64_t LeakRoots::EndedThread(const Mapping& mapping) {
  if (os::thread_id_offset == 0 || mapping.end - mapping.start < 2 * kPage) return 0;
  constexpr uint64_t kStep = 64;
  for (uint64_t at = mapping.end - kStep; at >= mapping.end - kPage; at -= kStep) {
    uint64_t words[3];
    __builtin_memcpy(words, reinterpret_cast<const void*>(at), sizeof(words));
    if (words[0] != at || words[2] != at || at + os::thread_id_offset + sizeof(int32_t) > mapping.end) continue;
    int32_t id;
    __builtin_memcpy(&id, reinterpret_cast<const void*>(at + os::thread_id_offset), sizeof(id));
    return id <= 0 ? at : 0;
  }
  return 0;
}

// The stack of one thread ends where its mapping does, or the kernel has merged it with what lies above, which holds
// the thread's control block as glibc makes it. Below lies a page without access. Where several threads' stacks are in
// one mapping, nothing tells where each ends.
void LeakRoots::Classify(Mapping* mapping) const {
  mapping->kind = RootKind::kMapping;
  const uint64_t* first = std::lower_bound(stacks_, stacks_ + stack_count_, mapping->start);
  size_t inside = 0;
  while (first + inside < stacks_ + stack_count_ && first[inside] < mapping->end) inside++;
  if (inside == 0 && mapping->small_is_all && mapping->start == guard_end_) {
    if (const uint64_t description = EndedThread(*mapping); description != 0) mapping->start = description;
  }
  if (inside != 0) {
    mapping->kind = RootKind::kStack;
    if (inside == 1) mapping->start = std::max(mapping->start, *first & ~uint64_t{7});
  } else if (thread_local_ >= mapping->start && thread_local_ < mapping->end) {
    mapping->kind = RootKind::kThreadLocal;
  }
}

}  // namespace tidemark
