// Which trace a process is being recorded into: the collector holds it open.
#pragma once

#include <sys/types.h>

#include <string>

#include "tools/result.h"

namespace tidemark {

// The path of the trace that the running process `pid` is recorded into. An error says why there is none to be found.
Result<std::string> FindTraceOf(pid_t pid);

}  // namespace tidemark
