// TIDEMARK_OPTIONS: "key=value,key=value". One table for the library and for `tidemark collect`.
//
//   mode=sampled|full     what to record; without a mode nothing is recorded
//   out=PATTERN           bare preload: trace file, %p = process id (default tidemark.%p.tmk)
//   session=HEX32         name of the collector's socket (set by `tidemark record`)
//   sample_bytes=N        mean bytes between samples (suffixes K, M, G)
//   guard=N               one sample in N gets a guarded slot; 0: none
//   guard_action=report|die  what follows on a heap error on a guarded block, besides its report
//   seed=N                seed of the sampler, for repeatable runs
//   ring_bytes=N          size of the shared segment
//   leak_check=yes|no     look for lost blocks when the process ends
//   leak_check_signal=N   look for them, too, when signal N ends the process
//
// Context: start of the process, no allocation. A bad option is reported through `error`, never by exiting.
#pragma once

#include <cstddef>
#include <cstdint>

#include "profiler/session.h"

namespace tidemark {

struct Options {
  bool present = false;  // mode was given
  Mode mode = Mode::kSampled;
  char session[33] = "";
  char out[1024] = "tidemark.%p.tmk";
  uint64_t sample_bytes = 512 << 10;
  uint64_t ring_bytes = 0;  // 0: by mode
  uint64_t seed = 0;
  uint32_t guard = 0;
  bool guard_kills = false;
  bool leak_check = false;
  uint32_t leak_check_signal = 0;
  bool under_valgrind = false;  // take over malloc even there: for counting instructions with callgrind
  // The first thing that could not be understood: a slice of the text, "" when all was well.
  char error[128] = "";
};

// Parses `text` (may be nullptr).
Options ParseOptions(const char* text);

}  // namespace tidemark
