// What is told of a heap error on a guarded block: what was done, where, to which block, and who had obtained and
// released it. The same on all the way from the fault to the report.
//
// Context: plain data.
#pragma once

#include <cstdint>

#include "profiler/session.h"

namespace tidemark {

enum class Access : uint32_t { kUnknown = 0, kRead = 1, kWrite = 2 };

// A stack of the session, and the thread that it belonged to; 0: not known.
struct StackOfThread {
  uint32_t node = 0, thread_serial = 0;
};

struct GuardReport {
  HeapError error = HeapError::kDoubleFree;
  Access access = Access::kUnknown;  // unknown: found afterwards, by bytes that had changed
  uint64_t block = 0;                // its address
  int64_t offset = 0;                // of the access (or of the released pointer) from `block`; bytes
  uint64_t size = 0;                 // as requested
  StackOfThread allocated, released;
};

}  // namespace tidemark
