// Folded stacks: "root;caller;leaf 123", one line per distinct stack, as flamegraph.pl, inferno and speedscope read
// them.
//
// ';' separates frames there, so it becomes ':' in names; control characters become '?'. Lines are sorted: inferno
// insists. With another run beside it, a line has two numbers, "root;leaf 100 123": what was before and what is now, as
// differential flame graphs take them.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "tools/frame_names.h"
#include "tools/model/metric.h"

namespace tidemark {

// Hands the text to `write` piece by piece. Values are whole units of the metric, above zero.
void ExportFolded(const HeapModel& model, FrameNames& names, Metric metric,
                  const std::function<void(std::string_view)>& write);

// The same of two runs; stacks are equal when they read alike. A stack that only one of them has is 0 in the other.
void ExportFoldedDiff(const HeapModel& old_model, FrameNames& old_names, const HeapModel& model, FrameNames& names,
                      Metric metric, const std::function<void(std::string_view)>& write);

}  // namespace tidemark
