// What HeapModel tells somebody who listens while it counts: which block was born, and which died when and how.
//
// The model settles what events mean (skewed stamps, lost releases, realloc, windows of time); a listener gets blocks
// in the very order in which they are counted and needs no second opinion. The model is up to date when it calls.
// Blocks alive at the end are never released. Must not: keep what it is given by reference.
#pragma once

#include <cstdint>
#include <string>

#include "tools/model/live_set.h"

namespace tidemark {

struct Death {
  uint64_t tsc = 0;         // of the event that told
  uint32_t thread = 0;      // that released it; index as in HeapModel::threads()
  bool temporary = false;   // as in docs/metrics.md
  bool is_realloc = false;  // a realloc took it over: OnRealloc and the new block follow
  bool implied = false;     // its release was lost; `thread` means nothing
};

class BlockObserver {
 public:
  virtual ~BlockObserver() = default;
  // The window begins at `tsc`, with `clock` bytes allocated before it. `live`: the blocks that are older.
  virtual void OnBegin(const LiveSet& /*live*/, uint64_t /*tsc*/, uint64_t /*clock*/) {}
  // `block.stack` and `block.thread` are indices of stacks() and threads(). `new_peak`: more is live than ever before,
  // or as much; the last such call is the process's peak. (At the beginning of a window there is none to compare with.)
  virtual void OnAllocate(const LiveBlock& /*block*/, bool /*new_peak*/) {}
  virtual void OnRelease(const LiveBlock& /*block*/, uint64_t /*tsc*/, bool /*temporary*/) {}
  // The same with all that is known, for those who ask for more than OnRelease has.
  virtual void OnDeath(const LiveBlock& block, const Death& death) { OnRelease(block, death.tsc, death.temporary); }
  // Between the OnDeath of the old block and the OnAllocate of the new one, at the same place or another.
  virtual void OnRealloc(const LiveBlock& /*old*/, uint64_t /*new_size*/, bool /*moved*/) {}
  virtual void OnMark(uint32_t /*thread_serial*/, uint64_t /*tsc*/, const std::string& /*text*/) {}
  // The end of the window, or of the recording.
  virtual void OnEnd(const LiveSet& /*live*/, uint64_t /*tsc*/, uint64_t /*clock*/) {}
};

}  // namespace tidemark
