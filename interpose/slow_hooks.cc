// Slow sides of the fast hooks and the exported functions that have no fast side; see slow_hooks.h.
//
// Here glibc's answers to odd inputs are kept, and errno: unchanged on success and by free, ENOMEM
// on every failure. Events are reported such that a free is stamped before its block can be reused and an allocation
// after its block was obtained.
#include "interpose/slow_hooks.h"

#include <errno.h>
#include <stdint.h>

#include "interpose/guard_faults.h"
#include "interpose/heap.h"
#include "interpose/hot_state.h"
#include "interpose/lifecycle.h"
#include "interpose/sample_region.h"
#include "profiler/include/tidemark.h"
#include "profiler/live_table.h"
#include "profiler/os.h"
#include "profiler/recorder.h"

#define TIDEMARK_EXPORT __attribute__((visibility("default")))

// The application's state after this function returns: this file keeps frame pointers, so the frame begins with the
// caller's rbp and the return address.
#define CALLER()                                                                         \
  (::tidemark::UnwindStart{reinterpret_cast<uintptr_t>(__builtin_return_address(0)),     \
                           reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) + 16, \
                           *static_cast<const uintptr_t*>(__builtin_frame_address(0))})

namespace tidemark {
namespace {

using lifecycle::Phase;

constexpr size_t kPage = 4096;
constexpr size_t kNatural = 16;
constexpr uint32_t kNoStack = 0;

class ErrnoKeeper {
 public:
  ErrnoKeeper() : saved_(errno) {}
  ~ErrnoKeeper() { errno = saved_; }
  ErrnoKeeper(const ErrnoKeeper&) = delete;

 private:
  int saved_;
};

// The recorder's guard around one event.
class Report {
 public:
  Report(const UnwindStart& from, EventKind kind) : thread_(recorder::Enter(from.sp, kind)) {}
  ~Report() {
    if (thread_ != nullptr) recorder::Leave(thread_);
  }
  Report(const Report&) = delete;
  ThreadState* thread() const { return thread_; }

