// heaptrack's interpreted format, version 3, for heaptrack_print and heaptrack_gui: the whole history, event by event.
//
// Only complete recordings: the format counts every block as one, so that there is no place for what a sample stands
// for.
#pragma once

#include "tools/export_source.h"

namespace tidemark {

void ExportHeaptrack(const ExportSource& source, const WriteText& write);

}  // namespace tidemark
