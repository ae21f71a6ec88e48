// See profile_diff.h.
#include "tools/profile_diff.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <tuple>

namespace tidemark {
namespace {

using Key = std::tuple<std::string, std::string, std::string>;  // name, module, file
const std::string kProgramModule("\0", 1);                      // no file is called so

std::string FileName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

// Build-ids by file name of the module; several of one name are all there.
std::map<std::string, std::set<std::string>> BuildIds(const LoadedTrace& trace) {
  std::map<std::string, std::set<std::string>> ids;
  for (const TraceModule& module : trace.reader->modules()) ids[FileName(module.path)].insert(module.build_id);
  return ids;
}

struct Sums {
  Usage self, total;
};

class Side {
 public:
  Side(const LoadedTrace& trace, const DiffOptions& options, const std::set<std::string>& same_builds)
      : trace_(trace), options_(options), same_builds_(same_builds), program_(FileName(trace.facts.executable)) {
    std::vector<uint32_t> leaves;
    for (const StackUse& use : trace.model->stacks()) leaves.push_back(use.node);
    trace.names->Prefetch(leaves);
    std::set<Key> seen;
    for (const StackUse& use : trace.model->stacks()) {
      const Usage usage = UsageOf(options.metric, use.tally, trace.model->epoch());
      if (usage.blocks.seen == 0) continue;
      const std::vector<uint32_t>& stack = trace.names->StackOf(use.node);
      sums_[KeyOf(stack.front())].self += usage;
      seen.clear();
      for (uint32_t frame : stack) {
        const Key key = KeyOf(frame);
        if (seen.insert(key).second) sums_[key].total += usage;
      }
    }
  }
  const std::map<Key, Sums>& sums() const { return sums_; }

 private:
  Key KeyOf(uint32_t frame) const {
    const NamedFrame& named = trace_.names->frame(frame);
    const NamedFunction& function = trace_.names->function(named.function);
    const std::string module = function.module == program_ ? kProgramModule : function.module;
    if (options_.grouping == Grouping::kModule) return {"", module, ""};
    std::string name = function.name;
    if (!function.known && !function.module.empty() && !same_builds_.contains(function.module)) name = "(no name)";
    return {name, module, options_.grouping == Grouping::kSite ? FileName(named.file) : ""};
  }

  const LoadedTrace& trace_;
  const DiffOptions& options_;
  const std::set<std::string>& same_builds_;
  std::string program_;
  std::map<Key, Sums> sums_;
};

// An estimate of nothing is not nothing: as much as may be there without one sample of it. No block has less than a
// byte.
Interval IntervalOf(const Amount& amount, const HeapModel& model) {
  if (model.sampled() && amount.seen == 0) return {0, NoSampleBoundBytes(model.sample_bytes())};
  return amount.Interval95();
}

Change ChangeOf(const Amount& before, const HeapModel& old_model, const Amount& now, const HeapModel& new_model,
                double scale) {
  Change change;
  change.before = before.value() * scale;
  change.now = now.value();
  const Interval a = IntervalOf(before, old_model), b = IntervalOf(now, new_model);
  const double down = std::hypot(change.now - b.low, a.high * scale - change.before);
  const double up = std::hypot(b.high - change.now, change.before - a.low * scale);
  change.delta_95 = {change.delta() - down, change.delta() + up};
  return change;
}

double WorkOf(const LoadedTrace& trace, Normalisation normalisation) {
  const Usage allocated = trace.model->total().Allocated();
  switch (normalisation) {
    case Normalisation::kAllocated:
      return trace.facts.exact_allocated_bytes != 0 ? static_cast<double>(trace.facts.exact_allocated_bytes)
                                                    : allocated.bytes.value();
    case Normalisation::kCount:
      return allocated.blocks.value();
    case Normalisation::kTime:
      return static_cast<double>(trace.facts.duration_ns);
    case Normalisation::kNone:
      break;
  }
  return 1;
}

}  // namespace

Result<ProfileDiff> DiffProfiles(const LoadedTrace& old_trace, const LoadedTrace& new_trace,
                                 const DiffOptions& options) {
  ProfileDiff diff;
  const double old_work = WorkOf(old_trace, options.normalisation), new_work = WorkOf(new_trace, options.normalisation);
  if (!(old_work > 0) || !(new_work > 0)) {
    return Error{ExitStatus::kCouldNotCheck,
                 "the runs cannot be normalised, since one of them has no allocations or no duration; leave out "
                 "--normalise"};
  }
  diff.scale = new_work / old_work;
  std::set<std::string> same_builds;
  const auto old_ids = BuildIds(old_trace), new_ids = BuildIds(new_trace);
  for (const auto& [module, ids] : old_ids) {
    const auto other = new_ids.find(module);
    if (other != new_ids.end() && other->second == ids && !ids.contains("")) same_builds.insert(module);
  }
  const Side old_side(old_trace, options, same_builds), new_side(new_trace, options, same_builds);
  const auto change = [&](const Usage& before, const Usage& now) {
    return ChangeOf(AmountOf(options.metric, before), *old_trace.model, AmountOf(options.metric, now), *new_trace.model,
                    diff.scale);
  };
  diff.whole = change(UsageOf(options.metric, old_trace.model->total(), old_trace.model->epoch()),
                      UsageOf(options.metric, new_trace.model->total(), new_trace.model->epoch()));
  std::map<Key, std::pair<const Sums*, const Sums*>> matched;
  for (const auto& [key, sums] : old_side.sums()) matched[key].first = &sums;
  for (const auto& [key, sums] : new_side.sums()) matched[key].second = &sums;
  const Sums nothing;
  const std::string program = FileName(new_trace.facts.executable);
  for (const auto& [key, sides] : matched) {
    DiffRow row;
    std::tie(row.name, row.module, row.file) = key;
    if (row.module == kProgramModule) row.module = program;
    row.in_old = sides.first != nullptr;
    row.in_new = sides.second != nullptr;
    const Sums &before = row.in_old ? *sides.first : nothing, &now = row.in_new ? *sides.second : nothing;
    row.self = change(before.self, now.self);
    row.total = change(before.total, now.total);
    const double largest = std::max(std::fabs(row.self.delta()), std::fabs(row.total.delta()));
    if (largest < options.min_delta || largest == 0) {
      ++diff.hidden;
    } else {
      diff.rows.push_back(std::move(row));
    }
  }
  std::stable_sort(diff.rows.begin(), diff.rows.end(), [](const DiffRow& a, const DiffRow& b) {
    const double a_self = std::fabs(a.self.delta()), b_self = std::fabs(b.self.delta());
    return a_self != b_self ? a_self > b_self : std::fabs(a.total.delta()) > std::fabs(b.total.delta());
  });
  return diff;
}

}  // namespace tidemark
