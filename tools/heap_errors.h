// Heap errors of a trace, as people and programs read them: what was done, where, to which block, and who had obtained
// and released it.
#pragma once

#include <string>

#include "tools/loaded_trace.h"
#include "tools/model_json.h"

namespace tidemark {

// "write 4 bytes behind the end of a block of 100 bytes".
std::string DescribeHeapError(const HeapErrorUse& use);
// A paragraph for each of the first `top` errors, "" without any.
std::string HeapErrorText(LoadedTrace& trace, size_t top);
// [{"error", "access", "count", "thread", "stack", "block": {"address", "size", "offset", "allocated", "released"}}]
Json HeapErrorsJson(LoadedTrace& trace);

}  // namespace tidemark
