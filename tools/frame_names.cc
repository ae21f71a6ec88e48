// See frame_names.h.
#include "tools/frame_names.h"

#include <fmt/format.h>

#include <algorithm>

namespace tidemark {
namespace {

// Deeper than any recorder goes; ends the walk through a damaged tree whose parents form a cycle.
constexpr uint32_t kMaxDepth = 1u << 16;
// Where the frames that stand for something missing are in the pool of frames.
constexpr uint32_t kTruncatedInPool = 0, kNoStackInPool = 1;

std::string_view FileName(std::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == std::string_view::npos || slash + 1 == path.size() ? path : path.substr(slash + 1);
}

bool StartsWithModule(std::string_view module, std::string_view prefix) {
  return module.substr(0, prefix.size()) == prefix &&
         (module.size() == prefix.size() || module[prefix.size()] == '.' || module[prefix.size()] == '-');
}

}  // namespace

bool IsAllocatorEntry(std::string_view function, std::string_view module) {
  if (StartsWithModule(module, "libtidemark") || StartsWithModule(module, "libmimalloc")) return true;
  constexpr std::string_view kOperatorNew = "operator new";
  if (function.substr(0, kOperatorNew.size()) == kOperatorNew) {
    const char next = function.size() > kOperatorNew.size() ? function[kOperatorNew.size()] : '(';
    return next == '(' || next == '[';
  }
  if (!StartsWithModule(module, "libc")) return false;
  for (std::string_view name :
       {"malloc", "calloc", "realloc", "reallocarray", "memalign", "aligned_alloc", "posix_memalign", "valloc",
        "pvalloc", "__libc_malloc", "__libc_calloc", "__libc_realloc", "__libc_memalign"}) {
    if (function == name) return true;
  }
  return false;
}

FrameNames::FrameNames(const TraceReader& reader, Symbolizer* symbolizer, bool all_frames)
    : reader_(reader), symbolizer_(symbolizer), all_frames_(all_frames), node_frames_(reader.nodes().size()) {
  const std::vector<TraceModule>& modules = reader.modules();
  std::vector<uint32_t> by_age(modules.size());
  for (uint32_t i = 0; i < modules.size(); ++i) {
    by_age[i] = i;
    const std::string_view name = FileName(modules[i].path);
    module_names_.emplace_back(name.empty() ? "[no name]" : name);
    symbolizer_modules_.push_back(symbolizer_ != nullptr ? symbolizer_->AddModule(modules[i]) : 0);
  }
  // Later modules take the range of earlier ones away, in whole or in part.
  std::stable_sort(by_age.begin(), by_age.end(), [&](uint32_t a, uint32_t b) {
    return std::pair(modules[a].first_node, modules[a].first_tsc) <
           std::pair(modules[b].first_node, modules[b].first_tsc);
  });
  for (uint32_t i : by_age) {
    const uint64_t start = modules[i].start, end = modules[i].end;
    if (start >= end) continue;
    auto next = ranges_.lower_bound(start);
    if (next != ranges_.begin()) {
      auto before = std::prev(next);
      if (before->second.end > start) {
        if (before->second.end > end) ranges_[end] = before->second;
        before->second.end = start;
      }
    }
    while ((next = ranges_.lower_bound(start)) != ranges_.end() && next->first < end) {
      if (next->second.end > end) ranges_[end] = next->second;
      ranges_.erase(next);
    }
    ranges_[start] = {end, i};
  }
  truncated_frame_ = InternFrame(InternFunction("[truncated]", "", false), "", 0, false);
  no_stack_frame_ = InternFrame(InternFunction("[no stack]", "", false), "", 0, false);
  pool_ = {truncated_frame_, no_stack_frame_};
}

ModuleSymbols FrameNames::SymbolsOf(size_t module) const {
  if (symbolizer_ == nullptr) return {SymbolSource::kNone, "not asked for"};
  return symbolizer_->Status(symbolizer_modules_[module]);
}

uint32_t FrameNames::ModuleAt(uint64_t pc, uint32_t node) const {
  const std::vector<TraceModule>& modules = reader_.modules();
  auto range = ranges_.upper_bound(pc);
  if (range == ranges_.begin()) return kNoModule;
  --range;
  const uint32_t latest = range->second.module;
  if (pc < range->second.end && modules[latest].first_node <= node) return latest;
  // The address had another owner when the node was made.
  uint32_t best = kNoModule;
  for (uint32_t i = 0; i < modules.size(); ++i) {
    const TraceModule& module = modules[i];
    if (pc < module.start || pc >= module.end || module.first_node > node) continue;
    if (best == kNoModule || module.first_node >= modules[best].first_node) best = i;
  }
  return best;
}

uint64_t FrameNames::PcOf(const TraceStackNode& node) const {
  return (node.flags & kNodeSignal) != 0 || node.ip == 0 ? node.ip : node.ip - 1;
}

void FrameNames::Prefetch(const std::vector<uint32_t>& leaf_nodes) {
  if (symbolizer_ == nullptr) return;
  const std::vector<TraceStackNode>& nodes = reader_.nodes();
  std::vector<char> seen(nodes.size());
  std::vector<std::vector<uint64_t>> wanted(module_names_.size());
  for (uint32_t node : leaf_nodes) {
    for (; node != 0 && node < nodes.size() && !seen[node]; node = nodes[node].parent) {
      seen[node] = 1;
      const uint64_t pc = PcOf(nodes[node]);
      if (const uint32_t module = ModuleAt(pc, node); module != kNoModule) {
        wanted[module].push_back(pc - reader_.modules()[module].load_bias);
      }
    }
  }
  for (uint32_t module = 0; module < wanted.size(); ++module) {
    if (wanted[module].empty()) continue;
    std::sort(wanted[module].begin(), wanted[module].end());
    wanted[module].erase(std::unique(wanted[module].begin(), wanted[module].end()), wanted[module].end());
    symbolizer_->Prefetch(symbolizer_modules_[module], wanted[module]);
  }
}

uint32_t FrameNames::InternFunction(std::string name, const std::string& module, bool known) {
  std::string key = name + '\0' + module;
  auto [found, added] = function_ids_.try_emplace(std::move(key), static_cast<uint32_t>(functions_.size()));
  if (added) {
    function_is_allocator_.push_back(IsAllocatorEntry(name, module));
    function_is_ours_.push_back(StartsWithModule(module, "libtidemark"));
    functions_.push_back({std::move(name), module, known});
  }
  return found->second;
}

uint32_t FrameNames::InternFrame(uint32_t function, const std::string& file, uint32_t line, bool inlined) {
  std::string key = fmt::format("{}:{}:{}:{}", function, line, inlined ? 1 : 0, file);
  auto [found, added] = frame_ids_.try_emplace(std::move(key), static_cast<uint32_t>(frames_.size()));
  if (added) frames_.push_back({function, file, line, inlined});
  return found->second;
}

FrameNames::NodeFrames FrameNames::FramesOf(uint32_t node_id) {
  NodeFrames& cached = node_frames_[node_id];
  if (cached.count != 0) return cached;
  const TraceStackNode& node = reader_.nodes()[node_id];
  const uint32_t first = static_cast<uint32_t>(pool_.size());
  if (node.ip != 0) {
    const uint64_t pc = PcOf(node);
    const uint32_t module = ModuleAt(pc, node_id);
    if (module == kNoModule) {
      pool_.push_back(InternFrame(InternFunction(fmt::format("[unknown module+{:#x}]", pc), "", false), "", 0, false));
    } else {
      const uint64_t relative = pc - reader_.modules()[module].load_bias;
      const std::string& name = module_names_[module];
      if (symbolizer_ != nullptr) {
        for (const SymbolFrame& frame : symbolizer_->Resolve(symbolizer_modules_[module], relative).frames) {
          const bool known = !frame.function.empty();
          const uint32_t function =
              InternFunction(known ? frame.function : fmt::format("{}+{:#x}", name, relative), name, known);
          pool_.push_back(InternFrame(function, frame.file, frame.line, frame.inlined));
        }
      }
      if (pool_.size() == first) {
        pool_.push_back(
            InternFrame(InternFunction(fmt::format("{}+{:#x}", name, relative), name, false), "", 0, false));
      }
    }
  }
  if ((node.flags & kNodeTruncated) != 0) pool_.push_back(truncated_frame_);
  if (pool_.size() == first) {
    pool_.push_back(InternFrame(InternFunction("[unknown module+0x0]", "", false), "", 0, false));
  }
  cached = {first, static_cast<uint32_t>(pool_.size()) - first};
  return cached;
}

bool FrameNames::IsAllocatorFrame(uint32_t frame) const { return function_is_allocator_[frames_[frame].function] != 0; }

const std::vector<FrameNames::Step>& FrameNames::StepsOf(uint32_t leaf_node) {
  steps_.clear();
  step_starts_.clear();
  const auto add = [this](uint32_t node, uint32_t left_out, uint32_t first, uint32_t count) {
    steps_.push_back({node, left_out, nullptr, count});
    step_starts_.push_back(first);
  };
  const std::vector<TraceStackNode>& nodes = reader_.nodes();
  bool at_leaf = !all_frames_;
  uint32_t last_folded_node = 0, last_folded = kNoStackInPool, depth = 0;
  for (uint32_t node = leaf_node; node != 0 && node < nodes.size(); node = nodes[node].parent) {
    if (++depth > kMaxDepth) {
      add(0, 0, kTruncatedInPool, 1);
      break;
    }
    const NodeFrames frames = FramesOf(node);
    uint32_t first = frames.first;
    const uint32_t end = frames.first + frames.count;
    while (at_leaf && first < end && IsAllocatorFrame(pool_[first])) {
      last_folded_node = node;
      last_folded = first++;
    }
    if (first == end) continue;
    if (!all_frames_ && function_is_ours_[frames_[pool_[first]].function] != 0) continue;
    at_leaf = false;
    add(node, first - frames.first, first, end - first);
  }
  folded_frame_ = last_folded_node != 0 ? pool_[last_folded] : kNoFrame;
  if (steps_.empty()) add(last_folded_node, 0, last_folded, 1);
  for (size_t i = 0; i < steps_.size(); ++i) steps_[i].frames = pool_.data() + step_starts_[i];
  return steps_;
}

const std::vector<uint32_t>& FrameNames::StackOf(uint32_t leaf_node) {
  stack_.clear();
  for (const Step& step : StepsOf(leaf_node)) stack_.insert(stack_.end(), step.frames, step.frames + step.count);
  return stack_;
}

std::string FrameNames::PlaceOf(uint32_t frame) const {
  const NamedFrame& it = frames_[frame];
  if (it.file.empty()) return "";
  std::string place(FileName(it.file));
  if (it.line != 0) place += fmt::format(":{}", it.line);
  return place;
}

}  // namespace tidemark
