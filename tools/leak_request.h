// Asks for a leak check in a running process: `tidemark leaks --pid`.
//
// The process need not be a child of ours: its collector is found by the name of the segment that it maps, and asked
// over its socket. Must not: signal or read the process itself; the collector does the one, the trace has the rest.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "tools/result.h"

namespace tidemark {

struct LeakRequestOptions {
  bool exact = false;     // signal threads in system calls, too, which may then fail with EINTR
  bool in_place = false;  // where no copy can be made, let the process wait for the verdict
};

struct RequestedCheck {
  std::string trace;    // still being written
  uint32_t number = 0;  // of the check in it
};

// Waits for the verdict. An error says why there is none, and what to do.
Result<RequestedCheck> RequestLeakCheck(pid_t pid, const LeakRequestOptions& options);

// The session whose segment is mapped, by the text of /proc/PID/maps; empty: none.
std::string SessionInMaps(const std::string& maps);

}  // namespace tidemark
