// The heap over time as one self-contained SVG: live bytes and RSS above, allocation and release rates below, with the
// peak marked. No script: exact numbers are titles that browsers show when pointed at.
// Must not: compute what HeapHistory has not; put a text into the picture that is not escaped.
#pragma once

#include <string>

#include "tools/loaded_trace.h"

namespace tidemark {

std::string RenderTimeline(const LoadedTrace& trace, const std::string& title);

}  // namespace tidemark
