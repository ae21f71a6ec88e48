// See trace_leaks.h.
#include "tools/trace_leaks.h"

#include <iterator>
#include <limits>
#include <utility>

#include "profiler/trace_format.h"
#include "tools/table_view.h"

namespace tidemark {
namespace {

// False: the number does not fit.
template <typename Field>
bool Store(uint64_t value, Field* field) {
  *field = static_cast<Field>(value);
  return static_cast<uint64_t>(*field) == value;
}

bool ReadHeader(ColumnCursor cursor, TraceLeakCheck* check, uint32_t* part, bool* last) {
  uint64_t values[15];
  for (uint64_t& value : values) value = cursor.Get();
  if (!cursor.ok()) return false;  // what follows is of a later minor version
  *last = values[2] != 0;
  check->tsc = values[7];
  check->pause_us = values[8];
  check->scan_us = values[9];
  check->root_bytes = values[12];
  check->live_blocks = values[13];
  check->live_bytes = values[14];
  return Store(values[0], &check->number) && Store(values[1], part) && Store(values[3], &check->trigger) &&
         Store(values[4], &check->method) && Store(values[5], &check->outcome) && Store(values[6], &check->flags) &&
         Store(values[10], &check->threads) && Store(values[11], &check->threads_not_stopped);
}

bool ReadRows(const TableView& table, std::vector<TraceLeakRow>* rows) {
  ColumnCursor classes = table.Column(LeakColumn::kClass), roots = table.Column(LeakColumn::kRoot);
  ColumnCursor nodes = table.Column(LeakColumn::kNode), blocks = table.Column(LeakColumn::kBlocks);
  ColumnCursor bytes = table.Column(LeakColumn::kBytes), addresses = table.Column(LeakColumn::kAddress);
  ColumnCursor leaders = table.Column(LeakColumn::kLeader), flags = table.Column(LeakColumn::kFlags);
  const bool has_flags = table.Has(LeakColumn::kFlags);
  rows->resize(static_cast<size_t>(table.rows()));
  uint64_t node = 0, address = 0;
  bool sound = true;
  for (TraceLeakRow& row : *rows) {
    row.leak_class = classes.GetByte();
    row.root = roots.GetByte();
    node += nodes.GetSigned();
    sound = sound && Store(node, &row.node);
    row.blocks = blocks.Get();
    row.bytes = bytes.Get();
    address += addresses.GetSigned();
    const uint64_t leader = address + leaders.GetSigned();
    row.address = (address & kAddressMask) * 16;
    row.leader = (leader & kAddressMask) * 16;
    sound = sound && (!has_flags || Store(flags.Get(), &row.flags));
  }
  for (const ColumnCursor* column : {&classes, &roots, &nodes, &blocks, &bytes, &addresses, &leaders}) {
    sound = sound && column->ok() && column->AtEnd();
  }
  return sound && (!has_flags || (flags.ok() && flags.AtEnd()));
}

}  // namespace

bool LeakParts::Append(std::string_view payload, uint64_t limit) {
  TableView table;
  if (!table.Parse(payload) || rows_ > limit || table.rows() > limit - rows_) return false;
  for (LeakColumn id : {LeakColumn::kCheck, LeakColumn::kClass, LeakColumn::kRoot, LeakColumn::kNode,
                        LeakColumn::kBlocks, LeakColumn::kBytes, LeakColumn::kAddress, LeakColumn::kLeader}) {
    if (!table.Has(id)) return false;
  }
  Part part;
  uint32_t number = 0;
  // One byte a row in the class column: the row count cannot promise more rows than there are bytes.
  if (table.BytesOf(LeakColumn::kClass) != table.rows()) return false;
  if (!ReadHeader(table.Column(LeakColumn::kCheck), &part.check, &number, &part.last)) return false;
  if (!ReadRows(table, &part.rows)) return false;
  rows_ += part.rows.size();
  checks_[part.check.number].try_emplace(number, std::move(part));
  return true;
}

std::vector<TraceLeaks> LeakParts::Take() {
  std::vector<TraceLeaks> checks;
  for (auto& [number, parts] : checks_) {
    TraceLeaks& leaks = checks.emplace_back();
    uint32_t expected = 0;
    for (auto& [part_number, part] : parts) {
      const bool in_order = part_number == expected;
      expected = part_number == std::numeric_limits<uint32_t>::max() ? part_number : part_number + 1;
      leaks.whole = (expected == 1 || leaks.whole) && in_order;
      leaks.check = part.check;
      if (leaks.rows.empty()) {
        leaks.rows = std::move(part.rows);
      } else {
        leaks.rows.insert(leaks.rows.end(), part.rows.begin(), part.rows.end());
      }
    }
    leaks.whole = leaks.whole && parts.rbegin()->second.last;
  }
  checks_.clear();
  return checks;
}

}  // namespace tidemark
