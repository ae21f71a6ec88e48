// Questions for leaks that the collector has been asked, until they are answered: `tidemark leaks --pid`.
//
// The process is asked by a word in its segment and a signal that is ignored by default (so that it harms no program
// that has lost our handler, by an exec for example). It goes to a thread that runs or waits for a lock, since one that
// sleeps in poll or the like would see EINTR; to any other only if there is none. Repeated until the process has taken
// the request up: a thread that is in the middle of a malloc leaves it for later.
//
// Context: collector process, one thread, nothing blocks. Must not: look into a trace or a ring.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "profiler/session.h"
#include "profiler/session_server.h"
#include "profiler/traced_process.h"

namespace tidemark {

class LeakQuestions {
 public:
  void Add(AskedForLeaks asked) { waiting_.push_back({std::move(asked)}); }
  bool empty() const { return waiting_.empty(); }
  // Asks processes, and answers what can be answered.
  void Serve(uint64_t now_us, const std::vector<std::unique_ptr<TracedProcess>>& processes);

 private:
  struct Waiting {
    AskedForLeaks asked;
    bool sent = false;
    uint32_t image = 0;
    uint32_t request = 0;  // as it was written into the segment
    uint64_t finished_before = 0;
    uint64_t since_us = 0, next_signal_us = 0, interval_us = 0;
  };
  // True: it was answered.
  bool ServeOne(Waiting& waiting, uint64_t now_us, TracedProcess* process);
  static void Answer(const Waiting& waiting, LeakAnswer answer, uint32_t check = 0, const std::string& path = "");

  std::vector<Waiting> waiting_;
};

// The thread of a process that notices the signal least; 0: all block it. `own_pid`: as we see it.
int FindThreadToSignal(int own_pid, int signal);

}  // namespace tidemark
