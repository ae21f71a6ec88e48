// Guarded slots: single pages between inaccessible ones, for one sample in so many. What a program does wrong with a
// block there shows: an access beyond the page or after the release faults (guard_faults.h), one beside the block and
// inside the page changes bytes that are looked at when it is released, and a second release finds the first one.
//
//   zone   | no access | slot 0 | no access | slot 1 | ... | slot 63 | no access |
//
// A block ends where its page ends (but for alignment), or begins where it begins, in turn. Released slots stay
// inaccessible until it is their turn again, oldest first. Lock-free: each slot has a state that one thread moves.
//
// The idea is that of Electric Fence (1987) and GWP-ASan (Serebryany et al. 2023, arXiv:2311.09394).
//
// Context: any thread, also in signal handlers; system calls: mprotect.
#pragma once

#include <cstddef>
#include <cstdint>

#include "profiler/guard_report.h"

namespace tidemark::guard {

inline constexpr size_t kPageBytes = 4096;
inline constexpr uint32_t kSlots = 64;
inline constexpr size_t kZoneBytes = (2 * kSlots + 1) * kPageBytes;

// `zone`: kZoneBytes of address space without access.
void Start(uintptr_t zone);
bool Contains(const void* address);

// A zeroed block of 1..kPageBytes bytes, 16-aligned; nullptr: no slot is free.
void* Allocate(size_t size);
// Requested size of the live block that begins here; 0: there is none. Usable size is the same: no byte is for nothing.
size_t LiveSize(const void* block);
// Who obtained a block that Allocate() has just given. `image`: of the session that the stack's number belongs to.
void SetAllocation(const void* block, const StackOfThread& stack, uint32_t image);

// Bytes of the page outside of the live block that have changed since it was obtained: true, and what happened.
bool FindDamage(const void* block, GuardReport* report);
// Ends the live block; false when another thread was faster.
bool Release(void* block, const StackOfThread& stack, uint32_t image);
// A pointer that was to be released and is not the beginning of a live block.
void ExamineRelease(const void* pointer, GuardReport* report);

enum class Fault {
  kError,    // described by the report
  kPassed,   // the page has become accessible meanwhile, or this page has been reported before
  kForeign,  // no block was ever near: a wild pointer
};
// An access to `address` (in the zone) faulted.
Fault ExamineFault(uintptr_t address, GuardReport* report);
// Lets accesses to the page of `address` pass from now on (until its slot is used again).
void Open(uintptr_t address);
// Makes everything accessible, for good, and gives no slot any more.
void GiveUp();

// Stacks of another image's session mean nothing in this one's.
void ForgetStacksOfOthers(uint32_t image, GuardReport* report);

}  // namespace tidemark::guard
