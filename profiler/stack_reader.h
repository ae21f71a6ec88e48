// Reads words of the current thread's stack without ever faulting.
//
// A thread's stack bounds are not asked for: pthread_getattr_np allocates and opens files, and coroutines run on
// stacks that nobody announced. Instead each thread keeps one interval of pages that were proven readable; a read
// outside of it asks the kernel once per page. The interval grows with the stack and moves when the stack is switched.
//
// Context: one thread, signal-safe, no allocation; one system call per new page.
#pragma once

#include <cstdint>

#include "profiler/os.h"

namespace tidemark {

class StackReader {
 public:
  // Reads the aligned word at `address`. False: misaligned or not readable.
  bool Read(uintptr_t address, uintptr_t* value) {
    if (address - low_ < length_ && (address & 7) == 0) [[likely]] {
      *value = *reinterpret_cast<const uintptr_t*>(address);
      return true;
    }
    return ReadSlow(address, value);
  }
  void Reset() { low_ = length_ = 0; }

 private:
  static constexpr uintptr_t kPage = 4096;

  __attribute__((noinline)) bool ReadSlow(uintptr_t address, uintptr_t* value) {
    if ((address & 7) != 0 || address < kPage) return false;
    const uintptr_t page = address & ~(kPage - 1);
    if (page - low_ >= length_) {
      if (!os::IsReadable(page)) return false;
      if (length_ != 0 && page == low_ + length_) {
        length_ += kPage;
      } else if (length_ != 0 && page + kPage == low_) {
        low_ = page;
        length_ += kPage;
      } else {
        low_ = page;
        length_ = kPage;
      }
    }
    *value = *reinterpret_cast<const uintptr_t*>(address);
    return true;
  }

  uintptr_t low_ = 0, length_ = 0;  // every page of [low_, low_ + length_) was readable when asked
};

}  // namespace tidemark
