// The exported functions, which are assembly, and what they call when leaks are looked for; see exit_hooks.h.
#include "interpose/exit_hooks.h"

#include <dlfcn.h>
#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include "interpose/hook_table.h"
#include "interpose/hot_state.h"
#include "interpose/lifecycle.h"
#include "interpose/sample_region.h"
#include "profiler/leak_check.h"
#include "profiler/module_map.h"
#include "profiler/os.h"
#include "profiler/signal_action.h"

namespace tidemark::exits {
namespace {

enum Way : uint32_t {
#define TIDEMARK_WAY(name) k_##name,
  TIDEMARK_EXITS(TIDEMARK_WAY)
#undef TIDEMARK_WAY
      kWays
};

// What the trampoline saves, from low addresses to high ones.
struct SavedRegisters {
  uint64_t rdi, rsi, rdx, rcx, r8, r9;  // arguments
  uint64_t rbx, r12, r13, r14, r15, rbp;
};
constexpr uint32_t kAllRegisters = 12, kKeptRegisters = 6;

}  // namespace

extern "C" {

// 0: straight on to the next definition. Else tidemark_leaving() is asked first.
uint8_t tidemark_exits_watched __attribute__((visibility("hidden"))) = 1;
void* tidemark_next_exits[kWays] __attribute__((visibility("hidden"))) = {};
void* tidemark_leaving(uint32_t way, SavedRegisters* registers, uintptr_t stack_pointer)
    __attribute__((visibility("hidden")));

// %r10d, in which no C function is passed anything, tells the way.
asm(".set tidemark_way, 0");
#define TIDEMARK_TRAMPOLINE(name)                             \
  asm("  .text\n"                                             \
      "  .p2align 4\n"                                        \
      "  .globl " #name                                       \
      "\n"                                                    \
      "  .type " #name ", @function\n" #name                  \
      ":\n"                                                   \
      "  .cfi_startproc\n"                                    \
      "  cmpb $0, tidemark_exits_watched(%rip)\n"             \
      "  jne 1f\n"                                            \
      "  jmp *tidemark_next_exits + 8 * tidemark_way(%rip)\n" \
      "1: movl $tidemark_way, %r10d\n"                        \
      "  jmp tidemark_exit_watched\n"                         \
      "  .cfi_endproc\n"                                      \
      "  .size " #name ", . - " #name                         \
      "\n"                                                    \
      "  .set tidemark_way, tidemark_way + 1\n");
TIDEMARK_EXITS(TIDEMARK_TRAMPOLINE)
#undef TIDEMARK_TRAMPOLINE

asm(R"(
  .text
  .p2align 4
  .type tidemark_exit_watched, @function
tidemark_exit_watched:
  .cfi_startproc
  pushq %rbp
  .cfi_def_cfa_offset 16
  .cfi_offset %rbp, -16
  movq %rsp, %rbp
  .cfi_def_cfa_register %rbp
  pushq %r15
  pushq %r14
  pushq %r13
  pushq %r12
  pushq %rbx
  pushq %r9
  pushq %r8
  pushq %rcx
  pushq %rdx
  pushq %rsi
  pushq %rdi
  pushq %rax
  movl %r10d, %edi
  leaq 8(%rsp), %rsi
  leaq 16(%rbp), %rdx
  call tidemark_leaving
  movq %rax, %r11
  popq %rax
  popq %rdi
  popq %rsi
  popq %rdx
  popq %rcx
  popq %r8
  popq %r9
  popq %rbx
  popq %r12
  popq %r13
  popq %r14
  popq %r15
  popq %rbp
  .cfi_def_cfa %rsp, 8
  jmp *%r11
  .cfi_endproc
  .size tidemark_exit_watched, . - tidemark_exit_watched
)");

}  // extern "C"

namespace {

using Main = int (*)(int, char**, char**);
Main real_main = nullptr;
// Of whoever called exit, or main: destructors run below, and what their calls leave there is no root.
uintptr_t last_stack_pointer = 0;
uint32_t last_thread = 0;

void Look(LeakTrigger trigger, uintptr_t stack_pointer, const uint64_t* registers = nullptr, uint32_t count = 0) {
  last_stack_pointer = stack_pointer;
  last_thread = os::ThreadId();
  leak_check::Run(trigger, {stack_pointer, registers, count});
}

// Stands in for main.
int RunMain(int argument_count, char** arguments, char** environment) {
  const int status = real_main(argument_count, arguments, environment);
  Look(LeakTrigger::kExitBefore, reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) + 16);
  return status;
}

// A shell tries a command in one folder after the other: what cannot be executed is not the end.
bool CanExecute(uint64_t path) {
  constexpr long kExecutable = X_OK;
  return !os::IsError(os::Syscall(SYS_access, static_cast<long>(path), kExecutable));
}

void LookBeforeExec(uint32_t way, const SavedRegisters& registers, uintptr_t stack_pointer) {
  switch (way) {
    case k_execve:
    case k_execv:
    case k_execl:
    case k_execle:
      if (!CanExecute(registers.rdi)) return;
      break;
    default:
      break;
  }
  // Its arguments may be all that leads to them.
  Look(LeakTrigger::kExec, stack_pointer, &registers.rdi, kAllRegisters);
}

// The program neither handles nor ignores the signal: it is about to die of it, and does when this returns.
void OnSignal(int number, siginfo_t* /*info*/, void* context) {
  constexpr uintptr_t kRedZone = 128;
  const auto& saved = static_cast<const ucontext_t*>(context)->uc_mcontext.gregs;
  static_assert(REG_R8 == 0 && REG_RSP == 15, "general registers stand in front of the stack pointer");
  uint64_t registers[REG_RSP];
  for (int i = 0; i < REG_RSP; i++) registers[i] = static_cast<uint64_t>(saved[i]);
  Look(LeakTrigger::kSignal, static_cast<uintptr_t>(saved[REG_RSP]) - kRedZone, registers, REG_RSP);
  const KernelAction default_action{};
  SetAction(number, &default_action, nullptr);
  os::Syscall(SYS_tgkill, os::ProcessId(), os::ThreadId(), number);
}

void WatchSignal(int number) {
  KernelAction before{};
  if (os::IsError(SetAction(number, nullptr, &before)) || before.handler != nullptr) return;
  const KernelAction ours{OnSignal, SA_SIGINFO | SA_ONSTACK | kRestorer, tidemark_restore_rt, kAllSignals};
  SetAction(number, &ours, nullptr);
}

// Stands for what this libc does not have, so that nobody can call it.
long NotThere() { return -1; }

// The live blocks of the sampled region, for a check.
bool NextInRegion(uint64_t* from, uint64_t* block, uint64_t* size, bool* sampled) {
  return region::NextLive(from, block, size, sampled);
}

}  // namespace

