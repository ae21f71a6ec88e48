// How each module's frames were unwound: what `tidemark info` says about the quality of stacks, module by module.
//
// Counts different frames (nodes of the stack tree), not visits: a frame that was found once by its rule and proven to
// be the same a million times counts once. Must not: need symbols.
#pragma once

#include <cstdint>
#include <vector>

#include "tools/frame_names.h"
#include "tools/trace_reader.h"

namespace tidemark {

// Of the steps from frames of one module to their callers. The frame that a stack ends in takes none; it counts by the
// rule that said so.
struct UnwindLevels {
  uint64_t by_rule = 0;           // call frame information
  uint64_t by_frame_pointer = 0;  // the same, where it says that rbp is kept as the frame pointer
  uint64_t evaluated = 0;         // expressions of the call frame information: signal frames, realigned stacks
  uint64_t guessed = 0;           // no call frame information: rbp was taken for a frame pointer
  uint64_t frames() const { return by_rule + by_frame_pointer + evaluated + guessed; }
};

// One for each of reader.modules(), and a last one for frames outside of every module (code of a JIT).
std::vector<UnwindLevels> UnwindLevelsOf(const TraceReader& reader, const FrameNames& names);

}  // namespace tidemark
