// See heap_errors.h.
#include "tools/heap_errors.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/text_table.h"

namespace tidemark {
namespace {

constexpr size_t kShownFrames = 8;

const char* NameOf(HeapError error) {
  switch (error) {
    case HeapError::kDoubleFree:
      return "double free";
    case HeapError::kInvalidFree:
      return "invalid free";
    case HeapError::kOverflow:
      return "overflow";
    case HeapError::kUnderflow:
      return "underflow";
    case HeapError::kUseAfterFree:
      return "use after free";
  }
  return "unknown";
}

const char* NameOf(Access access) {
  switch (access) {
    case Access::kRead:
      return "read";
    case Access::kWrite:
      return "write";
    case Access::kUnknown:
      break;
  }
  return "unknown";
}

std::string BytesText(uint64_t bytes) { return fmt::format("{} byte{}", HumanCount(bytes), bytes == 1 ? "" : "s"); }

const TraceThread* ThreadOf(const TraceReader& reader, uint32_t serial) {
  const auto found = std::find_if(reader.threads().begin(), reader.threads().end(),
                                  [serial](const TraceThread& thread) { return thread.serial == serial; });
  return found == reader.threads().end() ? nullptr : &*found;
}

std::string ThreadText(const TraceReader& reader, uint32_t serial) {
  const TraceThread* thread = ThreadOf(reader, serial);
  if (thread == nullptr) return "";
  return fmt::format(", by thread {} ({})", thread->tid, Printable(thread->name));
}

void AddStack(LoadedTrace& trace, uint32_t node, std::string* out) {
  if (node == 0) {
    *out += "      stack not known\n";
    return;
  }
  const std::vector<uint32_t> frames = trace.names->StackOf(node);
  for (size_t i = 0; i < frames.size() && i < kShownFrames; ++i) {
    const NamedFunction& function = trace.names->function_of(frames[i]);
    const std::string place = trace.names->PlaceOf(frames[i]);
    *out += fmt::format("      {}  {}\n", Printable(function.name),
                        place.empty() ? "[" + Printable(function.module) + "]" : Printable(place));
  }
  if (frames.size() > kShownFrames) *out += fmt::format("      and {} more\n", frames.size() - kShownFrames);
}

Json StackJson(LoadedTrace& trace, uint32_t node) {
  Json frames = Json::array();
  if (node == 0) return frames;
  for (const uint32_t id : std::vector<uint32_t>(trace.names->StackOf(node))) {
    const NamedFrame& frame = trace.names->frame(id);
    frames.push_back({{"function", trace.names->function_of(id).name},
                      {"module", trace.names->function_of(id).module},
                      {"file", frame.file},
                      {"line", frame.line ? Json(frame.line) : Json()}});
  }
  return frames;
}

Json ThreadJson(const TraceReader& reader, uint32_t serial) {
  const TraceThread* thread = ThreadOf(reader, serial);
  return thread == nullptr ? Json() : Json({{"serial", serial}, {"tid", thread->tid}, {"name", thread->name}});
}

Json PlaceJson(LoadedTrace& trace, const StackOfThread& stack) {
  if (stack.node == 0 && stack.thread_serial == 0) return Json();
  return {{"thread", ThreadJson(*trace.reader, stack.thread_serial)}, {"stack", StackJson(trace, stack.node)}};
}

}  // namespace

std::string DescribeHeapError(const HeapErrorUse& use) {
  const GuardReport& report = use.report;
  if (!use.guarded) return fmt::format("{} of 0x{:x}", NameOf(report.error), report.block);
  const std::string block = fmt::format("a block of {}", BytesText(report.size));
  const std::string doing = report.access == Access::kUnknown ? "bytes changed" : NameOf(report.access);
  switch (report.error) {
    case HeapError::kOverflow: {
      // Both numbers are the trace's: modulo 2^64.
      const auto behind = static_cast<int64_t>(static_cast<uint64_t>(report.offset) - report.size);
      return behind <= 0 ? fmt::format("overflow: {} right behind the end of {}", doing, block)
                         : fmt::format("overflow: {} {} behind the end of {}", doing,
                                       BytesText(static_cast<uint64_t>(behind)), block);
    }
    case HeapError::kUnderflow:
      return fmt::format("underflow: {} {} before the beginning of {}", doing,
                         BytesText(uint64_t{0} - static_cast<uint64_t>(report.offset)), block);
    case HeapError::kUseAfterFree:
      return fmt::format("use after free: {} at offset {} of {}", doing, report.offset, block);
    case HeapError::kInvalidFree:
      return fmt::format("invalid free: of a pointer {} into {}",
                         BytesText(static_cast<uint64_t>(std::max<int64_t>(report.offset, 0))), block);
    case HeapError::kDoubleFree:
      return fmt::format("double free: of {}", block);
  }
  return fmt::format("{} {}", NameOf(report.error), block);
}

std::string HeapErrorText(LoadedTrace& trace, size_t top) {
  const std::vector<HeapErrorUse>& errors = trace.model->heap_errors();
  if (errors.empty()) return "";
  std::string out = "\nHeap errors\n";
  for (size_t i = 0; i < errors.size() && i < top; ++i) {
    const HeapErrorUse& use = errors[i];
    out += fmt::format("  {}. {}{}\n", i + 1, DescribeHeapError(use),
                       use.count > 1 ? fmt::format(", {} times", HumanCount(use.count)) : "");
    out += fmt::format("    at{}\n", ThreadText(*trace.reader, use.thread_serial));
    AddStack(trace, use.node, &out);
    const auto add = [&](const char* what, const StackOfThread& stack) {
      if (stack.node == 0 && stack.thread_serial == 0) return;
      out += fmt::format("    {}{}\n", what, ThreadText(*trace.reader, stack.thread_serial));
      AddStack(trace, stack.node, &out);
    };
    add("the block was obtained at", use.report.allocated);
    add("and released at", use.report.released);
  }
  if (errors.size() > top) out += fmt::format("  and {} more (--top N)\n", HumanCount(errors.size() - top));
  return out;
}

Json HeapErrorsJson(LoadedTrace& trace) {
  Json list = Json::array();
  for (const HeapErrorUse& use : trace.model->heap_errors()) {
    const GuardReport& report = use.report;
    list.push_back({{"error", NameOf(report.error)},
                    {"description", DescribeHeapError(use)},
                    {"access", NameOf(report.access)},
                    {"count", use.count},
                    {"thread", ThreadJson(*trace.reader, use.thread_serial)},
                    {"stack", StackJson(trace, use.node)},
                    {"block",
                     {{"address", report.block},
                      {"guarded", use.guarded},
                      {"size", use.guarded ? Json(report.size) : Json()},
                      {"offset", use.guarded ? Json(report.offset) : Json()},
                      {"allocated", PlaceJson(trace, report.allocated)},
                      {"released", PlaceJson(trace, report.released)}}}});
  }
  return list;
}

}  // namespace tidemark
