// DHAT's JSON, version 2, for valgrind's dh_view.html: per stack what it allocated, for how long it lived, its own
// maximum, and what it held at the peak and at the end. Time is in microseconds.
#pragma once

#include "tools/export_source.h"

namespace tidemark {

void ExportDhat(const ExportSource& source, const WriteText& write);

}  // namespace tidemark
