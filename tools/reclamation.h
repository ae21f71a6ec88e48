// How memory is born, ages, dies and is given back: what a garbage collector's log tells, of manual memory.
//
// docs/reclamation.md has the formula and the unit of every field. What a trace cannot tell is not here, and views say
// "not measured" of it. Must not: print, or guess.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tools/frame_names.h"
#include "tools/model/heap_history.h"
#include "tools/model/heap_model.h"

namespace tidemark {

struct Nursery {
  uint64_t bytes = 0;
  // The allocation clock of samples is an estimate itself: an age of N bytes has a standard error of sqrt(N T). False
  // below 16 T, where that is more than a quarter.
  bool resolved = true;
  double died_bytes = 0, died_blocks = 0;  // D: shares that die before so much more is allocated
  Interval died_bytes_95, died_blocks_95;
  double survives_doubling = 0;  // S(2N) / S(N)
  double promoted_per_s = 0;     // bytes: allocation rate times S(N)
};

struct AgeShare {
  int64_t age_ns = 0;
  double died_bytes = 0;
  Interval died_bytes_95;
};

// What one site did.
struct SiteLife {
  std::string name, module, place;
  double allocated_bytes = 0, live_bytes = 0, old_live_bytes = 0;
  double died_young_bytes = 0;  // before kYoungBytes more were allocated
  double cross_thread_bytes = 0, pinned_bytes = 0;
  uint64_t copied_bytes = 0, reallocs = 0;
  uint64_t oldest_clock = 0;
};

// Resident memory at one of the trace's memory samples, explained: rss = files + requested + rounding + page_holes +
// rest.
struct RssAccount {
  int64_t time_ns = 0;
  double rss = 0, files = 0;  // files: mapped, and shared memory
  double requested = 0;       // live blocks
  double rounding = 0;        // what their size classes add
  double page_holes = 0;      // free memory in pages that hold a live block; complete traces only
  // What the allocator keeps, stacks, the profiler's tables, the program's own mappings: a trace does not tell them
  // apart. Negative when live blocks were never written to, so that they have no memory yet.
  double rest = 0;
};

struct Reclamation {
  static constexpr size_t kYoung = 2;  // kNurseryBytes[kYoung] = 1 MiB
  double seconds = 0;
  Quantity allocated, released;
  double allocated_per_s = 0, released_per_s = 0;
  double reclaimed = 0;                                                     // rho = released / allocated bytes
  double mean_live = 0, churn = 0;                                          // bytes; allocated / mean live
  double residence_s = 0;                                                   // Little: mean live / allocation rate
  double mean_age_at_death_s = 0;                                           // measured, of what died
  std::vector<Nursery> nurseries;                                           // 64 KiB .. 64 MiB
  std::vector<AgeShare> by_time;                                            // 1 ms .. 100 s
  std::vector<std::pair<double, std::optional<uint64_t>>> clock_quantiles;  // share of bytes dead -> age in bytes
  std::vector<std::pair<double, std::optional<double>>> time_quantiles;     // -> seconds
  double live_end = 0, live_peak = 0, old_live = 0;
  double rounding_end = 0, rounding_peak = 0;             // shares: 1 - requested / usable
  std::optional<double> pages_used_end, pages_used_peak;  // bytes of pages that hold something
  std::vector<RssAccount> accounts;                       // by time, one a memory sample of the window
  std::vector<SiteLife> sites;                            // largest first by allocated bytes
};

// `names` is asked for every stack that allocated something.
Reclamation Reclaim(const TraceReader& reader, const HeapModel& model, const HeapHistory& history, FrameNames& names);

// The account with the highest RSS, the first of several; null when there is none.
const RssAccount* HighestRss(const Reclamation& life);

}  // namespace tidemark
