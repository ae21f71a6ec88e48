// The sole entry from the hooks into the profiler: what happened to which block.
//
// A hook brackets its report: Enter() finds (or makes) the thread's state and keeps nested hooks out, Leave() ends it.
// Between the two the recorder takes the stack and commits records. It knows nothing of malloc's semantics.
//
// Context: any thread, any time after Start(), also in signal handlers and in forked children (a child attaches to a
// session of its own before its first record). Signal-safe; no locks; errno untouched (raw system calls only).
#pragma once

#include <cstddef>
#include <cstdint>

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

// The calling thread's state, or nullptr: stay out (nested hook, no session, no thread slot). `sp`: the hook's frame.
// An event of `kind` that is kept out is counted.
ThreadState* Enter(uintptr_t sp, EventKind kind);
inline void Leave(ThreadState* thread) { thread->busy_sp = 0; }

void OnAlloc(ThreadState* thread, Api api, const void* block, size_t size, const UnwindStart& from);
// Call before the block is released.
void OnFree(ThreadState* thread, const void* block);
// `before`: TSC from before the old block was released.
void OnRealloc(ThreadState* thread, Api api, const void* old_block, const void* block, size_t size, uint64_t before,
               const UnwindStart& from);
void OnHeapError(ThreadState* thread, HeapError error, const void* block, const UnwindStart& from);
void OnMark(ThreadState* thread, const char* text);

// Sampled mode: accounts for `allocated` bytes since the last draw and draws the bytes until the next sample.
uint64_t NextSample(ThreadState* thread, uint64_t allocated);
// One sample in options.guard gets a guarded slot.
bool WantsGuard(ThreadState* thread);

void CountForeignFree();
void CountRegionFull(size_t size);
// The image is about to end normally: what is left of this thread's byte count is added, the collector is told.
void OnExit(uint64_t countdown);

}  // namespace tidemark::recorder
