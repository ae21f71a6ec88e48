// The unwinder's proof, in libtidemark_checked.so alone: every stack is taken a second time, by call frame
// information alone, and compared with what rule cache and suffix reuse found.
//
// Counts into SessionHeader::stacks_checked and stacks_wrong; `tidemark info` prints both. Far too slow for anything
// else. Context: as unwind.h.
#pragma once

#include "profiler/thread_state.h"
#include "profiler/unwind.h"

namespace tidemark {

// `node`: what TakeStack() is about to return.
void CheckUnwind(ThreadState* thread, const UnwindStart& start, uint32_t node);

}  // namespace tidemark