 private:
  ThreadState* thread_;
};

void* OutOfMemory() {
  errno = ENOMEM;
  return nullptr;
}

// Complete mode keeps the hot range empty, so that every free comes here.
inline bool IsFullMode() { return hot.records_all; }

void* HeapAllocate(size_t size, size_t alignment, bool zero) {
  zero |= live_table::IsOn();
  if (alignment <= kNatural) return heap::Allocate(size, zero);
  if (alignment <= heap::kLargestAlignment) return heap::AllocateAligned(size, alignment, zero);
  return region::Allocate(size, alignment, zero,
                          IsFullMode() ? region::Placement::kPacked : region::Placement::kUnsampled);
}

// As heap::Reallocate, but for a block that a live table knows: whenever a leak check stops this thread, what the block
// holds is held by an entered block, the old one or the new one, which this frame points at. Moves when mimalloc does.
// New blocks are zeroed, see lifecycle.cc.
void* ReallocateEntered(void* block, size_t size) {
  const size_t usable = heap::UsableSize(block);
  if (size <= usable && size >= usable / 2) {
    live_table::Enter(block, kNoStack, size);
    return block;
  }
  void* moved = heap::Allocate(size, true);
  if (moved == nullptr) return nullptr;
  live_table::Enter(moved, kNoStack, size);
  __builtin_memcpy(moved, block, usable < size ? usable : size);
  live_table::Take(block);
  heap::Free(block);
  return moved;
}

void* HeapReallocate(void* block, size_t size) {
  return live_table::IsOn() ? ReallocateEntered(block, size) : heap::Reallocate(block, size);
}

void* NextAllocate(size_t size, size_t alignment, bool zero) {
  const auto& next = lifecycle::Next();
  void* block = alignment > kNatural ? next.memalign(alignment, size) : zero ? next.calloc(1, size) : next.malloc(size);
  if (lifecycle::phase == Phase::kEarly) lifecycle::RememberEarly(block);
  return block;
}

// Sampled mode, the countdown has run out (or this thread has none yet).
void* AllocateSampled(ThreadState* thread, Api api, size_t size, size_t alignment, bool zero, const UnwindStart& from) {
  if (thread->drawn_bytes == 0) {
    countdown = recorder::NextSample(thread, 0);
    if (size < countdown) {
      countdown -= size;
      return HeapAllocate(size, alignment, zero);
    }
  }
  countdown = recorder::NextSample(thread, thread->drawn_bytes - countdown + size);
  if (recorder::WantsGuard(thread) && alignment <= kNatural && size <= guard::kPageBytes) {
    if (void* block = guard::AllocateArmed(size == 0 ? 1 : size)) {
      recorder::OnAlloc(thread, api, block, size, from);
      guard::NoteAllocation(thread, block, from);
      return block;
    }
  }
  void* block = region::Allocate(size, alignment, zero, region::Placement::kPacked);
  if (block == nullptr) {
    block = HeapAllocate(size, alignment, zero);
    if (block != nullptr) recorder::CountRegionFull(size);
    return block;
  }
  recorder::OnAlloc(thread, api, block, size, from);
  return block;
}

// If nothing is recorded (any more): lets the fast paths have it all.
bool StopIfNotRecording() {
  if (recorder::IsRecording()) return false;
  countdown = heap::kLargestUnchecked;  // what is larger has to pass the check of heap::Allocate()
  hot.records_all = false;
  hot.length = hot.heap_length;
  return true;
}

void NoteUnrecordedFree(const void* block) {
  StopIfNotRecording();
  live_table::Take(block);
}

void* AllocateSlow(Api api, size_t size, size_t alignment, bool zero, const UnwindStart& from) {
  if (lifecycle::phase != Phase::kOurs) return NextAllocate(size, alignment, zero);
  if (size > PTRDIFF_MAX) return OutOfMemory();
  const int saved_errno = errno;
  void* block;
  {
    // A new thread of sampled mode is here for its first distance only: most likely there is nothing to count.
    const bool draws_only = countdown == 0 && !IsFullMode();
    Report report(from, draws_only ? kKindCount : kKindAlloc);
    ThreadState* thread = report.thread();
    if (thread == nullptr) {
      if (!StopIfNotRecording() && !IsFullMode()) {
        if (const uint64_t bytes = recorder::BytesUntilRetry(); bytes != 0) countdown = bytes;
      }
      block = HeapAllocate(size, alignment, zero);
      live_table::Enter(block, kNoStack, size);
    } else if (IsFullMode()) {
      block = HeapAllocate(size, alignment, zero);
      if (block != nullptr) recorder::OnAlloc(thread, api, block, size, from);
    } else if (size < countdown) {  // an aligned allocation, which has no fast path
      countdown -= size;
      block = HeapAllocate(size, alignment, zero);
    } else {
      block = AllocateSampled(thread, api, size, alignment, zero, from);
    }
  }
  errno = block != nullptr ? saved_errno : ENOMEM;
  return block;
}

void FreeForeign(void* block) {
  recorder::CountForeignFree();
  lifecycle::Next().free(block);
}

extern "C" void __libc_free(void*);
extern "C" void* __libc_realloc(void*, size_t);

void FreeSlow(void* block, const UnwindStart& from) {
  if (block == nullptr) return;
  if (lifecycle::phase == Phase::kForward)
    return lifecycle::IsEarly(block) ? __libc_free(block) : lifecycle::Next().free(block);
  const ErrnoKeeper keep_errno;
  if (heap::Owns(block)) {
    {
      Report report(from, kKindFree);
      if (report.thread() != nullptr)
        recorder::OnFree(report.thread(), block);
      else
        NoteUnrecordedFree(block);
    }
    return heap::Free(block);
  }
  if (region::Contains(block)) {
    Report report(from, kKindFree);
    ThreadState* thread = report.thread();
    if (guard::Contains(block)) return guard::ReleaseAny(thread, block, from);
    if (region::IsLive(block)) {
      if (thread != nullptr && region::IsSampled(block))
        recorder::OnFree(thread, block);
      else
        live_table::Take(block);
      if (region::Release(block)) return;
    }
    if (thread != nullptr) recorder::OnHeapError(thread, HeapError::kDoubleFree, block, from);
    return;
  }
  if (lifecycle::IsEarly(block)) return __libc_free(block);
  FreeForeign(block);
}

// Moves a block out of the sampled region (or, in complete mode, an over-aligned one): as a new allocation with a draw
// of its own, and the end of the old one.
void* ReallocateFromRegion(Api api, void* block, size_t size, const UnwindStart& from) {
  if (!region::IsLive(block)) {
    Report report(from, kKindRealloc);
    if (guard::Contains(block))
      guard::ReleaseAny(report.thread(), block, from);
    else if (report.thread() != nullptr)
      recorder::OnHeapError(report.thread(), HeapError::kInvalidFree, block, from);
    return OutOfMemory();
  }
  const size_t old_size = region::UsableSize(block);
  void* moved = AllocateSlow(api, size, kNatural, false, from);
  if (moved == nullptr) return nullptr;
  __builtin_memcpy(moved, block, old_size < size ? old_size : size);
  FreeSlow(block, from);
  return moved;
}

void* ReallocateSlow(Api api, void* block, size_t size, const UnwindStart& from) {
  if (block == nullptr) return AllocateSlow(api, size, kNatural, false, from);
  if (lifecycle::phase == Phase::kEarly || lifecycle::IsEarly(block)) return __libc_realloc(block, size);
  if (lifecycle::phase == Phase::kForward) return lifecycle::Next().realloc(block, size);
  if (size == 0) {  // glibc frees and returns null
    FreeSlow(block, from);
    return nullptr;
  }
  if (size > PTRDIFF_MAX) return OutOfMemory();
  const int saved_errno = errno;
  void* moved;
  if (heap::Owns(block)) {
    Report report(from, kKindRealloc);
    ThreadState* thread = report.thread();
    if (thread != nullptr && IsFullMode()) {
      const uint64_t before = os::Tsc();
      moved = HeapReallocate(block, size);
      if (moved != nullptr) recorder::OnRealloc(thread, api, block, moved, size, before, from);
    } else if (thread != nullptr && size >= countdown) {
      moved = AllocateSampled(thread, api, size, kNatural, false, from);
      if (moved != nullptr) {
        const size_t old_size = heap::UsableSize(block);
        __builtin_memcpy(moved, block, old_size < size ? old_size : size);
        heap::Free(block);
      }
    } else {
      if (thread == nullptr) StopIfNotRecording();
      moved = HeapReallocate(block, size);
    }
  } else if (region::Contains(block)) {
    moved = ReallocateFromRegion(api, block, size, from);
  } else {
    recorder::CountForeignFree();
    moved = lifecycle::Next().realloc(block, size);
  }
  errno = moved != nullptr ? saved_errno : ENOMEM;
  return moved;
}

bool IsPowerOfTwo(size_t n) { return n != 0 && (n & (n - 1)) == 0; }

// In complete mode each event takes a slow function, so its ordinary case (nothing to sample, natural alignment, a
// block of the heap) stands there in front of the general one.
inline ThreadState* EnterComplete(uintptr_t sp) { return IsFullMode() ? recorder::EnterIfReady(sp) : nullptr; }

inline void* Recorded(ThreadState* thread, Api api, void* block, size_t size, int saved_errno,
                      const UnwindStart& from) {
  if (block != nullptr) [[likely]]
    recorder::OnAlloc(thread, api, block, size, from);
  recorder::Leave(thread);
  *thread->errno_at = block != nullptr ? saved_errno : ENOMEM;
  return block;
}

}  // namespace

void* SlowMalloc(size_t size) {
  const UnwindStart from = CALLER();
  if (ThreadState* thread = size <= heap::kLargestUnchecked ? EnterComplete(from.sp) : nullptr) [[likely]] {
    const int saved_errno = *thread->errno_at;
    return Recorded(thread, Api::kMalloc, hot.malloc(AtLeastSmallest(size)), size, saved_errno, from);
  }
  return AllocateSlow(Api::kMalloc, size, kNatural, false, from);
}

void* SlowCalloc(size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return OutOfMemory();
  const UnwindStart from = CALLER();
  if (ThreadState* thread = bytes <= heap::kLargestUnchecked ? EnterComplete(from.sp) : nullptr) [[likely]] {
    const int saved_errno = *thread->errno_at;
    return Recorded(thread, Api::kCalloc, hot.zalloc(AtLeastSmallest(bytes)), bytes, saved_errno, from);
  }
  return AllocateSlow(Api::kCalloc, bytes, kNatural, true, from);
}

void* SlowRealloc(void* block, size_t size) { return ReallocateSlow(Api::kRealloc, block, size, CALLER()); }

void SlowFree(void* block) {
  const UnwindStart from = CALLER();
  if (heap::Owns(block)) [[likely]] {
    if (ThreadState* thread = EnterComplete(from.sp)) [[likely]] {
      recorder::OnFree(thread, block);
      recorder::Leave(thread);
      const int saved_errno = *thread->errno_at;
      hot.free(block);
      *thread->errno_at = saved_errno;
      return;
    }
  }
  FreeSlow(block, from);
}

size_t SlowUsableSize(void* block) {
  if (block == nullptr) return 0;
  if (heap::Owns(block)) return heap::UsableSize(block);
  if (region::Contains(block)) return region::UsableSize(block);
  return lifecycle::Next().usable_size(block);
}

extern "C" {

TIDEMARK_EXPORT void* reallocarray(void* block, size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) return OutOfMemory();
  return ReallocateSlow(Api::kReallocarray, block, bytes, CALLER());
}

// glibc rounds an alignment up to a power of two, and up to its natural one.
TIDEMARK_EXPORT void* memalign(size_t alignment, size_t size) {
  if (alignment > SIZE_MAX / 2 + 1) {
    errno = EINVAL;
    return nullptr;
  }
  size_t rounded = kNatural;
  while (rounded < alignment) rounded *= 2;
  return AllocateSlow(Api::kMemalign, size, rounded, false, CALLER());
}

// As glibc since 2.38 and ISO C: a bad alignment is refused, any size is accepted.
TIDEMARK_EXPORT void* aligned_alloc(size_t alignment, size_t size) {
  if (!IsPowerOfTwo(alignment)) {
    errno = EINVAL;
    return nullptr;
  }
  return AllocateSlow(Api::kAlignedAlloc, size, alignment < kNatural ? kNatural : alignment, false, CALLER());
}

TIDEMARK_EXPORT int posix_memalign(void** out, size_t alignment, size_t size) {
  if (!IsPowerOfTwo(alignment) || alignment % sizeof(void*) != 0) return EINVAL;
  const ErrnoKeeper keep_errno;
  void* block = AllocateSlow(Api::kPosixMemalign, size, alignment < kNatural ? kNatural : alignment, false, CALLER());
  if (block == nullptr) return ENOMEM;
  *out = block;
  return 0;
}

TIDEMARK_EXPORT void* valloc(size_t size) { return AllocateSlow(Api::kValloc, size, kPage, false, CALLER()); }

TIDEMARK_EXPORT void* pvalloc(size_t size) {
  if (size > PTRDIFF_MAX - kPage) return OutOfMemory();
  const size_t rounded = (size + kPage - 1) & ~(kPage - 1);
  return AllocateSlow(Api::kPvalloc, rounded, kPage, false, CALLER());
}

TIDEMARK_EXPORT int tidemark_is_recording(void) { return recorder::IsRecording() ? 1 : 0; }

TIDEMARK_EXPORT void tidemark_mark(const char* text) {
  if (text == nullptr || lifecycle::phase != Phase::kOurs) return;
  Report report(CALLER(), kKindAlloc);
  if (report.thread() != nullptr) recorder::OnMark(report.thread(), text);
}

TIDEMARK_EXPORT const char* tidemark_version(void) { return TIDEMARK_VERSION; }

}  // extern "C"
}  // namespace tidemark
