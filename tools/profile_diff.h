// What changed between two runs: per function, site or module, before and now, with an interval where runs are sampled.
//
// Rows are matched by names, never by addresses: function and module; sites by function, module and file, since lines
// move. The program itself matches the other run's program whatever its file is called. Functions without a name are
// matched only within a module of the same build; else they are one row.
//
// Interval of a difference b - a of two estimates with intervals (la, ua) and (lb, ub), after Zou and Donner:
//   low = b - a - sqrt((b - lb)^2 + (ua - a)^2)     high = b - a + sqrt((ub - b)^2 + (a - la)^2)
// Must not: print.
#pragma once

#include <string>
#include <vector>

#include "tools/hotspots.h"
#include "tools/loaded_trace.h"
#include "tools/model/metric.h"

namespace tidemark {

enum class Normalisation { kNone, kAllocated, kTime, kCount };

// One amount in both runs; `before` is scaled when runs are normalised.
struct Change {
  double before = 0, now = 0;
  Interval delta_95;  // equal ends when nothing was left to chance
  double delta() const { return now - before; }
  // The change is none of chance alone.
  bool certain() const { return delta_95.low > 0 || delta_95.high < 0; }
};

struct DiffRow {
  std::string name, module, file;  // file: sites only
  bool in_old = false, in_new = false;
  Change self, total;
};

struct ProfileDiff {
  double scale = 1;  // what the old run's amounts were multiplied by
  Change whole;
  std::vector<DiffRow> rows;  // the largest change of self first, then of total
  size_t hidden = 0;          // rows that changed by less than asked for
};

struct DiffOptions {
  Metric metric = Metric::kAllocated;
  Grouping grouping = Grouping::kFunction;  // or kSite, kModule
  Normalisation normalisation = Normalisation::kNone;
  double min_delta = 0;  // of self or total
};

// Fails when the old run has nothing to be normalised by.
Result<ProfileDiff> DiffProfiles(const LoadedTrace& old_trace, const LoadedTrace& new_trace,
                                 const DiffOptions& options);

}  // namespace tidemark
