// See export_folded.h.
#include "tools/export_folded.h"

#include <algorithm>
#include <map>
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

// Stacks that differ in addresses only read alike: one line.
std::map<std::string, uint64_t> FoldedLines(const HeapModel& model, FrameNames& names, Metric metric) {
  std::vector<uint32_t> leaves;
  for (const StackUse& use : model.stacks()) {
    if (UsageOf(metric, use.tally, model.epoch()).blocks.seen != 0) leaves.push_back(use.node);
  }
  names.Prefetch(leaves);
  std::unordered_map<std::string, Amount> amounts;
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
    amounts[line] += AmountOf(metric, usage);
  }
  std::map<std::string, uint64_t> lines;
  for (const auto& [text, amount] : amounts) {
    if (const uint64_t value = amount.Rounded(); value != 0) lines[text] = value;
  }
  return lines;
}

}  // namespace

void ExportFolded(const HeapModel& model, FrameNames& names, Metric metric,
                  const std::function<void(std::string_view)>& write) {
  for (const auto& [line, value] : FoldedLines(model, names, metric)) write(line + ' ' + std::to_string(value) + '\n');
}

void ExportFoldedDiff(const HeapModel& old_model, FrameNames& old_names, const HeapModel& model, FrameNames& names,
                      Metric metric, const std::function<void(std::string_view)>& write) {
  std::map<std::string, std::pair<uint64_t, uint64_t>> lines;
  for (const auto& [line, value] : FoldedLines(old_model, old_names, metric)) lines[line].first = value;
  for (const auto& [line, value] : FoldedLines(model, names, metric)) lines[line].second = value;
  for (const auto& [line, values] : lines) {
    write(line + ' ' + std::to_string(values.first) + ' ' + std::to_string(values.second) + '\n');
  }
}

}  // namespace tidemark
