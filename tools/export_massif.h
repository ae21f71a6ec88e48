// massif's output, for ms_print and massif-visualizer: live bytes over time, and by whom at the peak and at the end.
#pragma once

#include "tools/export_source.h"

namespace tidemark {

void ExportMassif(const ExportSource& source, const WriteText& write);

}  // namespace tidemark
