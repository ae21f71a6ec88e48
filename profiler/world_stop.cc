// The stop, its signal and its handler; see world_stop.h.
//
// Everything that the handler looks at is static or in one mapping that is kept for good, so a thread that takes the
// signal late finds either its entry of the stop that is under way or nothing. No state is freed, so nothing is raced
// for: `held` names the stop that is under way, an entry's state names the stop that it belongs to.
#include "profiler/world_stop.h"

#include <ucontext.h>

#include <atomic>

#include "profiler/os.h"
#include "profiler/own_memory.h"
#include "profiler/signal_action.h"
#include "profiler/task_files.h"

namespace tidemark {
namespace {

// From the top of the range down: libc takes from its bottom (SIGRTMIN is 34 there), and most programs do.
constexpr int kHighestSignal = 64, kLowestSignal = 34;
constexpr uint32_t kMaxThreads = 16384;
constexpr uint32_t kEntries = 2 * kMaxThreads;  // a power of two
constexpr uint64_t kSlice_us = 2000;            // between two looks at who is there
constexpr uint64_t kStartShare = 4;             // of the deadline: how long a thread that blocks the signal may take to
                                                // unblock it, as one that starts does
// A thread that nobody resumes goes on by itself, so that whatever happens to the caller hangs no program.
constexpr uint64_t kLongestHold_us = 300'000'000;
constexpr uintptr_t kRedZone = 128;

enum State : uint32_t {
  kNone = 0,
  kSeen = 1,     // not decided yet
  kBlocked = 2,  // blocks the signal; may be about to unblock it (a thread that starts)
  kAsleep = 3,   // left alone
  kSent = 4,
  kTaking = 5,  // in the handler ...
  kTaken = 6,   // ... and has said where its stack is
  kRefused = 7,
  kGone = 8,
};
constexpr uint32_t kStateBits = 4, kStateMask = (1u << kStateBits) - 1;

struct alignas(128) Entry {
  uint32_t tid;                 // 0: free. Written by the caller, before the signal is sent
  std::atomic<uint32_t> state;  // State | number of the stop << kStateBits
  uint32_t pass;                // of the list, that it was last seen in
  char scheduler_state;
  bool is_of_kernel;
  uintptr_t stack_pointer, registers, registers_end;
  uint64_t switches;
  uint64_t arguments[6];
};

struct Table {
  Entry entries[kEntries];
  uint32_t count;
  uint32_t order[kMaxThreads];  // indexes of entries, as found
  alignas(8) char folder[32 << 10];
  char scratch[kTaskScratch];
};

std::atomic<uint32_t> user{0};  // process whose thread stops the others; another one's: before a fork, means nothing
std::atomic<Table*> table{nullptr};
std::atomic<uint32_t> held{0};   // number of the stop that is under way; 0: none. A futex
std::atomic<uint32_t> taken{0};  // threads that have acknowledged it. A futex
std::atomic<uint32_t> wanted{0};
std::atomic<uint32_t> inside{0};  // threads in the handler
std::atomic<uint32_t> foreign_signals{0};
uint32_t last_process = 0;
uint32_t last_number = 0;  // of a stop; the user's, as is all that follows
int signal_number = 0;     // that our handler is installed for; 0: none
KernelAction action_before;

uint64_t NowUs() { return os::MonotonicNs() / 1000; }

void Wait(const std::atomic<uint32_t>& word, uint32_t seen, uint64_t timeout_us) {
  timespec time{static_cast<time_t>(timeout_us / 1'000'000), static_cast<long>(timeout_us % 1'000'000) * 1000};
  os::Syscall(SYS_futex, reinterpret_cast<long>(&word), FUTEX_WAIT_PRIVATE, seen, reinterpret_cast<long>(&time));
}
void WakeAll(const std::atomic<uint32_t>& word) {
  constexpr long kEverybody = 0x7fffffff;
  os::Syscall(SYS_futex, reinterpret_cast<long>(&word), FUTEX_WAKE_PRIVATE, kEverybody);
}

// The thread's entry, or the free place where it belongs; nullptr: the table is full.
Entry* Find(Table* in, uint32_t tid) {
  const uint32_t start = tid * 2654435761u;  // Knuth's multiplicative hash
  for (uint32_t i = 0; i < kEntries; i++) {
    Entry* entry = &in->entries[(start + i) % kEntries];
    if (entry->tid == tid || entry->tid == 0) return entry;
  }
  return nullptr;
}

uint32_t StateOf(const Entry& entry) { return entry.state.load(std::memory_order_acquire) & kStateMask; }
void SetState(Entry* entry, State state) {
  entry->state.store(state | last_number << kStateBits, std::memory_order_release);
}

// Bytes that the kernel has saved vector registers in.
size_t VectorBytes(const void* area) {
  constexpr size_t kLegacy = 512, kSoftwareBytes = 464;
  constexpr uint32_t kMagic = 0x46505853;  // FP_XSTATE_MAGIC1
  constexpr uint32_t kLargest = 1 << 16;
  uint32_t words[2];  // magic, extended size
  __builtin_memcpy(words, static_cast<const char*>(area) + kSoftwareBytes, sizeof(words));
  return words[0] == kMagic && words[1] >= kLegacy && words[1] <= kLargest ? words[1] : kLegacy;
}

void NoteRegisters(Entry* entry, const ucontext_t* context) {
  const auto sp = static_cast<uintptr_t>(context->uc_mcontext.gregs[REG_RSP]);
  entry->registers = reinterpret_cast<uintptr_t>(context);
  entry->registers_end = entry->registers + sizeof(*context);
  if (const void* vectors = context->uc_mcontext.fpregs; vectors != nullptr) {
    entry->registers_end = reinterpret_cast<uintptr_t>(vectors) + VectorBytes(vectors);
  }
  // On the interrupted stack the frame lies right below the red zone; else it is on the alternate one.
  constexpr uintptr_t kAlignmentGap = 256;
  const bool same_stack = entry->registers_end <= sp && sp - entry->registers_end <= kRedZone + kAlignmentGap;
  entry->stack_pointer = same_stack ? entry->registers : sp - kRedZone;
}

void Stand(const ucontext_t* context) {
  const uint32_t stop = held.load(std::memory_order_acquire);
  Table* const in = table.load(std::memory_order_acquire);
  if (stop == 0 || in == nullptr) return;  // late
  Entry* const entry = Find(in, os::ThreadIdOfKernel());
  uint32_t expected = kSent | stop << kStateBits;
  if (entry == nullptr || !entry->state.compare_exchange_strong(expected, kTaking | stop << kStateBits)) return;
  NoteRegisters(entry, context);
  entry->state.store(kTaken | stop << kStateBits, std::memory_order_release);
  // Sequentially consistent, with the caller's store of `wanted` and look at `taken`: one of us sees the other.
  if (taken.fetch_add(1, std::memory_order_seq_cst) + 1 >= wanted.load(std::memory_order_seq_cst)) WakeAll(taken);
  const uint64_t limit_us = NowUs() + kLongestHold_us;
  while (held.load(std::memory_order_acquire) == stop && NowUs() < limit_us) Wait(held, stop, kLongestHold_us);
}

void OnStop(int, siginfo_t* info, void* context) {
  // Somebody else's signal would have ended the process, had we not been here: it will.
  if (info->si_code != SI_TKILL || static_cast<uint32_t>(info->si_pid) != os::ProcessId()) {
    foreign_signals.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  inside.fetch_add(1, std::memory_order_relaxed);
  Stand(static_cast<const ucontext_t*>(context));
  inside.fetch_sub(1, std::memory_order_relaxed);
}

bool InstallHandler(uint64_t own_mask) {
  // All signals wait meanwhile: a stopped thread runs no handler of the program. On the alternate stack where there is
  // one: programs whose ordinary stacks have no room for a signal's frame (Go's) insist on that.
  const KernelAction ours{OnStop, SA_SIGINFO | SA_RESTART | SA_ONSTACK | kRestorer, tidemark_restore_rt, kAllSignals};
  if (signal_number != 0) {  // left there by Resume()
    KernelAction now;
    if (!os::IsError(SetAction(signal_number, nullptr, &now)) && now.handler == OnStop) return true;
    signal_number = 0;
  }
  // A signal that the program waits for with sigwait or signalfd has the default disposition, too, but is blocked.
  const uint64_t shunned_masks[] = {own_mask, 0};
  for (const uint64_t shunned : shunned_masks) {
    for (int number = kHighestSignal; number >= kLowestSignal; number--) {
      if ((shunned & SignalBit(number)) != 0) continue;
      if (os::IsError(SetAction(number, nullptr, &action_before)) || action_before.handler != nullptr) continue;
      if (os::IsError(SetAction(number, &ours, &action_before))) continue;
      if (action_before.handler != nullptr) {  // taken by the program just now
        SetAction(number, &action_before, nullptr);
        continue;
      }
      signal_number = number;
      return true;
    }
  }
  return false;
}

// `pending`: signals of ours may not have been taken yet.
void RemoveHandler(bool pending) {
  KernelAction now;
  if (signal_number == 0 || os::IsError(SetAction(signal_number, nullptr, &now))) return;
  if (now.handler != OnStop) {  // the program has a handler of its own for it now
    signal_number = 0;
    return;
  }
  if (pending) {
    // A thread that has blocked the signal in the meantime, or cannot run, still has it before it, and would die of it
    // one day. Ignoring a signal makes the kernel forget it wherever it is pending. One that the program has sent to
    // itself would be forgotten, too: then the handler stays, and the next stop looks again.
    TaskStatus status;
    Table* const in = table.load(std::memory_order_relaxed);
    if (!ReadTaskStatus(0, in->scratch, &status) || (status.shared_pending & SignalBit(signal_number)) != 0) return;
    const KernelAction ignored{__builtin_bit_cast(decltype(KernelAction::handler), SIG_IGN), 0, nullptr, 0};
    SetAction(signal_number, &ignored, nullptr);
  }
  SetAction(signal_number, &action_before, nullptr);
  signal_number = 0;
}

// Calls that the kernel starts again, unseen by the program, whatever they wait for.
bool IsAlwaysRestarted(const TaskCall& call) {
  switch (call.number) {
    case -1:
    case SYS_wait4:
    case SYS_waitid:
      return true;
    case SYS_futex: {
      const auto operation = static_cast<int>(call.arguments[1]) & FUTEX_CMD_MASK;
      return call.arguments[3] == 0 && (operation == FUTEX_WAIT || operation == FUTEX_WAIT_BITSET);
    }
    default:
      return false;
  }
}

// One stop's view of the threads.
class Census {
 public:
  Census(Table* table, uint32_t capacity, uint64_t deadline_us, StopManner manner)
      : table_(table),
        capacity_(capacity < kMaxThreads ? capacity : kMaxThreads),
        patience_us_(deadline_us / kStartShare),
        manner_(manner),
        pid_(os::ProcessId()),
        own_tid_(os::ThreadIdOfKernel()) {}

  // Notes all threads that are there. False: the list could not be read.
  bool Look(uint64_t elapsed_us) {
    pass_++;
    unlisted_ = 0;
    const uint32_t known = table_->count;
    uint32_t tid;
    TaskFolder folder(table_->folder, sizeof(table_->folder));
    while (folder.Next(&tid)) {
      if (tid == own_tid_) continue;
      Entry* entry = Find(table_, tid);
      if (entry == nullptr || (entry->tid == 0 && table_->count == capacity_)) {
        unlisted_++;
        continue;
      }
      if (entry->tid == 0) {
        entry->tid = tid;
        table_->order[table_->count++] = static_cast<uint32_t>(entry - table_->entries);
        SetState(entry, kSeen);
      }
      entry->pass = pass_;
    }
    if (folder.failed()) return false;
    // Two rounds: what takes long is asked while all still run.
    for (uint32_t i = 0; i < table_->count; i++) {
      Entry* entry = &At(i);
      const uint32_t state = StateOf(*entry);
      if (entry->pass != pass_ && state != kTaken) SetState(entry, kGone);
      const bool may_start = state == kBlocked && elapsed_us < patience_us_;
      if (entry->pass == pass_ && (state == kSeen || may_start)) Examine(entry);
    }
    for (uint32_t i = 0; i < table_->count; i++) {
      if (StateOf(At(i)) == kSeen) Send(&At(i));
    }
    found_new_ = table_->count != known;
    return true;
  }

  // Nothing that another look could change.
  bool IsSettled(uint64_t elapsed_us) const {
    if (found_new_) return false;
    for (uint32_t i = 0; i < table_->count; i++) {
      const Entry& entry = At(i);
      const uint32_t state = StateOf(entry);
      if (state == kSent || state == kTaking) return false;
      if (state == kBlocked && entry.scheduler_state != 'S' && elapsed_us < patience_us_) return false;
    }
    return true;
  }

  void WaitForMore(uint64_t limit_us) {
    const uint32_t seen = taken.load(std::memory_order_seq_cst);
    uint32_t sent = 0;
    for (uint32_t i = 0; i < table_->count; i++) {
      const uint32_t state = StateOf(At(i));
      sent += state == kSent || state == kTaking || state == kTaken;
    }
    wanted.store(sent, std::memory_order_seq_cst);
    if (taken.load(std::memory_order_seq_cst) != seen || (found_new_ && sent == seen)) return;
    Wait(taken, seen, limit_us < kSlice_us ? limit_us : kSlice_us);
  }

  // Writes the result; the number of threads written, and in *not_still those that run.
  uint32_t Report(StoppedThread* threads, uint32_t* not_still) {
    uint32_t written = 0;
    *not_still = unlisted_;
    for (uint32_t i = 0; i < table_->count; i++) {
      Entry* entry = &At(i);
      uint32_t state = StateOf(*entry);
      if (state == kGone) continue;
      // Sent, and asleep all the same: it wakes up into our handler.
      if (state == kSent || state == kBlocked || state == kRefused) {
        if (!NoteCall(entry)) {
          entry->stack_pointer = 0;
          if (entry->is_of_kernel || HasEnded(entry->tid)) continue;
        }
        state = entry->stack_pointer != 0 ? kAsleep : state;
      }
      StoppedThread& out = threads[written++];
      out = StoppedThread{};
      out.tid = entry->tid;
      out.stopped = state == kTaken;
      out.asleep = state == kAsleep;
      out.stack_pointer = entry->stack_pointer;
      out.switches = entry->switches;
      if (out.stopped) {
        out.registers = entry->registers;
        out.registers_end = entry->registers_end;
      }
      if (out.asleep) __builtin_memcpy(out.arguments, entry->arguments, sizeof(out.arguments));
      *not_still += !out.stopped && !out.asleep;
    }
    return written;
  }

 private:
  Entry& At(uint32_t i) const { return table_->entries[table_->order[i]]; }

  bool HasEnded(uint32_t tid) {
    TaskStatus status;
    return !ReadTaskStatus(tid, table_->scratch, &status) || status.state == 'Z' || status.state == 'X';
  }

  // Leaves kSeen to a thread that is to get the signal.
  void Examine(Entry* entry) {
    const bool asleep = manner_ == StopManner::kConsiderate && NoteCall(entry) && !restarted_;
    TaskStatus status;
    if (!ReadTaskStatus(entry->tid, table_->scratch, &status)) return SetState(entry, kRefused);
    entry->scheduler_state = status.state;
    entry->switches = status.switches;
    if (status.state == 'Z' || status.state == 'X') {  // a main thread that has ended stays in the list
      SetState(entry, kGone);
    } else if ((status.blocked & SignalBit(signal_number)) != 0) {
      SetState(entry, kBlocked);
    } else {
      SetState(entry, asleep ? kAsleep : kSeen);
    }
  }

  // Where the thread sleeps, if it does.
  bool NoteCall(Entry* entry) {
    TaskCall call;
    if (!ReadTaskCall(entry->tid, table_->scratch, &call)) return false;
    // A thread without an instruction to return to is the kernel's own (io_uring).
    entry->is_of_kernel = call.stack_pointer == 0 && call.instruction == 0;
    if (entry->is_of_kernel) return false;
    restarted_ = IsAlwaysRestarted(call);
    entry->stack_pointer = call.stack_pointer - kRedZone;
    __builtin_memcpy(entry->arguments, call.arguments, sizeof(entry->arguments));
    return true;
  }

  void Send(Entry* entry) {
    constexpr long kEsrch = 3;
    SetState(entry, kSent);
    const long result = os::Syscall(SYS_tgkill, pid_, entry->tid, signal_number);
    if (os::IsError(result)) SetState(entry, result == -kEsrch ? kGone : kRefused);
  }

  Table* const table_;
  const uint32_t capacity_;
  const uint64_t patience_us_;
  const StopManner manner_;
  const uint32_t pid_, own_tid_;
  uint32_t pass_ = 0, unlisted_ = 0;
  bool found_new_ = false;
  bool restarted_ = false;  // of the call that was noted last
};

}  // namespace

bool WorldStop::Stop(StoppedThread* threads, uint32_t capacity, uint64_t deadline_us, StopManner manner) {
  count_ = not_still_ = 0;
  constexpr long kNeeded[] = {SYS_futex, SYS_rt_sigreturn, SYS_clock_gettime};
  for (const long number : kNeeded) {
    if (os::IsForbidden(number)) return false;
  }
  const uint32_t pid = os::ProcessId();
  uint32_t other = user.load(std::memory_order_relaxed);
  if (active_ || other == pid || !user.compare_exchange_strong(other, pid, std::memory_order_acquire)) return false;
  active_ = true;
  SetMask(SIG_SETMASK, kAllSignals, &old_mask_);
  Table* in = table.load(std::memory_order_relaxed);
  if (in == nullptr) {
    in = static_cast<Table*>(own_memory::Map(sizeof(Table)));
    if (in == nullptr) return false;
    table.store(in, std::memory_order_release);
  } else {
    os::Advise(in, sizeof(Table), MADV_DONTNEED);
  }
  // Those that the last stop has let go, but that have had no processor since, still block all signals.
  if (last_process != pid) inside.store(0, std::memory_order_relaxed);
  last_process = pid;
  const uint64_t called_us = NowUs();
  while (inside.load(std::memory_order_relaxed) != 0 && NowUs() - called_us < deadline_us) Wait(held, 0, kSlice_us);
  if (!InstallHandler(old_mask_)) return false;
  last_number = last_number % (~0u >> kStateBits) + 1;
  taken.store(0, std::memory_order_relaxed);
  wanted.store(~0u, std::memory_order_relaxed);
  held.store(last_number, std::memory_order_release);
  const uint64_t start_us = NowUs();
  Census census(in, capacity, deadline_us, manner);
  bool listed;
  for (;;) {
    listed = census.Look(NowUs() - start_us);
    const uint64_t elapsed_us = NowUs() - start_us;
    if (!listed || census.IsSettled(elapsed_us) || elapsed_us >= deadline_us) break;
    census.WaitForMore(deadline_us - elapsed_us);
  }
  count_ = census.Report(threads, &not_still_);
  return listed && not_still_ == 0;
}

bool WorldStop::StillAsleep(const StoppedThread* threads) const {
  Table* const in = table.load(std::memory_order_relaxed);
  for (uint32_t i = 0; i < count_; i++) {
    TaskStatus now;
    if (!threads[i].asleep) continue;
    if (!ReadTaskStatus(threads[i].tid, in->scratch, &now) || now.switches != threads[i].switches) return false;
  }
  return true;
}

void WorldStop::Resume() {
  if (!active_) return;
  active_ = false;
  bool pending = false;
  if (Table* const in = table.load(std::memory_order_relaxed); in != nullptr && signal_number != 0) {
    for (uint32_t i = 0; i < in->count; i++) pending |= StateOf(in->entries[in->order[i]]) == kSent;
  }
  const int number = signal_number;
  RemoveHandler(pending);
  held.store(0, std::memory_order_release);
  WakeAll(held);
  if (foreign_signals.exchange(0, std::memory_order_relaxed) != 0) os::Syscall(SYS_kill, os::ProcessId(), number);
  SetMask(SIG_SETMASK, old_mask_, nullptr);
  user.store(0, std::memory_order_release);
}

}  // namespace tidemark
