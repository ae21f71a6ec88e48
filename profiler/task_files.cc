// Reads /proc/self/task; see task_files.h.
#include "profiler/task_files.h"

#include <fcntl.h>

#include "profiler/os.h"

namespace tidemark {
namespace {

// "/proc/self/task/TID/NAME"; tid 0: "/proc/thread-self/NAME".
void TaskPath(uint32_t tid, const char* name, char* out) {
  const auto append = [&out](const char* text) {
    while (*text != 0) *out++ = *text++;
  };
  if (tid == 0) {
    append("/proc/thread-self/");
  } else {
    append("/proc/self/task/");
    char digits[11];
    size_t n = sizeof(digits);
    digits[--n] = 0;
    for (; tid != 0; tid /= 10) digits[--n] = static_cast<char>('0' + tid % 10);
    append(digits + n);
    append("/");
  }
  append(name);
  *out = 0;
}
constexpr size_t kTaskPath = 64;

// struct linux_dirent64
constexpr size_t kLengthOffset = 16, kNameOffset = 19;

int DigitOf(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return 16;
}

// The number at *text, in `base` 10 or 16 (with or without 0x); moves *text behind it. False: there is none.
bool TakeNumber(const char** text, int base, uint64_t* out) {
  const char* p = *text;
  while (*p == ' ' || *p == '\t') p++;
  if (base == 16 && p[0] == '0' && p[1] == 'x') p += 2;
  if (DigitOf(*p) >= base) return false;
  *out = 0;
  for (; DigitOf(*p) < base; p++) *out = *out * static_cast<uint64_t>(base) + static_cast<uint64_t>(DigitOf(*p));
  *text = p;
  return true;
}

// Behind "\nNAME:"; nullptr: there is no such line.
const char* FindLine(const char* text, const char* name) {
  for (const char* p = text; *p != 0; p++) {
    if (p != text && p[-1] != '\n') continue;
    size_t i = 0;
    while (name[i] != 0 && p[i] == name[i]) i++;
    if (name[i] == 0 && p[i] == ':') return p + i + 1;
  }
  return nullptr;
}

bool NumberOfLine(const char* text, const char* name, int base, uint64_t* out) {
  const char* at = FindLine(text, name);
  return at != nullptr && TakeNumber(&at, base, out);
}

}  // namespace

long ReadSmallFile(const char* path, char* out, size_t capacity) {
  const long fd = os::Syscall(SYS_openat, AT_FDCWD, reinterpret_cast<long>(path), O_RDONLY | O_CLOEXEC | O_NOCTTY);
  if (os::IsError(fd)) return fd;
  size_t have = 0;
  long n = 0;
  while (have < capacity - 1) {
    n = os::Syscall(SYS_read, fd, reinterpret_cast<long>(out + have), static_cast<long>(capacity - 1 - have));
    if (n <= 0) break;
    have += static_cast<size_t>(n);
  }
  os::Close(static_cast<int>(fd));
  out[have] = 0;
  return n < 0 ? n : static_cast<long>(have);
}

TaskFolder::TaskFolder(void* buffer, size_t bytes)
    : buffer_(static_cast<char*>(buffer)),
      bytes_(bytes),
      fd_(os::Syscall(SYS_openat, AT_FDCWD, reinterpret_cast<long>("/proc/self/task"),
                      O_RDONLY | O_DIRECTORY | O_CLOEXEC)),
      failed_(os::IsError(fd_)) {}

TaskFolder::~TaskFolder() {
  if (!os::IsError(fd_)) os::Close(static_cast<int>(fd_));
}

bool TaskFolder::Next(uint32_t* tid) {
  while (!failed_) {
    if (at_ + static_cast<long>(kNameOffset) >= have_) {
      have_ = os::Syscall(SYS_getdents64, fd_, reinterpret_cast<long>(buffer_), static_cast<long>(bytes_));
      at_ = 0;
      failed_ = have_ < 0;
      if (have_ <= 0) return false;
    }
    const char* entry = buffer_ + at_;
    uint16_t length;
    __builtin_memcpy(&length, entry + kLengthOffset, sizeof(length));
    at_ += length > kNameOffset ? length : have_;
    const char* name = entry + kNameOffset;
    uint64_t number;
    if (TakeNumber(&name, 10, &number) && *name == 0) {
      *tid = static_cast<uint32_t>(number);
      return true;
    }
  }
  return false;
}

bool ReadTaskStatus(uint32_t tid, char* scratch, TaskStatus* out) {
  char path[kTaskPath];
  TaskPath(tid, "status", path);
  if (ReadSmallFile(path, scratch, kTaskScratch) <= 0) return false;
  uint64_t voluntary, forced;
  const char* state = FindLine(scratch, "State");
  out->state = state != nullptr && *state == '\t' ? state[1] : '?';
  if (!NumberOfLine(scratch, "SigBlk", 16, &out->blocked) ||
      !NumberOfLine(scratch, "ShdPnd", 16, &out->shared_pending) ||
      !NumberOfLine(scratch, "voluntary_ctxt_switches", 10, &voluntary) ||
      !NumberOfLine(scratch, "nonvoluntary_ctxt_switches", 10, &forced)) {
    return false;
  }
  out->switches = voluntary + forced;
  return true;
}

bool ReadTaskCall(uint32_t tid, char* scratch, TaskCall* out) {
  char path[kTaskPath];
  TaskPath(tid, "syscall", path);
  if (ReadSmallFile(path, scratch, kTaskScratch) <= 0) return false;
  const char* at = scratch;
  uint64_t number;
  *out = TaskCall{};
  if (at[0] == '-' && at[1] == '1') {  // and then no arguments
    out->number = -1;
    at += 2;
  } else {
    if (!TakeNumber(&at, 10, &number)) return false;  // "running"
    out->number = static_cast<int64_t>(number);
    for (uint64_t& argument : out->arguments) {
      if (!TakeNumber(&at, 16, &argument)) return false;
    }
  }
  return TakeNumber(&at, 16, &out->stack_pointer) && TakeNumber(&at, 16, &out->instruction);
}

}  // namespace tidemark
