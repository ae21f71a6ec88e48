// `tidemark leaks -- CMD`: records CMD in complete mode with a leak check, by `tidemark record` in a process of its
// own. Must not: touch CMD's descriptors; read traces.
#pragma once

#include <string>
#include <vector>

#include "tools/result.h"

namespace tidemark {

class LeakRun {
 public:
  // `output`: where the trace shall stay; "": in a folder that goes away with this object.
  static Result<LeakRun> Record(const std::vector<std::string>& command, const std::string& output);
  LeakRun(LeakRun&& other) noexcept;
  ~LeakRun();

  // As `record` exits: CMD's status, 128+signal, 125 to 127.
  int status() const { return status_; }
  const std::string& trace() const { return trace_; }
  bool has_trace() const;

 private:
  LeakRun() = default;
  std::string trace_, folder_;  // folder_: to be removed
  int status_ = 0;
};

}  // namespace tidemark
