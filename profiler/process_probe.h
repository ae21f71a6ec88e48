// What /proc tells about a process: identity, image, memory, threads; and the clocks that time stamps are tied to.
//
// Runs in the collector only. Everything here may vanish between two calls (the process ends at any time), so each
// answer is optional or empty, never an error. Must not: ptrace, stop or signal (signal 0 apart) the process.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "profiler/trace_writer.h"

namespace tidemark {

struct ProcessStat {
  char state = '?';
  pid_t parent = 0;
  uint64_t start_ticks = 0;        // with the pid, the identity of a process
  std::optional<int> wait_status;  // of a zombie, when the kernel lets us see it
};
std::optional<ProcessStat> ReadProcessStat(pid_t pid);

// Who a process is at one moment. Read before the process is let go on: a short-lived one is gone soon after.
struct ProcessIdentity {
  uint64_t start_ticks = 0;
  pid_t parent = 0;
  std::vector<std::string> command;
  std::string executable;  // resolved /proc/PID/exe
  bool image_known = false;
  dev_t image_device = 0;  // of the executable
  ino_t image_inode = 0;
  bool nested_namespace = false;  // it lives in a pid namespace below ours
};
ProcessIdentity ReadIdentity(pid_t pid);

std::string ReadThreadName(pid_t pid, pid_t thread);  // comm
bool ExecutableIdentity(pid_t pid, dev_t* device, ino_t* inode);

// From /proc/PID/statm: one small read, no page table walk. `pss` and `swap` stay 0.
std::optional<TraceMemory> ReadMemoryQuick(pid_t pid);
// From smaps_rollup: walks the page tables of the process, so it costs time in proportion to its size.
std::optional<TraceMemory> ReadMemoryFull(pid_t pid);

// Ids of a task in the pid namespaces from ours to its own; one entry: it lives in ours.
std::vector<pid_t> ReadNamespacePids(pid_t pid, pid_t task);
std::vector<pid_t> ListTasks(pid_t pid);

// Status as of waitpid of a process that has been reaped by its parent; needs a kernel (6.15) that keeps it.
std::optional<int> ReapedStatus(int pidfd);

// Processes, other than this one, that may still attach: they carry `needle` in their environment, or they still map
// a segment whose name contains it (fork children that have not allocated yet).
std::vector<pid_t> FindHeirs(const std::string& needle);

uint64_t ReadTsc();
uint64_t MonotonicNs();
// Three clocks at one moment: the tightest of several readings.
TraceClock ReadClocks();

}  // namespace tidemark
