// Names of the trace files of one recording.
//
// `record`: FILE is the launched process, and of its images the last: when it execs (`env prog`, `sh -c "exec prog"`, a
// wrapper script), the finished trace moves aside to FILE.PID, as every other process has it; further images of one pid
// are FILE.PID.2, .3 ... Bare preload: the pattern's %p is the pid.
// A file that exists is never overwritten: NAME-2, NAME-3 ... are tried ("x.tmk" becomes "x-2.tmk"). Must not: remove a
// file, except the one that the user named with -o and that was a trace before (replace_first).
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "profiler/trace_writer.h"

namespace tidemark {

class TraceNames {
 public:
  TraceNames(std::string output, bool replace_first) : output_(std::move(output)), replace_first_(replace_first) {}

  // Opens the trace for image number `image` (from 1) of `pid`; `launched`: of the process that FILE belongs to.
  std::unique_ptr<TraceWriter> Create(pid_t pid, uint32_t image, bool launched, std::string* error);

  // The launched process goes on as another image: renames its finished trace, image number `image`, so that FILE is
  // free. What was renamed to what; empty when nothing was (a pattern, no trace, or the rename failed).
  struct Moved {
    std::string from, to;
  };
  Moved MoveAside(pid_t pid, uint32_t image);
  const std::string& output() const { return output_; }

 private:
  const std::string output_;
  const bool replace_first_;
  std::string launched_path_;  // of the launched process's latest trace
};

// "dir/x.tmk", 2 -> "dir/x-2.tmk"
std::string NumberedName(const std::string& path, unsigned number);

}  // namespace tidemark
