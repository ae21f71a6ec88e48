// A trace made of what a test says, without a file: 1 tick is 1 ns.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "tools/trace_reader.h"

namespace tidemark {

class FakeTraceReader : public TraceReader {
 public:
  const nlohmann::json& info() const override { return info_; }
  const nlohmann::json& end() const override { return end_; }
  const std::vector<TraceModule>& modules() const override { return modules_; }
  const std::vector<TraceThread>& threads() const override { return threads_; }
  const std::vector<TraceMemory>& memory() const override { return memory_; }
  const std::vector<TraceStackNode>& nodes() const override { return nodes_; }
  const std::vector<TraceLeaks>& leak_checks() const override { return leak_checks_; }
  const std::vector<std::string>& problems() const override { return problems_; }
  uint64_t file_bytes() const override { return 4096; }
  uint64_t origin_monotonic_ns() const override { return 0; }
  int64_t TimeNs(uint64_t tsc) const override { return static_cast<int64_t>(tsc); }
  Mode mode() const override { return mode_; }
  uint64_t sample_bytes() const override { return sample_bytes_; }
  void ForEachEvent(const std::function<void(uint32_t, const TraceEvent&)>& visit) override {
    for (const auto& [serial, event] : events_) visit(serial, event);
  }

  // Times go up by 1 ms per event unless `tsc` is set.
  TraceEvent& Add(RecordKind kind, uint32_t serial = 1) {
    TraceEvent event;
    event.kind = kind;
    event.tsc = next_tsc_ += 1000000;
    events_.emplace_back(serial, event);
    return events_.back().second;
  }
  TraceEvent& Alloc(uint64_t address, uint64_t size, uint32_t node = 0, uint32_t serial = 1) {
    TraceEvent& event = Add(RecordKind::kAlloc, serial);
    event.address = address;
    event.size = size;
    event.node = node;
    return event;
  }
  TraceEvent& Free(uint64_t address, uint32_t serial = 1) {
    TraceEvent& event = Add(RecordKind::kFree, serial);
    event.address = address;
    return event;
  }
  TraceEvent& Realloc(uint64_t old_address, uint64_t address, uint64_t size, uint32_t node = 0, uint32_t serial = 1) {
    TraceEvent& event = Add(RecordKind::kRealloc, serial);
    event.old_address = old_address;
    event.address = address;
    event.size = size;
    event.node = node;
    return event;
  }
  // A node called from `parent`; returns its number.
  uint32_t Node(uint32_t parent, uint64_t ip, uint32_t flags = 0) {
    if (nodes_.empty()) nodes_.emplace_back();
    TraceStackNode node;
    node.node = static_cast<uint32_t>(nodes_.size());
    node.parent = parent;
    node.ip = ip;
    node.flags = flags;
    nodes_.push_back(node);
    return node.node;
  }

  nlohmann::json info_ = nlohmann::json::object(), end_;
  std::vector<TraceModule> modules_;
  std::vector<TraceThread> threads_;
  std::vector<TraceMemory> memory_;
  std::vector<TraceStackNode> nodes_;
  std::vector<TraceLeaks> leak_checks_;
  std::vector<std::string> problems_;
  Mode mode_ = Mode::kFull;
  uint64_t sample_bytes_ = 0;
  std::vector<std::pair<uint32_t, TraceEvent>> events_;

 private:
  uint64_t next_tsc_ = 0;
};

}  // namespace tidemark
