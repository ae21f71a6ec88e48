// Whether a trace may be written to a path: decided before the profiled command starts, so that a typing error costs
// no run. Must not: create or remove anything.
#pragma once

#include <string>

#include "tools/result.h"

namespace tidemark {

// `path` was given with -o. True: it is a trace (or an empty file), which the new one replaces; false: it is free.
Result<bool> CheckOutput(const std::string& path);
// The directory that `path` is in can take a new file; else an Error with the reason.
Result<bool> CheckDirectory(const std::string& path);

// "tidemark.CMD.PID.tmk" in the current directory, or the next free name like it.
std::string DefaultOutput(const std::string& program, int pid);

}  // namespace tidemark
