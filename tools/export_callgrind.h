// callgrind's format, for callgrind_annotate and KCachegrind: costs of functions and lines, and of calls.
//
// It knows functions and calls, not stacks, so who called the caller is lost. What callgrind_annotate sums up as a
// function's inclusive cost is exact all the same, also with recursion: of every stack, each function gets its share
// once, by the call that enters it first.
#pragma once

#include "tools/export_source.h"

namespace tidemark {

void ExportCallgrind(const ExportSource& source, const WriteText& write);

}  // namespace tidemark
