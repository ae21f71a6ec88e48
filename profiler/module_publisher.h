// Tells the trace about each module the first time a frame is found in it.
//
// Modules reach the trace when they matter, in order with the events, whether they were there at start, were loaded
// later or are gone again. When a module appears where another one was, stack numbers are forgotten, because the same
// address now means another function.
//
// Context: any thread, signal-safe under the recorder's guard, no allocation, no locks.
#pragma once

#include "profiler/module_map.h"
#include "profiler/thread_state.h"

namespace tidemark {

void PublishModule(ThreadState* thread, const ModuleView& module);
// A new session knows no modules.
void ForgetPublishedModules();

}  // namespace tidemark
