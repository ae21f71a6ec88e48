// See hotspots.h.
#include "tools/hotspots.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <unordered_map>

#include "tools/model/stack_tree.h"
#include "tools/sites.h"

namespace tidemark {
namespace {

constexpr Grouping kAllGroupings[] = {Grouping::kSite, Grouping::kFunction, Grouping::kModule, Grouping::kThread,
                                      Grouping::kSize};

struct Group {
  uint32_t key = 0;  // frame, function, index of module name, thread or size class
  Usage self, total;
};

// Hands out one group per key, in order of first use.
class Groups {
 public:
  Group& Of(uint32_t key) {
    auto [found, added] = index_.try_emplace(key, groups_.size());
    if (added) {
      Group group;
      group.key = key;
      groups_.push_back(group);
    }
    return groups_[found->second];
  }
  std::vector<Group>& all() { return groups_; }

 private:
  std::unordered_map<uint32_t, size_t> index_;
  std::vector<Group> groups_;
};

class Modules {
 public:
  uint32_t Of(const std::string& name) {
    auto [found, added] = index_.try_emplace(name, static_cast<uint32_t>(names_.size()));
    if (added) names_.push_back(name);
    return found->second;
  }
  const std::string& name(uint32_t index) const { return names_[index]; }

 private:
  std::unordered_map<std::string, uint32_t> index_;
  std::vector<std::string> names_;
};

bool IsNothing(const Usage& usage) { return usage.blocks.seen == 0; }

// The heaviest way up from a site: at each step the caller most of it came through.
std::vector<Caller> HeaviestCallers(const StackTree& tree, size_t most) {
  std::vector<Caller> callers;
  uint32_t at = 0;
  while (callers.size() < most && !tree.nodes()[at].children.empty()) {
    const std::vector<uint32_t>& children = tree.nodes()[at].children;
    at = *std::max_element(children.begin(), children.end(), [&](uint32_t a, uint32_t b) {
      return tree.nodes()[a].total.value() < tree.nodes()[b].total.value();
    });
    callers.push_back({tree.nodes()[at].function, tree.nodes()[at].total});
  }
  return callers;
}

}  // namespace

const char* NameOf(Grouping grouping) {
  switch (grouping) {
    case Grouping::kSite:
      return "site";
    case Grouping::kFunction:
      return "function";
    case Grouping::kModule:
      return "module";
    case Grouping::kThread:
      return "thread";
    case Grouping::kSize:
      return "size";
  }
  return "";
}

Result<Grouping> GroupingFromName(const std::string& name) {
  for (Grouping grouping : kAllGroupings) {
    if (name == NameOf(grouping)) return grouping;
  }
  return Error{ExitStatus::kUsage,
               "there is no grouping '" + name + "'; use --by with one of site, function, module, thread, size"};
}

Hotspots FindHotspots(const TraceReader& reader, const HeapModel& model, FrameNames& names, Grouping grouping,
                      Metric metric, size_t top, size_t callers) {
  Hotspots found;
  found.metric = metric;
  found.grouping = grouping;
  found.has_totals = grouping == Grouping::kFunction || grouping == Grouping::kModule;
  found.whole = UsageOf(metric, model.total(), model.epoch());

  Groups groups;
  Sites sites(names);
  Modules modules;
  const bool needs_stacks = grouping != Grouping::kThread && grouping != Grouping::kSize;
  if (needs_stacks) {
    std::vector<uint32_t> leaves;
    for (const StackUse& use : model.stacks()) {
      if (!IsNothing(UsageOf(metric, use.tally, model.epoch()))) leaves.push_back(use.node);
    }
    names.Prefetch(leaves);
    std::unordered_map<uint32_t, size_t> last_stack;  // group key -> stack that counted it last
    for (size_t i = 0; i < model.stacks().size(); ++i) {
      const StackUse& use = model.stacks()[i];
      const Usage usage = UsageOf(metric, use.tally, model.epoch());
      if (IsNothing(usage)) continue;
      const std::vector<uint32_t>& stack = names.StackOf(use.node);
      auto key_of = [&](uint32_t frame) {
        if (grouping == Grouping::kSite) return sites.Of(frame);
        if (grouping == Grouping::kFunction) return names.frame(frame).function;
        return modules.Of(names.function_of(frame).module);
      };
      groups.Of(key_of(stack.front())).self += usage;
      if (!found.has_totals) continue;
      for (uint32_t frame : stack) {
        const uint32_t key = key_of(frame);
        auto [seen, first] = last_stack.try_emplace(key, i);
        if (!first && seen->second == i) continue;
        seen->second = i;
        groups.Of(key).total += usage;
      }
    }
  } else if (grouping == Grouping::kThread) {
    for (uint32_t i = 0; i < model.threads().size(); ++i) {
      groups.Of(i).self += UsageOf(metric, model.threads()[i].tally, model.epoch());
    }
  } else {
    for (uint32_t i = 0; i < model.size_buckets().size(); ++i) {
      groups.Of(i).self += UsageOf(metric, model.size_buckets()[i], model.epoch());
    }
  }

  std::vector<Group>& all = groups.all();
  if (!found.has_totals) {
    std::erase_if(all, [](const Group& group) { return IsNothing(group.self); });
  }
  auto name_of = [&](uint32_t key) -> const std::string& {
    return grouping == Grouping::kModule
               ? modules.name(key)
               : names.function(grouping == Grouping::kSite ? names.frame(key).function : key).name;
  };
  std::sort(all.begin(), all.end(), [&](const Group& a, const Group& b) {
    const double a_self = AmountOf(metric, a.self).value(), b_self = AmountOf(metric, b.self).value();
    if (a_self != b_self) return a_self > b_self;
    const double a_total = AmountOf(metric, a.total).value(), b_total = AmountOf(metric, b.total).value();
    if (a_total != b_total) return a_total > b_total;
    if (!needs_stacks) return a.key < b.key;
    return std::tie(name_of(a.key), a.key) < std::tie(name_of(b.key), b.key);
  });
  found.all_rows = all.size();
  if (all.size() > top) all.resize(top);

  std::unordered_map<uint32_t, StackTree> callers_of;  // by site; "functions" of the tree are frames
  if (grouping == Grouping::kSite && callers > 0) {
    for (const Group& group : all) callers_of.try_emplace(group.key);
    std::vector<uint32_t> path;
    for (const StackUse& use : model.stacks()) {
      const Usage usage = UsageOf(metric, use.tally, model.epoch());
      if (IsNothing(usage)) continue;
      const std::vector<uint32_t>& stack = names.StackOf(use.node);
      auto tree = callers_of.find(sites.Of(stack.front()));
      if (tree == callers_of.end()) continue;
      path.assign(stack.begin() + 1, stack.begin() + static_cast<ptrdiff_t>(std::min(stack.size(), callers + 1)));
      for (uint32_t& frame : path) frame = sites.Of(frame);
      tree->second.Add(path, AmountOf(metric, usage));
    }
  }
  std::unordered_map<uint32_t, const TraceThread*> threads;
  for (const TraceThread& thread : reader.threads()) threads[thread.serial] = &thread;

  for (const Group& group : all) {
    Hotspot row;
    row.self = group.self;
    row.total = found.has_totals ? group.total : group.self;
    switch (grouping) {
      case Grouping::kSite:
        row.name = names.function_of(group.key).name;
        row.module = names.function_of(group.key).module;
        row.place = names.PlaceOf(group.key);
        row.file = names.frame(group.key).file;
        row.line = names.frame(group.key).line;
        row.callers = HeaviestCallers(callers_of[group.key], callers);
        break;
      case Grouping::kFunction:
        row.name = names.function(group.key).name;
        row.module = names.function(group.key).module;
        break;
      case Grouping::kModule:
        row.name = row.module = modules.name(group.key).empty() ? "[no module]" : modules.name(group.key);
        break;
      case Grouping::kThread: {
        row.serial = model.threads()[group.key].serial;
        auto thread = threads.find(row.serial);
        if (thread != threads.end()) row.tid = thread->second->tid;
        row.name = thread != threads.end() ? thread->second->name : "";
        if (row.serial == 0) row.name = "(all further threads)";
        break;
      }
      case Grouping::kSize:
        row.size_low = SizeBucketLow(group.key);
        row.size_high = SizeBucketHigh(group.key);
        row.name = fmt::format("{} .. {}", row.size_low, row.size_high);
        break;
    }
    found.rows.push_back(std::move(row));
  }
  return found;
}

}  // namespace tidemark