extern "C" void* tidemark_leaving(uint32_t way, SavedRegisters* registers, uintptr_t stack_pointer) {
  if (tidemark_next_exits[way] == nullptr) Resolve();  // musl calls __libc_start_main before any constructor
  if (leak_check::IsOn()) {
    const uint64_t* kept = &registers->rbx;
    switch (way) {
      case k___libc_start_main:
        real_main = reinterpret_cast<Main>(registers->rdi);
        registers->rdi = reinterpret_cast<uint64_t>(&RunMain);
        break;
      case k_exit:
        Look(LeakTrigger::kExitBefore, stack_pointer, kept, kKeptRegisters);
        break;
      case k__exit:
      case k__Exit:
        Look(LeakTrigger::kUnderscoreExit, stack_pointer, kept, kKeptRegisters);
        break;
      case k_quick_exit:
        Look(LeakTrigger::kQuickExit, stack_pointer, kept, kKeptRegisters);
        break;
      case k_abort:
        Look(LeakTrigger::kAbort, stack_pointer, kept, kKeptRegisters);
        break;
      default:
        LookBeforeExec(way, *registers, stack_pointer);
    }
  }
  return tidemark_next_exits[way];
}

void Resolve() {
  constexpr const char* kNames[] = {
#define TIDEMARK_NAME(name) #name,
      TIDEMARK_EXITS(TIDEMARK_NAME)
#undef TIDEMARK_NAME
  };
  for (uint32_t way = 0; way < kWays; way++) {
    void* next = dlsym(RTLD_NEXT, kNames[way]);
    tidemark_next_exits[way] = next != nullptr ? next : reinterpret_cast<void*>(&NotThere);
  }
  tidemark_exits_watched = 0;
}

void Start(const Options& options) {
  leak_check::Heap heap = {};
  heap.heap_start = hot.base;
  heap.heap_end = hot.base + hot.heap_length;
  region::Bounds(&heap.region_start, &heap.region_end);
  heap.usable_size = hot.usable_size;
  heap.next_in_region = NextInRegion;
  ModuleView allocator;
  if (FindModule(reinterpret_cast<uintptr_t>(hot.malloc), &allocator)) {
    heap.module_start = allocator.start;
    heap.module_end = allocator.end;
  }
  leak_check::Start(heap);
  if (options.leak_check_signal != 0) WatchSignal(static_cast<int>(options.leak_check_signal));
  tidemark_exits_watched = 1;
}

void AfterDestructors(uintptr_t stack_pointer) {
  if (!leak_check::IsOn()) return;
  const bool same_thread = last_thread == os::ThreadId() && last_stack_pointer > stack_pointer;
  Look(LeakTrigger::kExitAfter, same_thread ? last_stack_pointer : stack_pointer);
}

}  // namespace tidemark::exits
