// One screen of `tidemark top`: the state of a heap in so many lines and columns.
// Must not: read the terminal or the clock; the same trace and size give the same text.
#pragma once

#include <string>

#include "tools/loaded_trace.h"

namespace tidemark {

struct ScreenSize {
  size_t columns = 80, lines = 24;
};

// `lines` lines at most, none wider than `columns`, each with its newline. Needs LoadedTrace::history.
std::string TopScreen(LoadedTrace& trace, const ScreenSize& size);

}  // namespace tidemark
