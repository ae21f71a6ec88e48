// Runs seccomp filters; see sandbox.h.
#include "profiler/sandbox.h"

#include <linux/audit.h>
#include <sys/prctl.h>

#include "profiler/os.h"

namespace tidemark::sandbox {
namespace {

uint32_t FieldOf(const seccomp_data& call, uint32_t offset) {
  uint32_t field = 0;
  if (offset <= sizeof(call) - sizeof(field)) {
    __builtin_memcpy(&field, reinterpret_cast<const char*>(&call) + offset, sizeof(field));
  }
  return field;
}

// False: unknown operation, or division by nothing.
bool Compute(uint16_t code, uint32_t operand, uint32_t* a) {
  switch (BPF_OP(code)) {
    case BPF_ADD:
      *a += operand;
      return true;
    case BPF_SUB:
      *a -= operand;
      return true;
    case BPF_MUL:
      *a *= operand;
      return true;
    case BPF_DIV:
      if (operand == 0) return false;
      *a /= operand;
      return true;
    case BPF_OR:
      *a |= operand;
      return true;
    case BPF_AND:
      *a &= operand;
      return true;
    case BPF_XOR:
      *a ^= operand;
      return true;
    case BPF_LSH:
      *a <<= operand & 31;
      return true;
    case BPF_RSH:
      *a >>= operand & 31;
      return true;
    case BPF_NEG:
      *a = -*a;
      return true;
    default:
      return false;
  }
}

// False: unknown comparison.
bool Compare(uint16_t code, uint32_t a, uint32_t operand, bool* holds) {
  switch (BPF_OP(code)) {
    case BPF_JEQ:
      *holds = a == operand;
      return true;
    case BPF_JGT:
      *holds = a > operand;
      return true;
    case BPF_JGE:
      *holds = a >= operand;
      return true;
    case BPF_JSET:
      *holds = (a & operand) != 0;
      return true;
    default:
      return false;
  }
}

bool IsDeadly(uint32_t answer) {
  switch (answer & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ALLOW:
    case SECCOMP_RET_LOG:
    case SECCOMP_RET_ERRNO:
    case SECCOMP_RET_TRACE:  // ENOSYS when nobody traces
      return false;
    default:  // death, a signal, or a supervisor who would wonder
      return true;
  }
}

// Calls whose arguments filters look at: as we make them. Of the others every argument counts as 0.
struct Usual {
  uint32_t number;
  uint64_t arguments[4];
};
constexpr uint64_t kAnonymous = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
constexpr Usual kUsual[] = {
    {SYS_mmap, {0, 4096, PROT_READ | PROT_WRITE, kAnonymous}},
    {SYS_mmap, {0, 4096, PROT_NONE, kAnonymous}},
    {SYS_mprotect, {4096, 4096, PROT_READ | PROT_WRITE, 0}},
    {SYS_mprotect, {4096, 4096, PROT_NONE, 0}},
    {SYS_munmap, {4096, 4096, 0, 0}},
    {SYS_madvise, {4096, 4096, MADV_DONTNEED, 0}},
    {SYS_futex, {4096, FUTEX_WAIT, 0, 0}},
    {SYS_futex, {4096, FUTEX_CMP_REQUEUE_PRIVATE, 0, 0}},
    {SYS_prctl, {PR_GET_NAME, 4096, 0, 0}},
    {SYS_clock_gettime, {CLOCK_MONOTONIC, 4096, 0, 0}},
};

}  // namespace

uint32_t AnswerOf(const sock_fprog& program, const seccomp_data& call) {
  uint32_t a = 0, x = 0, memory[BPF_MEMWORDS] = {};
  for (uint32_t at = 0; at < program.len;) {
    const sock_filter& step = program.filter[at++];
    const uint32_t operand = BPF_SRC(step.code) == BPF_X ? x : step.k;
    switch (BPF_CLASS(step.code)) {
      case BPF_LD:
      case BPF_LDX: {
        uint32_t value = step.k;  // BPF_IMM
        if (BPF_MODE(step.code) == BPF_ABS) value = FieldOf(call, step.k);
        if (BPF_MODE(step.code) == BPF_LEN) value = sizeof(call);
        if (BPF_MODE(step.code) == BPF_MEM) value = memory[step.k % BPF_MEMWORDS];
        (BPF_CLASS(step.code) == BPF_LD ? a : x) = value;
        break;
      }
      case BPF_ST:
        memory[step.k % BPF_MEMWORDS] = a;
        break;
      case BPF_STX:
        memory[step.k % BPF_MEMWORDS] = x;
        break;
      case BPF_ALU:
        if (!Compute(step.code, operand, &a)) return SECCOMP_RET_KILL_PROCESS;
        break;
      case BPF_JMP: {
        bool holds = false;
        if (BPF_OP(step.code) == BPF_JA) {
          at += step.k;
        } else if (Compare(step.code, a, operand, &holds)) {
          at += holds ? step.jt : step.jf;
        } else {
          return SECCOMP_RET_KILL_PROCESS;
        }
        break;
      }
      case BPF_RET:
        return BPF_RVAL(step.code) == BPF_A ? a : step.k;
      default:  // BPF_MISC
        if (BPF_MISCOP(step.code) == BPF_TXA)
          a = x;
        else
          x = a;
        break;
    }
  }
  return SECCOMP_RET_KILL_PROCESS;
}

void OnFilter(const sock_fprog& program) {
  seccomp_data call{};
  call.arch = AUDIT_ARCH_X86_64;
  const auto look = [&] {
    if (IsDeadly(AnswerOf(program, call))) os::Forbid(static_cast<uint32_t>(call.nr));
  };
  for (uint32_t number = 0; number < os::kSystemCalls; number++) {
    bool is_usual = false;
    call.nr = static_cast<int>(number);
    for (const Usual& usual : kUsual) {
      if (usual.number != number) continue;
      is_usual = true;
      for (uint32_t i = 0; i < 4; i++) call.args[i] = usual.arguments[i];
      look();
    }
    for (auto& argument : call.args) argument = 0;
    if (!is_usual) look();
  }
}

void OnStrict() {
  for (uint32_t number = 0; number < os::kSystemCalls; number++) os::Forbid(number);
  OnNoClock();
}

void OnNoClock() {
  if (os::frozen_tsc.load(std::memory_order_relaxed) == 0) {
    os::frozen_tsc.store(os::Tsc(), std::memory_order_relaxed);
  }
}

}  // namespace tidemark::sandbox
