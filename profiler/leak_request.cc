// The handler; see leak_request.h.
#include "profiler/leak_request.h"

#include <ucontext.h>

#include "profiler/leak_check.h"
#include "profiler/os.h"
#include "profiler/recorder.h"
#include "profiler/ring_writer.h"
#include "profiler/signal_action.h"

namespace tidemark::leak_request {
namespace {

constexpr int kSignal = SIGURG;
constexpr uintptr_t kRedZone = 128;

bool is_ours = false;

void Look(uint32_t request, const ucontext_t* context) {
  const auto sp = static_cast<uintptr_t>(context->uc_mcontext.gregs[REG_RSP]);
  const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  // The interrupted thread's vector registers lie in the signal's frame: on its own stack right below what it uses.
  constexpr uintptr_t kLargestFrame = 32 << 10;
  const bool same_stack = here < sp && sp - here < kLargestFrame;
  leak_check::Caller caller;
  caller.stack_pointer = same_stack ? reinterpret_cast<uintptr_t>(context) : sp - kRedZone;
  caller.registers = reinterpret_cast<const uint64_t*>(context->uc_mcontext.gregs);
  caller.register_count = REG_RIP;
  leak_check::Manner manner;
  manner.in_copy = true;
  manner.or_in_place = (request & kLeakInPlace) != 0;
  manner.considerate = (request & kLeakExact) == 0;
  leak_check::Run(LeakTrigger::kOnDemand, caller, manner);
}

void OnSignal(int, siginfo_t*, void* context) {
  if (recorder::ForkedAway()) return;
  SessionHeader* const header = session.header;
  const uint32_t request = header->leak_request.load(std::memory_order_acquire);
  uint32_t taken = header->leak_taken.load(std::memory_order_relaxed);
  if (request == taken) return;
  // In the middle of an event: what it is about is in no table yet. The collector asks again.
  const ThreadState* thread = recorder::this_thread;
  if (thread != nullptr && thread->busy_sp != 0) return;
  if (!header->leak_taken.compare_exchange_strong(taken, request, std::memory_order_acq_rel)) return;
  Look(request, static_cast<const ucontext_t*>(context));
}

}  // namespace

void Start() {
  const KernelAction ours{OnSignal, SA_SIGINFO | SA_RESTART | SA_ONSTACK | kRestorer, tidemark_restore_rt, 0};
  KernelAction before;
  if (os::IsError(SetAction(kSignal, nullptr, &before)) || before.handler != nullptr) return;
  is_ours = !os::IsError(SetAction(kSignal, &ours, nullptr));
  Tell();
}

void Tell() {
  if (is_ours) session.header->leak_signal.store(kSignal, std::memory_order_relaxed);
}

}  // namespace tidemark::leak_request
