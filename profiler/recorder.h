// The sole entry from the hooks into the profiler: what happened to which block.
//
// A hook brackets its report: Enter() finds (or makes) the thread's state and keeps nested hooks out, Leave() ends it.
// Between the two the recorder takes the stack and commits records. It knows nothing of malloc's semantics.
//
// Context: any thread, any time after Start(), also in signal handlers and in forked children (a child attaches to a
// session of its own before its first record). Signal-safe; no locks; errno untouched (raw system calls only).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "profiler/guard_report.h"
#include "profiler/options.h"
#include "profiler/session.h"
#include "profiler/thread_state.h"
#include "profiler/unwind.h"

namespace tidemark::recorder {

enum class Start { kRecording, kBypassed, kRefused, kNoCollector, kNoMemory };

// Attaches this image to a collector (the one that `options` names, or one started for a bare preload).
Start Begin(const Options& options, const char* options_text, bool bypassed);

// True while events are taken. False for good once a forked child found no collector.
bool IsRecording();

// What the two functions below look at. `image_state` points into a page that the kernel empties in forked children
// (MADV_WIPEONFORK), and at a constant 0 until recording begins.
enum ImageState : uint32_t { kImageNew = 0, kImageRecording = 1, kImageAdopting = 2, kImageStopped = 3 };
extern const std::atomic<uint32_t>* image_state __attribute__((visibility("hidden")));
extern __thread ThreadState* this_thread __attribute__((tls_model("initial-exec"), visibility("hidden")));

// A handler that has interrupted this hook may have forked, and this may be the child, which goes on in the middle of
// it: the ring is its parent's, who records the event.
inline bool ForkedAway() { return image_state->load(std::memory_order_relaxed) != kImageRecording; }

// The calling thread's state where it is plain sailing: it has one, no hook is under way, this image records.
inline ThreadState* EnterIfReady(uintptr_t sp) {
  ThreadState* thread = this_thread;
  // Acquire: pairs with the release in Begin(), which published the session.
  if (thread == nullptr || thread->busy_sp != 0 || image_state->load(std::memory_order_acquire) != kImageRecording)
      [[unlikely]] {
    return nullptr;
  }
  thread->busy_sp = sp;
  std::atomic_signal_fence(std::memory_order_seq_cst);  // a handler that comes from here on is nested
  return thread;
}

ThreadState* EnterSlowly(uintptr_t sp, EventKind kind);

// The calling thread's state, or nullptr: stay out (nested hook, no session, no thread slot). `sp`: the hook's frame.
// An event of `kind` (kKindCount: of none) that is kept out is counted.
inline ThreadState* Enter(uintptr_t sp, EventKind kind) {
  ThreadState* thread = EnterIfReady(sp);
  return thread != nullptr ? thread : EnterSlowly(sp, kind);
}
// For what is no event of a kind.
inline ThreadState* EnterUncounted(uintptr_t sp) { return Enter(sp, kKindCount); }
inline void Leave(ThreadState* thread) {
  std::atomic_signal_fence(std::memory_order_seq_cst);
  thread->busy_sp = 0;
}

void OnAlloc(ThreadState* thread, Api api, const void* block, size_t size, const UnwindStart& from);
// Call before the block is released.
void OnFree(ThreadState* thread, const void* block);
// `before`: TSC from before the old block was released.
void OnRealloc(ThreadState* thread, Api api, const void* old_block, const void* block, size_t size, uint64_t before,
               const UnwindStart& from);
void OnHeapError(ThreadState* thread, HeapError error, const void* block, const UnwindStart& from);
// `thread` may be nullptr: then it is counted only. `from`: where the error was noticed.
void OnGuardReport(ThreadState* thread, const GuardReport& report, const UnwindStart& from);
void OnMark(ThreadState* thread, const char* text);
// The number of a stack that goes with no event.
inline uint32_t StackNumber(ThreadState* thread, const UnwindStart& from) { return TakeStack(thread, from); }
// Tells this session from those of forked parents: numbers of stacks mean something within one.
uint32_t ImageNumber();

// Sampled mode: accounts for `allocated` bytes since the last draw and draws the bytes until the next sample.
uint64_t NextSample(ThreadState* thread, uint64_t allocated);
// Sampled mode, after Enter() kept an allocation out: bytes after which a thread that found no thread slot asks again,
// about as many as between two samples. 0: that was not the reason.
uint64_t BytesUntilRetry();
// One sample in options.guard gets a guarded slot.
bool WantsGuard(ThreadState* thread);
bool UsesGuards();
void CountGuardsGivenUp();

// A place in the ring for the verdict of a leak check, apart from the calling thread's, which may be in the middle of a
// record. nullptr: this image does not record (a vfork child is its parent's), or there is no slot.
ThreadState* ClaimLeakWriter();
// Call once at start, so that there will be one when memory has run out.
void PrepareLeakWriter();
void ReleaseLeakWriter(ThreadState* writer);
// One of its own for a copy of the process (snapshot.h), which goes on writing when the calling thread has ended. The
// copy gives it back; until then it lives as long as the process.
ThreadState* ClaimCopyWriter();
void ReleaseCopyWriter(ThreadState* writer);
// Commits one record; waits for room in sampled mode, too. False: nobody will ever read it.
bool PutLeakRecord(ThreadState* writer, const uint64_t* words, uint32_t count);

void CountForeignFree();
void CountRegionFull(size_t size);
// The image is about to end normally: what is left of this thread's byte count is added, the collector is told.
void OnExit(uint64_t countdown);

}  // namespace tidemark::recorder
