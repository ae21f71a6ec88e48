// What /proc tells of this process's own threads: which there are, what they block, where they sleep.
//
// Own parser over raw system calls into a caller's buffer: it runs while other threads are stopped anywhere, also in
// the middle of libc's or the heap's code. A file that is not there or reads otherwise than expected gives "unknown".
//
// Context: any thread, signal-safe, no allocation, errno untouched. A descriptor is open for the time of a call only.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tidemark {

// The bytes of a file, up to capacity - 1, NUL-terminated; negative errno.
long ReadSmallFile(const char* path, char* out, size_t capacity);

// The threads in /proc/self/task:  for (TaskFolder folder(buffer, bytes); folder.Next(&tid);) ...
class TaskFolder {
 public:
  // `buffer` is for directory entries, 8-aligned.
  TaskFolder(void* buffer, size_t bytes);
  ~TaskFolder();
  TaskFolder(const TaskFolder&) = delete;
  bool Next(uint32_t* tid);
  // There was an error; the list is not whole.
  bool failed() const { return failed_; }

 private:
  char* const buffer_;
  const size_t bytes_;
  const long fd_;
  long have_ = 0, at_ = 0;
  bool failed_;
};

struct TaskStatus {
  char state;               // R runs, S sleeps, D sleeps and takes no signal, Z has ended ...
  uint64_t blocked;         // signals, bit (number - 1)
  uint64_t shared_pending;  // sent to the process and taken by no thread yet
  uint64_t switches;        // times that it left a processor: unchanged means that it has not run
};
// `scratch`: at least kTaskScratch bytes. tid 0: the calling thread's.
inline constexpr size_t kTaskScratch = 4096;
bool ReadTaskStatus(uint32_t tid, char* scratch, TaskStatus* out);

// The system call that a thread sleeps in.
struct TaskCall {
  int64_t number;         // -1: asleep, but in no call (a page fault)
  uint64_t arguments[6];  // as they were in rdi, rsi, rdx, r10, r8 and r9
  uint64_t stack_pointer, instruction;
};
// False: it runs, or that cannot be told.
bool ReadTaskCall(uint32_t tid, char* scratch, TaskCall* out);

}  // namespace tidemark
