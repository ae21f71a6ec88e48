// Fuzzes the trace reader: the input is a file; everything that a tool may ask of it is asked.
//
// Checksums keep a fuzzer from the decoders behind them, so the input is tried twice: as it is, and with the checksums
// of all section headers and payloads made right first.
// Must not: assert what a damaged trace holds, but for what callers rely on without checking.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "tests/fuzz/trace_bytes.h"
#include "tools/trace_reader.h"

namespace {

using namespace tidemark;

void Require(bool condition) {
  if (!condition) abort();
}

// Enough for every path; a hostile file may hold any number of events in few bytes.
constexpr uint64_t kMaxEvents = 200000;

void ReadEverything(std::string bytes) {
  auto reader = TraceReader::FromMemory(std::move(bytes));
  if (!reader) {
    Require(!reader.error().message.empty());
    return;
  }
  TraceReader& trace = **reader;
  Require(trace.info().is_object() && (trace.end().is_object() || trace.end().is_null()));
  (void)trace.info().dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  Require(!trace.nodes().empty());
  for (const TraceStackNode& node : trace.nodes()) Require(node.parent == 0 || node.parent < node.node);
  uint64_t events = 0;
  for (const auto& module : trace.modules()) Require(module.end >= module.start);
  trace.ForEachEvent([&](uint32_t, const TraceEvent& event) {
    if (events++ > kMaxEvents) return;
    Require(event.node < trace.nodes().size());
    Require(event.kind == RecordKind::kGap ? event.gap_kind < kKindCount : event.gap_kind == 0);
    (void)trace.TimeNs(event.tsc);
  });
  (void)trace.problems().size();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  ReadEverything(bytes);
  MakeChecksumsRight(&bytes);
  ReadEverything(std::move(bytes));
  return 0;
}
