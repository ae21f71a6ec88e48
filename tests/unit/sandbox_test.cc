// Seccomp filters as the profiler runs them, compared with the kernel: each program is installed in a child, which then
// makes a system call and tells its answer. Must not: lock in the test itself.
#include "profiler/sandbox.h"

#include <gtest/gtest.h>
#include <linux/audit.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <random>
#include <vector>

#include "profiler/os.h"

namespace tidemark {
namespace {

using Filter = std::vector<sock_filter>;

sock_fprog ProgramOf(Filter& filter) { return {static_cast<unsigned short>(filter.size()), filter.data()}; }

sock_filter Statement(int code, uint32_t k) { return BPF_STMT(static_cast<unsigned short>(code), k); }
sock_filter Jump(int code, uint32_t k, int yes, int no) {
  return BPF_JUMP(static_cast<unsigned short>(code), k, static_cast<unsigned char>(yes),
                  static_cast<unsigned char>(no));
}

constexpr long kArguments[6] = {0x1122334455667788, -3, 7, 0, 0x7fffffff, 42};

seccomp_data Call(int number) {
  seccomp_data call{};
  call.nr = number;
  call.arch = AUDIT_ARCH_X86_64;
  for (int i = 0; i < 6; i++) call.args[i] = static_cast<uint64_t>(kArguments[i]);
  return call;
}

// What the kernel does with a call that the filter answers with an error: its errno. -1: no such filter can be had.
// -2: the child was killed.
int KernelsErrno(Filter& filter) {
  const sock_fprog program = ProgramOf(filter);
  const pid_t child = fork();
  if (child == 0) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
      _exit(255);
    }
    errno = 0;
    const long result =
        syscall(SYS_getppid, kArguments[0], kArguments[1], kArguments[2], kArguments[3], kArguments[4], kArguments[5]);
    _exit(result < 0 ? errno : 0);
  }
  int status = 0;
  if (waitpid(child, &status, 0) != child) return -1;
  if (!WIFEXITED(status)) return -2;
  return WEXITSTATUS(status) == 255 ? -1 : WEXITSTATUS(status);
}

