// Reads words of the current thread's stack without ever faulting.
//
// A thread's stack bounds are not asked for: pthread_getattr_np allocates and opens files, and coroutines run on
// stacks that nobody announced. Instead each thread keeps one interval of pages that were proven readable; a read
// outside of it asks the kernel once per page. The interval grows with the stack and moves when the stack is switched.
//
// What was readable may be unmapped: not the stack that the thread stands on, but what lies above its root, where a
// walk got to because nothing told it to stop. So whoever knows where the root is cuts the interval off there, at the
// end of each walk, and the interval grows only while its old pages are still there: asked once a walk.
//
// Context: one thread, signal-safe, no allocation; one system call per new page.
#pragma once

#include <cstdint>

#include "profiler/os.h"

namespace tidemark {

struct StackWord {
  uintptr_t address, value;
};

class StackReader {
 public:
  // The readable interval [low, low + length), as it is now, and how often it moved (growth is no move): what lay
  // inside of it at one count of moves still does at the same count, unless it was forgotten.
  uintptr_t low() const { return low_; }
  uintptr_t length() const { return length_; }
  uint32_t moves() const { return moves_; }

  // Reads the aligned word at `address`. False: misaligned or not readable.
  bool Read(uintptr_t address, uintptr_t* value) {
    if (address - low_ < length_ && (address & 7) == 0) [[likely]] {
      *value = *reinterpret_cast<const uintptr_t*>(address);
      return true;
    }
    return ReadSlow(address, value);
  }

  // Nothing from `end` (a multiple of the page size) on is taken for readable any more.
  void ForgetFrom(uintptr_t end) {
    if (end - low_ < length_) length_ = end - low_;
  }
  // Time has passed since the last walk.
  void StartWalk() { low_is_there_ = false; }
  // The end of the last page that has a byte below `address`.
  static uintptr_t PagesEnd(uintptr_t address) { return (address + kPage - 1) & ~(kPage - 1); }

 private:
  static constexpr uintptr_t kPage = 4096;

  // A frame larger than a page leaves pages out; up to this many are asked for one by one to keep the interval whole.
  static constexpr uintptr_t kReach = 256 * kPage;

  __attribute__((noinline)) bool ReadSlow(uintptr_t address, uintptr_t* value) {
    if ((address & 7) != 0 || address < kPage) return false;
    const uintptr_t page = address & ~(kPage - 1);
    if (page - low_ >= length_) {
      if (!os::IsReadable(page)) return false;
      if (!GrowTo(page)) {
        low_ = page;
        length_ = kPage;
        low_is_there_ = true;
        moves_++;
      }
    }
    *value = *reinterpret_cast<const uintptr_t*>(address);
    return true;
  }

  bool GrowTo(uintptr_t page) {
    if (length_ == 0 || (!low_is_there_ && !os::IsReadable(low_))) return false;  // another stack's, and gone
    low_is_there_ = true;
    const uintptr_t end = low_ + length_;
    if (page >= end && page - end < kReach) {
      for (uintptr_t between = end; between < page; between += kPage) {
        if (!os::IsReadable(between)) return false;
      }
      length_ = page + kPage - low_;
      return true;
    }
    if (page < low_ && low_ - page <= kReach) {
      for (uintptr_t between = page + kPage; between < low_; between += kPage) {
        if (!os::IsReadable(between)) return false;
      }
      length_ += low_ - page;
      low_ = page;
      return true;
    }
    return false;
  }

  uintptr_t low_ = 0, length_ = 0;  // every page of [low_, low_ + length_) was readable when asked
  uint32_t moves_ = 0;
  bool low_is_there_ = false;  // the lowest page was asked for in this walk
};

// Reads through a StackReader and remembers what it read: a step that is no more than a function of these words need
// not be taken again as long as they stay the same.
class LoggedReader {
 public:
  static constexpr uint32_t kMaxWords = 6;

  explicit LoggedReader(StackReader* stack) : stack_(stack) {}
  bool Read(uintptr_t address, uintptr_t* value) {
    if (!stack_->Read(address, value)) return false;
    if (count_ < kMaxWords) words_[count_] = {address, *value};
    count_++;
    return true;
  }
  // The words in the order of reading; nullptr: they were too many.
  const StackWord* words() const { return count_ <= kMaxWords ? words_ : nullptr; }
  uint32_t count() const { return count_; }

 private:
  StackReader* stack_;
  StackWord words_[kMaxWords];
  uint32_t count_ = 0;
};

}  // namespace tidemark
