// What a trace says about reclamation, for people: sentences about what stands out first, then the numbers.
// Must not: compute a number that reclamation.h has not.
#pragma once

#include <string>
#include <vector>

#include "tools/loaded_trace.h"
#include "tools/reclamation.h"
#include "tools/text_table.h"

namespace tidemark {

// Sentences, most useful first; empty for a program that allocated nothing.
std::vector<std::string> ReclamationFindings(const LoadedTrace& trace, const Reclamation& life);
std::string ReclamationText(const LoadedTrace& trace, const Reclamation& life, size_t top, const TextStyle& style);

}  // namespace tidemark