// Random straight-line arithmetic with forward jumps; ends by answering getppid with an error from 1 to 127 made of A,
// and everything else with leave.
Filter RandomFilter(std::mt19937& random) {
  const auto pick = [&](uint32_t n) { return static_cast<uint32_t>(random() % n); };
  Filter filter = {Statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                   Jump(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 1, 0), Statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  for (uint32_t i = 0; i < 4; i++) {  // the kernel refuses to load what was not stored
    filter.push_back(Statement(BPF_LD | BPF_IMM, static_cast<uint32_t>(random())));
    filter.push_back(Statement(BPF_ST, i));
  }
  filter.push_back(Statement(BPF_LDX | BPF_IMM, pick(2) == 0 ? pick(40) : static_cast<uint32_t>(random())));
  constexpr int kOperations[] = {BPF_ADD, BPF_SUB, BPF_MUL, BPF_AND, BPF_OR, BPF_XOR, BPF_DIV, BPF_LSH, BPF_RSH};
  constexpr int kComparisons[] = {BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET};
  const uint32_t length = 20 + pick(40);
  for (uint32_t i = 0; i < length; i++) {
    switch (pick(10)) {
      case 0:
        // Number, architecture and arguments; the address of the instruction is not known here.
        filter.push_back(Statement(BPF_LD | BPF_W | BPF_ABS, pick(7) == 0 ? 4 * pick(2) : 16 + 4 * pick(12)));
        break;
      case 1:
        filter.push_back(Statement(BPF_LD | BPF_MEM, pick(4)));
        break;
      case 2:
        filter.push_back(Statement(BPF_LDX | BPF_MEM, pick(4)));
        break;
      case 3:
        filter.push_back(Statement(pick(2) == 0 ? BPF_ST : BPF_STX, pick(4)));
        break;
      case 4:
        filter.push_back(Statement(BPF_MISC | (pick(2) == 0 ? BPF_TAX : BPF_TXA), 0));
        break;
      case 5: {
        // Over the next statements; there are enough of them (see below).
        const int source = pick(2) == 0 ? BPF_K : BPF_X;
        filter.push_back(Jump(BPF_JMP | kComparisons[pick(4)] | source, static_cast<uint32_t>(random()) >> pick(32),
                              static_cast<int>(pick(4)), static_cast<int>(pick(4))));
        break;
      }
      case 6:
        filter.push_back(Statement(BPF_ALU | BPF_NEG, 0));
        break;
      case 7:
        filter.push_back(Statement(pick(2) == 0 ? BPF_LD | BPF_W | BPF_LEN : BPF_LDX | BPF_W | BPF_LEN, 0));
        break;
      default: {
        const int operation = kOperations[pick(9)];
        const bool shift = operation == BPF_LSH || operation == BPF_RSH;
        // Division by X may be by nothing, whose answer is death: that is a test of its own.
        const int source = operation != BPF_DIV && pick(2) == 0 ? BPF_X : BPF_K;
        const uint32_t k = shift ? pick(32) : 1 + static_cast<uint32_t>(random()) % 0xfffffffe;
        filter.push_back(Statement(BPF_ALU | operation | source, k));
      }
    }
  }
  for (int i = 0; i < 4; i++) filter.push_back(Statement(BPF_ALU | BPF_ADD | BPF_K, 1));  // where jumps may end
  filter.push_back(Statement(BPF_ALU | BPF_MUL | BPF_K, 2654435761u));                    // high bits count, too
  filter.push_back(Statement(BPF_ALU | BPF_RSH | BPF_K, 25));
  filter.push_back(Statement(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO));
  filter.push_back(Statement(BPF_RET | BPF_A, 0));
  return filter;
}

TEST(Sandbox, AnswersAsTheKernelDoes) {
  std::mt19937 random(1);
  int compared = 0;
  for (int i = 0; i < 300; i++) {
    Filter filter = RandomFilter(random);
    const int kernels = KernelsErrno(filter);
    if (kernels == -1 && i == 0) GTEST_SKIP() << "no seccomp filter can be installed here";
    const uint32_t answer = sandbox::AnswerOf(ProgramOf(filter), Call(SYS_getppid));
    ASSERT_EQ(answer & SECCOMP_RET_ACTION_FULL, static_cast<uint32_t>(SECCOMP_RET_ERRNO)) << i;
    ASSERT_EQ(static_cast<int>(answer & SECCOMP_RET_DATA), kernels) << i;
    compared++;
  }
  EXPECT_EQ(compared, 300);
}

TEST(Sandbox, DivisionByNothingIsDeath) {
  Filter filter = {Statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
                   Jump(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 1, 0),
                   Statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
                   Statement(BPF_LDX | BPF_IMM, 0),
                   Statement(BPF_ALU | BPF_DIV | BPF_X, 0),
                   Statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  const uint32_t answer = sandbox::AnswerOf(ProgramOf(filter), Call(SYS_getppid));
  EXPECT_TRUE(answer == SECCOMP_RET_KILL_THREAD || answer == SECCOMP_RET_KILL_PROCESS) << std::hex << answer;
  const int kernels = KernelsErrno(filter);
  EXPECT_TRUE(kernels == -1 || kernels == -2) << kernels;
}

TEST(Sandbox, UnknownStatementsAreDeath) {
  Filter filter = {Statement(BPF_ALU | 0xf0, 1), Statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
  EXPECT_EQ(sandbox::AnswerOf(ProgramOf(filter), Call(1)), static_cast<uint32_t>(SECCOMP_RET_KILL_PROCESS));
  Filter falls_off = {Statement(BPF_LD | BPF_IMM, 1)};
  EXPECT_EQ(sandbox::AnswerOf(ProgramOf(falls_off), Call(1)), static_cast<uint32_t>(SECCOMP_RET_KILL_PROCESS));
}

// What is deadly is not done any more, what is answered otherwise is; arguments count. In a child: it stays forbidden.
TEST(Sandbox, WhatIsDeadlyIsForbidden) {
  const pid_t child = fork();
  if (child == 0) {
    Filter filter = {
        Statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        Jump(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        Statement(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        Jump(BPF_JMP | BPF_JEQ | BPF_K, SYS_gettid, 0, 1),
        Statement(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        Jump(BPF_JMP | BPF_JEQ | BPF_K, SYS_getuid, 0, 1),
        Statement(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EACCES),
        // mmap of inaccessible memory only
        Jump(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 4),
        Statement(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[2])),
        Jump(BPF_JMP | BPF_JEQ | BPF_K, PROT_NONE, 0, 1),
        Statement(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        Statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        Statement(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    sandbox::OnFilter(ProgramOf(filter));
    int wrong = 0;
    if (!os::IsForbidden(SYS_getppid)) wrong |= 1;
    if (!os::IsForbidden(SYS_gettid)) wrong |= 2;
    if (os::IsForbidden(SYS_getuid)) wrong |= 4;
    if (!os::IsForbidden(SYS_mmap)) wrong |= 8;
    if (os::IsForbidden(SYS_munmap)) wrong |= 16;
    if (os::Syscall(SYS_getppid) != -EPERM) wrong |= 32;
    _exit(wrong);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
}

TEST(Sandbox, TheClockStandsStill) {
  const pid_t child = fork();
  if (child == 0) {
    const uint64_t before = os::Tsc();
    sandbox::OnNoClock();
    const uint64_t frozen = os::Tsc();
    usleep(1000);
    _exit(frozen >= before && os::Tsc() == frozen ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
}

}  // namespace
}  // namespace tidemark
