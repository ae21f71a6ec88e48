// See export_csv.h.
#include "tools/export_csv.h"

#include <cmath>

#include "tools/text_table.h"

namespace tidemark {
namespace {

std::string Cell(const std::string& text) {
  std::string cell = "\"";
  if (!text.empty() && std::string_view("=+-@").find(text[0]) != std::string_view::npos) cell += '\'';
  for (char c : text) cell += c == '"' ? std::string("\"\"") : std::string(1, c);
  return cell + '"';
}

std::string Numbers(const Usage& usage, bool sampled) {
  std::string text = ',' + std::to_string(usage.bytes.Rounded()) + ',' + std::to_string(usage.blocks.Rounded());
  if (!sampled) return text;
  const Interval interval = usage.bytes.Interval95();
  return text + ',' + std::to_string(Saturated(std::floor(interval.low))) + ',' +
         std::to_string(Saturated(std::ceil(interval.high)));
}

}  // namespace

void ExportCsv(const ExportSource& source, const WriteText& write) {
  const HeapModel& model = source.model();
  source.PrefetchNames();
  std::string header = "function,module,file,line";
  for (const char* metric : {"allocated", "peak", "live"}) {
    for (const char* unit : {"_bytes", "_blocks"}) header += std::string(",") + metric + unit;
    if (model.sampled()) header += std::string(",") + metric + "_bytes_low," + metric + "_bytes_high";
  }
  if (model.knows_temporary()) header += ",temporary_bytes,temporary_blocks";
  if (model.sampled()) header += ",samples";
  write(header + ",stack\r\n");
  for (const StackUse& use : model.stacks()) {
    const std::vector<uint32_t>& stack = source.names().StackOf(use.node);
    const NamedFrame& site = source.names().frame(stack.front());
    const NamedFunction& function = source.names().function(site.function);
    const Usage allocated = use.tally.Allocated();
    std::string row = Cell(Printable(function.name)) + ',' + Cell(Printable(function.module)) + ',' +
                      Cell(source.paths.Of(site.file)) + ',' + (site.line == 0 ? "" : std::to_string(site.line));
    row += Numbers(allocated, model.sampled()) + Numbers(use.tally.Peak(model.epoch()), model.sampled()) +
           Numbers(use.tally.Live(), model.sampled());
    if (model.knows_temporary()) row += Numbers(use.tally.Temporary(), false);
    if (model.sampled()) row += ',' + std::to_string(allocated.blocks.seen);
    std::string names;
    for (auto frame = stack.rbegin(); frame != stack.rend(); ++frame) {
      if (!names.empty()) names += ';';
      names += Printable(source.names().function_of(*frame).name);
    }
    write(row + ',' + Cell(names) + "\r\n");
  }
}

}  // namespace tidemark
