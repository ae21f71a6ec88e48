// Everything that a script may want from a trace, as one JSON document: docs/json-schema/export.json.
// Stacks refer to frames, frames to functions, by index; frames of a stack are innermost first.
#pragma once

#include <functional>
#include <string_view>

#include "tools/frame_names.h"
#include "tools/model_json.h"
#include "tools/shown_paths.h"

namespace tidemark {

void ExportJson(const TraceReader& reader, const HeapModel& model, const RunFacts& facts, FrameNames& names,
                const ShownPaths& paths, const std::function<void(std::string_view)>& write);

}  // namespace tidemark
