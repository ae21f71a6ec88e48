// The Firefox Profiler's processed format, version 66, with native allocations (retained, allocated, released) and
// tracks of live and resident memory.
//
// A block is not an entry: what one stack obtained within one time slice and gave back within another is, so that the
// document's size does not follow the number of events. Bytes stay exact; times are those of a slice. Newer viewers
// upgrade old versions, older ones refuse newer: 66 is what is proven here.
#pragma once

#include "tools/export_source.h"

namespace tidemark {

void ExportFirefox(const ExportSource& source, const WriteText& write);

}  // namespace tidemark
