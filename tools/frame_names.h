// Stacks as people read them: node id of the trace -> frames with names, innermost first, inlined frames included.
//
// Names are interned: a frame is a number (function + file + line + module), a function is a number (name + module),
// and what a node resolves to is computed once. Allocator-internal frames at the leaf (our own library, the entry
// points of malloc, operator new) are folded away, so that the innermost frame is the code that wanted the memory;
// frames further out are never dropped, but for our stand-in for main, where leaks were looked for. Works without a
// symbolizer, too: frames are then "module+0x1234". Must not: know what is being counted.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tools/symbolizer.h"
#include "tools/trace_reader.h"

namespace tidemark {

struct NamedFunction {
  std::string name;    // never empty
  std::string module;  // file name without directories; "" when the address is in no known module
  bool known = false;  // false: the name is a placeholder made of an address, or says what is missing
};

struct NamedFrame {
  uint32_t function = 0;
  std::string file;
  uint32_t line = 0;  // 0: unknown
  bool inlined = false;
};

class FrameNames {
 public:
  // `symbolizer` may be null. Both must outlive this. `all_frames`: fold nothing.
  FrameNames(const TraceReader& reader, Symbolizer* symbolizer, bool all_frames);

  // Resolves what the stacks with these leaves need, in the symbolizer's favourite order. Optional, for speed.
  void Prefetch(const std::vector<uint32_t>& leaf_nodes);

  // Frame numbers, innermost first; never empty. Valid until the next call.
  const std::vector<uint32_t>& StackOf(uint32_t leaf_node);

  // The same stack node by node: what StackOf gives is the frames of all steps, one after the other. A node with
  // inlined calls has several; an allocator's frames at the leaf are left out here, too. Valid until the next call.
  struct Step {
    uint32_t node = 0;      // 0: a frame that stands for something missing
    uint32_t left_out = 0;  // frames of the node that were folded away
    const uint32_t* frames = nullptr;
    uint32_t count = 0;
  };
  const std::vector<Step>& StepsOf(uint32_t leaf_node);
  // Of the latest stack: the outermost frame that was left out, by which the program entered the allocator.
  static constexpr uint32_t kNoFrame = 0xffffffff;
  uint32_t folded_frame() const { return folded_frame_; }
  // The address that the node's names were looked up with: inside of the call, not behind it.
  uint64_t PcOf(uint32_t node) const { return PcOf(reader_.nodes()[node]); }

  const NamedFrame& frame(uint32_t id) const { return frames_[id]; }
  const NamedFunction& function(uint32_t id) const { return functions_[id]; }
  const NamedFunction& function_of(uint32_t frame) const { return functions_[frames_[frame].function]; }
  size_t function_count() const { return functions_.size(); }
  size_t frame_count() const { return frames_.size(); }
  // "file.cc:12", "" when unknown; the file without directories.
  std::string PlaceOf(uint32_t frame) const;
  static constexpr uint32_t kNoModule = 0xffffffff;
  // Index into reader.modules() of the module that the node's frame is in, or kNoModule.
  uint32_t ModuleOf(uint32_t node) const { return ModuleAt(PcOf(reader_.nodes()[node]), node); }
  // Where the names of TraceReader::modules()[module] come from. Opens its debug file: ask only where it is shown.
  ModuleSymbols SymbolsOf(size_t module) const;

 private:
  struct Range {
    uint64_t end = 0;
    uint32_t module = 0;  // index into reader_.modules()
  };
  struct NodeFrames {
    uint32_t first = 0, count = 0;  // in pool_; count 0: not resolved yet
  };

  uint32_t ModuleAt(uint64_t pc, uint32_t node) const;
  uint64_t PcOf(const TraceStackNode& node) const;
  NodeFrames FramesOf(uint32_t node);
  uint32_t InternFunction(std::string name, const std::string& module, bool known);
  uint32_t InternFrame(uint32_t function, const std::string& file, uint32_t line, bool inlined);
  bool IsAllocatorFrame(uint32_t frame) const;

  const TraceReader& reader_;
  Symbolizer* symbolizer_;
  bool all_frames_;
  std::map<uint64_t, Range> ranges_;  // by start; disjoint
  std::vector<uint32_t> symbolizer_modules_;
  std::vector<std::string> module_names_;
  std::vector<NodeFrames> node_frames_;  // by node
  std::vector<uint32_t> pool_;
  std::vector<NamedFrame> frames_;
  std::vector<NamedFunction> functions_;
  std::vector<char> function_is_allocator_, function_is_ours_;  // by function
  std::unordered_map<std::string, uint32_t> function_ids_, frame_ids_;
  std::vector<uint32_t> stack_;
  std::vector<Step> steps_;
  uint32_t folded_frame_ = kNoFrame;
  std::vector<uint32_t> step_starts_;  // in pool_, which moves while steps are found
  uint32_t truncated_frame_, no_stack_frame_;
};

// "operator new(unsigned long)", malloc and its kin: the doors into an allocator. g_malloc, strdup, xmalloc are not.
bool IsAllocatorEntry(std::string_view function, std::string_view module);

}  // namespace tidemark
