// The handler, and reports of guarded slots; see guard_faults.h.
#include "interpose/guard_faults.h"

#include <errno.h>
#include <signal.h>
#include <ucontext.h>

#include "profiler/os.h"
#include "profiler/signal_action.h"

namespace tidemark::guard {
namespace {

KernelAction before_us;
bool die_of_errors = false;
std::atomic<bool> armed{false};

void Send(int number) { os::Syscall(SYS_tgkill, os::ProcessId(), os::ThreadId(), number); }

// As abort() does it, without its lock and its flushing.
void Abort() {
  const KernelAction fallback{};  // SIG_DFL
  SetMask(SIG_UNBLOCK, SignalBit(SIGABRT), nullptr);
  Send(SIGABRT);
  SetAction(SIGABRT, &fallback, nullptr);
  Send(SIGABRT);
}

void Tell(ThreadState* thread, GuardReport* report, const UnwindStart& from) {
  ForgetStacksOfOthers(recorder::ImageNumber(), report);
  recorder::OnGuardReport(thread, *report, from);
}

void Disarm() {
  if (!armed.exchange(false, std::memory_order_relaxed)) return;
  GiveUp();
  recorder::CountGuardsGivenUp();
}

// This signal is not for us: whatever was there before us gets it, now and from now on.
void PassOn(int number, siginfo_t* info) {
  Disarm();
  SetAction(number, &before_us, nullptr);
  // A fault happens again when the handler returns. A signal that somebody sent does not.
  const bool sent = info->si_code <= 0;
  if (sent) {
    os::Syscall(SYS_rt_tgsigqueueinfo, os::ProcessId(), os::ThreadId(), number, reinterpret_cast<long>(info));
  }
}

void OnFault(int number, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  GuardReport report;
  const bool sent = info->si_code <= 0;
  const bool in_zone = !sent && Contains(info->si_addr);
  const uintptr_t address = reinterpret_cast<uintptr_t>(info->si_addr);
  const Fault fault = in_zone ? ExamineFault(address, &report) : Fault::kForeign;
  if (fault == Fault::kForeign) {
    PassOn(number, info);
    errno = saved_errno;
    return;
  }
  const auto* registers = static_cast<const ucontext_t*>(context)->uc_mcontext.gregs;
  if (fault == Fault::kError) {
    constexpr unsigned long kErrorIsWrite = 2;
    report.access =
        (static_cast<unsigned long>(registers[REG_ERR]) & kErrorIsWrite) != 0 ? Access::kWrite : Access::kRead;
    // Frames are looked up one byte in front of their address, which for a call's return address is the call.
    const UnwindStart from{static_cast<uintptr_t>(registers[REG_RIP]) + 1, static_cast<uintptr_t>(registers[REG_RSP]),
                           static_cast<uintptr_t>(registers[REG_RBP])};
    ThreadState* thread = recorder::EnterUncounted(reinterpret_cast<uintptr_t>(__builtin_frame_address(0)));
    Tell(thread, &report, from);
    if (thread != nullptr) recorder::Leave(thread);
    if (die_of_errors) {
      SetAction(number, &before_us, nullptr);  // the access faults again, and a core dump shows it
      errno = saved_errno;
      return;
    }
  }
  Open(address);
  errno = saved_errno;
}

bool IsArmed() {
  KernelAction now{};
  if (os::IsError(SetAction(SIGSEGV, nullptr, &now)) || now.handler == OnFault) return true;
  Disarm();
  return false;
}

StackOfThread StackHere(ThreadState* thread, uint32_t node) { return {node, thread == nullptr ? 0 : thread->serial}; }

}  // namespace

bool Arm(bool die) {
  die_of_errors = die;
  const KernelAction ours{OnFault, SA_SIGINFO | SA_ONSTACK | kRestorer, tidemark_restore_rt, 0};
  armed.store(!os::IsError(SetAction(SIGSEGV, &ours, &before_us)), std::memory_order_relaxed);
  return armed.load(std::memory_order_relaxed);
}

void* AllocateArmed(size_t size) {
  if (!armed.load(std::memory_order_relaxed) || !IsArmed()) return nullptr;
  return Allocate(size);
}

void NoteAllocation(ThreadState* thread, const void* block, const UnwindStart& from) {
  SetAllocation(block, StackHere(thread, recorder::StackNumber(thread, from)), recorder::ImageNumber());
}

void ReleaseAny(ThreadState* thread, void* pointer, const UnwindStart& from) {
  GuardReport report;
  bool wrong = FindDamage(pointer, &report);
  if (wrong) Tell(thread, &report, from);
  if (LiveSize(pointer) != 0) {
    const uint32_t node = thread == nullptr ? 0 : recorder::StackNumber(thread, from);
    if (thread != nullptr) recorder::OnFree(thread, pointer);
    if (Release(pointer, StackHere(thread, node), recorder::ImageNumber())) {
      if (wrong && die_of_errors) Abort();
      return;
    }
  }
  ExamineRelease(pointer, &report);
  Tell(thread, &report, from);
  if (die_of_errors) Abort();
}

}  // namespace tidemark::guard
