// `tidemark reclaim --json`: docs/json-schema/reclaim.json describes it, docs/reclamation.md what its numbers mean.
#pragma once

#include "tools/loaded_trace.h"
#include "tools/model_json.h"
#include "tools/reclamation.h"

namespace tidemark {

// Without "schema", "run" and "problems", which every command has. What was not measured is null.
Json ReclamationJson(const LoadedTrace& trace, const Reclamation& life, size_t top);

}  // namespace tidemark
