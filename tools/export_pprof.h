// pprof's profile.proto, compressed with gzip, as Go's pprof and everything that learned from it read it.
//
// A location is an address with one line per inlined call, innermost first; values are estimates already, so that
// pprof scales nothing. One sample per stack and thread; peak_objects and peak_space go beyond Go's own heap profiles.
#pragma once

#include "tools/export_source.h"

namespace tidemark {

void ExportPprof(const ExportSource& source, const WriteText& write);

}  // namespace tidemark
