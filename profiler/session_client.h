// Gets the shared segment from a collector, and starts a collector when there is none (bare preload).
//
// The descriptors that this takes exist only for the instant of the call: socket, connect, one message each way, map,
// close. Afterwards the host holds none: programs close, count and reuse them. No thread is ever started: hosts see it.
//
// Context: constructor, or the first event of a forked child; raw system calls only, no allocation, errno untouched.
#pragma once

#include "profiler/options.h"
#include "profiler/ring_writer.h"

namespace tidemark {

enum class Attach {
  kAttached,
  kRefused,      // the collector does not want this process (follow-children=no)
  kNoCollector,  // nobody answers
};

// Connects to the collector `session_name` (32 hex digits) and maps the segment it hands out.
Attach AttachToCollector(const char* session_name, bool forked, bool bypassed, Session* out);

// Starts `tidemark collect` detached from this process (no child that wait() could see, own session, no shared
// descriptors) and attaches to it. Writes the name of its socket to `session_name` for later forks.
Attach StartCollector(const char* options_text, char session_name[33], Session* out);

// False only when nobody listens on the collector's socket any more: it has died.
bool CollectorListens(const char* session_name);

void DetachSession(Session* session);

}  // namespace tidemark
