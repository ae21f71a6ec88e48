// See export_folded.h.
#include "tools/export_folded.h"

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "tools/text_table.h"

namespace tidemark {
namespace {

std::string FoldedName(const std::string& name) {
  std::string folded = Printable(name);
  std::replace(folded.begin(), folded.end(), ';', ':');
  return folded;
}

}  // namespace

void ExportFolded(const HeapModel& model, FrameNames& names, Metric metric,
                  const std::function<void(std::string_view)>& write) {
  std::vector<uint32_t> leaves;
  for (const StackUse& use : model.stacks()) {
    if (UsageOf(metric, use.tally, model.epoch()).blocks.seen != 0) leaves.push_back(use.node);
  }
  names.Prefetch(leaves);
  // Stacks that differ in addresses only read alike: one line.
  std::unordered_map<std::string, Amount> lines;
  std::vector<std::string> folded_names;  // by function
  std::string line;
  for (const StackUse& use : model.stacks()) {
    const Usage usage = UsageOf(metric, use.tally, model.epoch());
    if (usage.blocks.seen == 0) continue;
    const std::vector<uint32_t>& stack = names.StackOf(use.node);
    while (folded_names.size() < names.function_count()) {
      folded_names.push_back(FoldedName(names.function(static_cast<uint32_t>(folded_names.size())).name));
    }
    line.clear();
    for (auto frame = stack.rbegin(); frame != stack.rend(); ++frame) {
      if (!line.empty()) line += ';';
      line += folded_names[names.frame(*frame).function];
    }
    lines[line] += AmountOf(metric, usage);
  }
  std::vector<const std::pair<const std::string, Amount>*> sorted;
  for (const auto& entry : lines) sorted.push_back(&entry);
  std::sort(sorted.begin(), sorted.end(), [](const auto* a, const auto* b) { return a->first < b->first; });
  for (const auto* entry : sorted) {
    const uint64_t value = entry->second.Rounded();
    if (value == 0) continue;
    write(entry->first + ' ' + std::to_string(value) + '\n');
  }
}

}  // namespace tidemark
