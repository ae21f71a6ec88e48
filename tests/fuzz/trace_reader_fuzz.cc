// Fuzzes the trace reader: the input is a file; everything that a tool may ask of it is asked.
//
// Checksums keep a fuzzer from the decoders behind them, so the input is tried twice: as it is, and with the checksums
// of all section headers and payloads made right first.
// Must not: assert what a damaged trace holds, but for what callers rely on without checking.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>

#include "profiler/crc32c.h"
#include "profiler/trace_format.h"
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

// Walks the bytes as a reader would and writes the checksums that the reader expects.
void MakeChecksumsRight(std::string* bytes) {
  FileHeader file = {};
  memcpy(file.magic, kTraceMagic, sizeof file.magic);
  file.major = kTraceMajor;
  file.checksum = Crc32c(&file, offsetof(FileHeader, checksum));
  if (bytes->size() < sizeof file) return;
  memcpy(bytes->data(), &file, sizeof file);
  size_t at = sizeof file;
  while (at + sizeof(SectionHeader) <= bytes->size()) {
    SectionHeader header;
    memcpy(&header, bytes->data() + at, sizeof header);
    const size_t payload = at + sizeof header;
    header.magic = kSectionMagic;
    header.stored_bytes %= bytes->size() - payload + 1;
    header.payload_checksum = Crc32c(bytes->data() + payload, header.stored_bytes);
    header.header_checksum = Crc32c(&header, offsetof(SectionHeader, header_checksum));
    memcpy(bytes->data() + at, &header, sizeof header);
    at = payload + header.stored_bytes;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string bytes(reinterpret_cast<const char*>(data), size);
  ReadEverything(bytes);
  MakeChecksumsRight(&bytes);
  ReadEverything(std::move(bytes));
  return 0;
}
