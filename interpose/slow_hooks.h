// The slow sides of the hooks: start-up, sampling, complete recording, foreign pointers, odd inputs.
//
// Called by tail jump, so that their return address is the application's. Compiled with frame pointers, from which
// they read the application's registers for the unwinder.
#pragma once

#include <cstddef>

namespace tidemark {

void* SlowMalloc(size_t size);
void* SlowCalloc(size_t count, size_t size);
void* SlowRealloc(void* block, size_t size);
void SlowFree(void* block);
size_t SlowUsableSize(void* block);

}  // namespace tidemark
