// Counting frames by module and level; see unwind_levels.h.
#include "tools/unwind_levels.h"

#include "profiler/session.h"

namespace tidemark {

std::vector<UnwindLevels> UnwindLevelsOf(const TraceReader& reader, const FrameNames& names) {
  std::vector<UnwindLevels> levels(reader.modules().size() + 1);
  const std::vector<TraceStackNode>& nodes = reader.nodes();
  for (uint32_t i = 1; i < nodes.size(); ++i) {
    const TraceStackNode& node = nodes[i];
    if (node.ip == 0 || (node.flags & kNodeTruncated) != 0) continue;  // a mark, no frame
    const uint32_t module = names.ModuleOf(i);
    UnwindLevels& of_module = module < levels.size() ? levels[module] : levels.back();
    switch (StepOf(node.flags)) {
      case kStepByRule:
        of_module.by_rule++;
        break;
      case kStepGuessed:
        of_module.guessed++;
        break;
      case kStepByFramePointer:
        of_module.by_frame_pointer++;
        break;
      case kStepEvaluated:
        of_module.evaluated++;
        break;
    }
  }
  return levels;
}

}  // namespace tidemark
