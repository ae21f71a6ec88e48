// speedscope's own JSON: one profile per metric, and one per metric and thread where several threads allocated.
//
// Frames are functions: speedscope merges what looks equal, and a function per calling line would be many rows.
#pragma once

#include "tools/export_source.h"

namespace tidemark {

void ExportSpeedscope(const ExportSource& source, const WriteText& write);

}  // namespace tidemark
