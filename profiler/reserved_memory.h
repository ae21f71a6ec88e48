// Address space that is reserved at once (PROT_NONE: charged by nobody, not even under strict overcommit) and made
// accessible in steps, as far as it is used.
//
// Context: any thread, signal-safe; one system call a step.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "profiler/os.h"

namespace tidemark {

inline constexpr size_t kAccessStep = 1 << 20;

// Makes [zone, zone + end) readable and writable, in steps; several threads may do the same at once. `limit`: the
// reserved bytes. False: the system refuses.
inline bool MakeAccessible(void* zone, size_t end, size_t limit, std::atomic<size_t>* accessible) {
  size_t done = accessible->load(std::memory_order_acquire);
  if (end <= done) return true;
  size_t target = (end + kAccessStep - 1) & ~(kAccessStep - 1);
  if (target > limit) target = limit;
  if (os::IsError(os::Protect(static_cast<char*>(zone) + done, target - done, PROT_READ | PROT_WRITE))) return false;
  while (done < target && !accessible->compare_exchange_weak(done, target, std::memory_order_release)) {
  }
  return true;
}

}  // namespace tidemark
