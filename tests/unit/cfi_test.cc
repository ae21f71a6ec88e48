// Our reader of call frame information against two others: readelf for single rows, libunwind for whole walks.
//
// Rows: random addresses of every module that is mapped here, so compilers' and assemblers' output alike (libcrypto is
// the largest collection of hand-written frames at hand). Walks: from the places where unwinders go wrong. Damage: a
// copy of real tables with bytes changed, in a block of exactly its size, so that a sanitizer sees a read beyond it.
#include "profiler/cfi.h"

#define UNW_LOCAL_ONLY
#include <dlfcn.h>
#include <gtest/gtest.h>
#include <libunwind.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <sys/auxv.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "profiler/module_map.h"

namespace tidemark {
namespace {

// ---- Rows, against readelf.

struct PrintedRow {
  std::string cfa, rbp = "-", ra = "-";  // "-": no column of its own
};
struct PrintedFde {
  uintptr_t end = 0;
  std::map<uintptr_t, PrintedRow> rows;  // by first address; an entry without instructions has its CIE's row
};
using PrintedTable = std::map<uintptr_t, PrintedFde>;  // by first address

// What `readelf --debug-dump=frames-interp` says of .eh_frame, in addresses of the file.
PrintedTable ReadPrinted(const std::string& path) {
  PrintedTable table;
  const std::string command = "LC_ALL=C readelf --wide --debug-dump=frames-interp,no-follow-links '" + path + "'";
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return table;
  std::vector<std::string> columns;
  PrintedFde* fde = nullptr;
  std::map<std::string, PrintedRow> cies;
  std::string cie;  // the one that rows belong to; empty: they belong to *fde
  bool in_eh_frame = false;
  char* line = nullptr;
  size_t capacity = 0;
  while (getline(&line, &capacity, pipe) > 0) {
    const std::string text = line;
    if (text.starts_with("Contents of the ")) in_eh_frame = text.find(" .eh_frame ") != std::string::npos;
    if (!in_eh_frame) continue;
    std::istringstream words(text);
    std::vector<std::string> cells;
    for (std::string word; words >> word;) {
      if (word[0] != '(') cells.push_back(word);  // the name beside a register's number
    }
    if (cells.empty()) continue;
    if (cells.size() > 3 && (cells[3] == "CIE" || cells[3] == "FDE")) {
      fde = nullptr;
      cie = cells[3] == "CIE" ? cells[0] : "";
      unsigned long begin = 0, end = 0;
      if (cie.empty() && std::sscanf(cells[5].c_str(), "pc=%lx..%lx", &begin, &end) == 2) {
        fde = &table[begin];
        fde->end = end;
        fde->rows[begin] = cies[cells[4].substr(4)];  // "cie=..."
      }
      continue;
    }
    if (cells[0] == "LOC") {
      columns = cells;
    } else if (cells.size() == columns.size() && cells[0].size() == 16 && (fde != nullptr || !cie.empty())) {
      PrintedRow row;
      row.cfa = cells[1];
      for (size_t i = 2; i < cells.size(); i++) {
        if (columns[i] == "rbp") row.rbp = cells[i];
        if (columns[i] == "ra") row.ra = cells[i];
      }
      if (cie.empty()) {
        fde->rows[std::stoul(cells[0], nullptr, 16)] = row;
      } else {
        cies[cie] = row;
      }
    }
  }
  std::free(line);
  pclose(pipe);
  return table;
}

std::string Signed(int64_t value) { return (value < 0 ? "" : "+") + std::to_string(value); }

std::string CfaText(const CfiRow& row) {
  if (row.cfa_expression != nullptr) return "exp";
  static const char* const kNames[] = {"rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8",
                                       "r9",  "r10", "r11", "r12", "r13", "r14", "r15", "rip"};
  return (row.cfa_register < std::size(kNames) ? kNames[row.cfa_register] : "?") + Signed(row.cfa_offset);
}

std::string RuleText(const CfiRule& rule) {
  switch (rule.how) {
    case CfiHow::kSame:
      return "s";
    case CfiHow::kUndefined:
      return "u";
    case CfiHow::kAtOffset:
      return "c" + Signed(rule.offset);
    case CfiHow::kValOffset:
      return "v" + Signed(rule.offset);
    case CfiHow::kInRegister:
      return "reg";
    case CfiHow::kExpression:
      return "exp";
    case CfiHow::kValExpression:
      return "vexp";
  }
  return "?";
}

// readelf prints "u" both for what is undefined and for what no instruction has mentioned yet.
bool SameRule(const std::string& printed, const CfiRule& rule) {
  const std::string ours = RuleText(rule);
  if (printed == "-" || printed == "u" || printed == "s") return ours == "s" || ours == "u";
  if (printed[0] == 'r') return ours == "reg";
  return printed == ours;
}

struct MappedModule {
  std::string path;
  uintptr_t load_bias = 0;
  std::vector<std::pair<uintptr_t, uintptr_t>> code;  // executable ranges
};

std::vector<MappedModule> MappedModules() {
  std::vector<MappedModule> modules;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* out) {
        MappedModule module;
        module.path = info->dlpi_name;
        module.load_bias = info->dlpi_addr;
        if (module.path.empty()) module.path = "/proc/" + std::to_string(getpid()) + "/exe";
        for (int i = 0; i < info->dlpi_phnum; i++) {
          const auto& header = info->dlpi_phdr[i];
          if (header.p_type != PT_LOAD || (header.p_flags & PF_X) == 0) continue;
          module.code.emplace_back(info->dlpi_addr + header.p_vaddr, info->dlpi_addr + header.p_vaddr + header.p_memsz);
        }
        static_cast<std::vector<MappedModule>*>(out)->push_back(module);
        return 0;
      },
      &modules);
  return modules;
}

// The vdso has no file: its image, written to one.
std::string WriteVdso() {
  const auto* image = reinterpret_cast<const char*>(getauxval(AT_SYSINFO_EHDR));
  const auto* header = reinterpret_cast<const ElfW(Ehdr)*>(image);
  const size_t bytes = header->e_shoff + size_t{header->e_shnum} * header->e_shentsize;
  const std::string path = testing::TempDir() + "/vdso." + std::to_string(getpid());
  std::ofstream(path, std::ios::binary).write(image, static_cast<std::streamsize>(bytes));
  return path;
}

TEST(CfiRow, AgreesWithReadelfInEveryMappedModule) {
  dlopen("libcrypto.so.3", RTLD_NOW);  // where there is one: much assembly
  constexpr int kPerModule = 4000;
  std::mt19937_64 random(20240601);
  int compared = 0, covered = 0;
  const auto modules = MappedModules();
  ASSERT_GE(modules.size(), 4u);
  for (const MappedModule& mapped : modules) {
    const bool vdso = mapped.path == "linux-vdso.so.1";
    const std::string path = vdso ? WriteVdso() : mapped.path;
    const PrintedTable printed = ReadPrinted(path);
    if (vdso) unlink(path.c_str());
    ASSERT_FALSE(printed.empty()) << mapped.path;
    int wrong = 0;
    for (int i = 0; i < kPerModule && wrong < 5; i++) {
      const auto& range = mapped.code[random() % mapped.code.size()];
      const uintptr_t pc = range.first + random() % (range.second - range.first);
      ModuleView module;
      ASSERT_TRUE(FindModule(pc, &module)) << mapped.path;
      CfiRow row;
      const bool found = FindCfiRow(module.table(), pc, &row);
      const uintptr_t in_file = pc - mapped.load_bias;
      auto fde = printed.upper_bound(in_file);
      const bool expected = fde != printed.begin() && in_file < (--fde)->second.end;
      compared++;
      char place[32];
      std::snprintf(place, sizeof place, "%lx", in_file);
      EXPECT_EQ(found, expected) << mapped.path << " " << place;
      wrong += found != expected;
      if (!found || !expected) continue;
      covered++;
      auto next = fde->second.rows.upper_bound(in_file);
      ASSERT_NE(next, fde->second.rows.begin()) << mapped.path << " " << place;
      const PrintedRow& wanted = std::prev(next)->second;
      const bool same =
          wanted.cfa == CfaText(row) && SameRule(wanted.rbp, row.rbp) &&
          (wanted.ra == "u" ? row.return_address.how == CfiHow::kUndefined : SameRule(wanted.ra, row.return_address));
      EXPECT_TRUE(same) << mapped.path << " " << place << ": readelf " << wanted.cfa << " rbp " << wanted.rbp << " ra "
                        << wanted.ra << ", ours " << CfaText(row) << " rbp " << RuleText(row.rbp) << " ra "
                        << RuleText(row.return_address);
      wrong += !same;
    }
  }
  EXPECT_GE(compared, 5 * kPerModule);
  EXPECT_GE(covered, compared / 2);
}

// ---- Walks, against libunwind.

struct Walks {
  std::vector<uintptr_t> ours, theirs;
  bool signal_frame = false;  // one was passed
};

std::vector<uintptr_t> WalkOurs(CfiRegisters at, bool* signal_frame) {
  std::vector<uintptr_t> ips;
  StackReader stack;
  bool exact = false;
  while (ips.size() < 1000) {
    ips.push_back(at.ip);
    const uintptr_t pc = exact ? at.ip : at.ip - 1;
    ModuleView module;
    CfiRow row;
    if (!FindModule(pc, &module)) break;
    if (!FindCfiRow(module.table(), pc, &row) && !FindCfiRow(module.table(), at.ip, &row)) break;
    *signal_frame |= row.signal_frame;
    LoggedReader memory(&stack);
    bool ended;
    if (!StepByCfi(row, &memory, &at, &ended) || ended || at.ip == 0) break;
    exact = row.signal_frame;
  }
  return ips;
}

// Both walks, from the same place: the state that unw_getcontext stored.
__attribute__((noinline)) void TakeBoth(Walks* walks) {
  unw_context_t context;
  unw_getcontext(&context);
  unw_cursor_t cursor;
  unw_init_local(&cursor, &context);
  do {
    unw_word_t ip = 0;
    unw_get_reg(&cursor, UNW_REG_IP, &ip);
    if (ip == 0) break;
    walks->theirs.push_back(ip);
  } while (walks->theirs.size() < 1000 && unw_step(&cursor) > 0);
  const auto& registers = context.uc_mcontext.gregs;
  walks->ours = WalkOurs({static_cast<uintptr_t>(registers[REG_RIP]), static_cast<uintptr_t>(registers[REG_RSP]),
                          static_cast<uintptr_t>(registers[REG_RBP])},
                         &walks->signal_frame);
}

void ExpectSame(const Walks& walks, size_t at_least) {
  EXPECT_EQ(walks.ours, walks.theirs);
  EXPECT_GE(walks.ours.size(), at_least);
}

Walks* current = nullptr;  // for callbacks that take no argument

TEST(CfiWalk, FromHere) {
  Walks walks;
  TakeBoth(&walks);
  ExpectSame(walks, 5);
}

TEST(CfiWalk, InsideSortAndSearch) {
  Walks sorting, searching;
  current = &sorting;
  const auto compare = [](const void* a, const void* b) {
    if (current->ours.empty()) TakeBoth(current);
    return *static_cast<const int*>(a) - *static_cast<const int*>(b);
  };
  int numbers[100];
  for (int i = 0; i < 100; i++) numbers[i] = i * 37 % 100;
  std::qsort(numbers, 100, sizeof(int), compare);
  ExpectSame(sorting, 7);
  current = &searching;
  const int key = 3;
  EXPECT_NE(std::bsearch(&key, numbers, 100, sizeof(int), compare), nullptr);
  ExpectSame(searching, 7);
}

TEST(CfiWalk, InsideSignalHandlers) {
  const auto handler = [](int) { TakeBoth(current); };
  for (const bool alternate : {false, true}) {
    std::vector<char> stack(1 << 17);
    stack_t description{}, before{};
    description.ss_sp = stack.data();
    description.ss_size = stack.size();
    if (alternate) {
      ASSERT_EQ(sigaltstack(&description, &before), 0);
    }
    struct sigaction action {};
    action.sa_handler = handler;
    action.sa_flags = alternate ? SA_ONSTACK : 0;
    ASSERT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);
    Walks walks;
    current = &walks;
    raise(SIGUSR1);
    ExpectSame(walks, 8);
    EXPECT_TRUE(walks.signal_frame);
    signal(SIGUSR1, SIG_DFL);
    if (alternate) sigaltstack(&before, nullptr);
  }
}

extern "C" void TidemarkTestTrap();
__asm__(
    ".text\n.p2align 4\n"
    "TidemarkTestBeforeTrap:\n.cfi_startproc\n.cfi_def_cfa_offset 4096\nnop\n.cfi_endproc\n"
    ".globl TidemarkTestTrap\n.type TidemarkTestTrap, @function\n"
    "TidemarkTestTrap:\n.cfi_startproc\nud2\nret\n.cfi_endproc\n.size TidemarkTestTrap, .-TidemarkTestTrap\n");

// The interrupted instruction is the first of its function: taken for a return address it would be in the one before.
TEST(CfiWalk, ThroughAFaultAtAFunctionsFirstInstruction) {
  struct sigaction action {
  }, before{};
  action.sa_sigaction = [](int, siginfo_t*, void* context) {
    TakeBoth(current);
    static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_RIP] += 2;  // behind ud2
  };
  action.sa_flags = SA_SIGINFO;
  ASSERT_EQ(sigaction(SIGILL, &action, &before), 0);
  Walks walks;
  current = &walks;
  TidemarkTestTrap();
  ASSERT_EQ(sigaction(SIGILL, &before, nullptr), 0);
  ExpectSame(walks, 8);
  EXPECT_NE(std::find(walks.ours.begin(), walks.ours.end(), reinterpret_cast<uintptr_t>(&TidemarkTestTrap)),
            walks.ours.end());
}

// A frame that aligns its stack finds its CFA through an expression or a saved pointer.
__attribute__((noinline)) void Realigned(size_t bytes, Walks* walks) {
  alignas(128) volatile char aligned[128];
  volatile char* variable = static_cast<volatile char*>(__builtin_alloca(bytes));
  aligned[0] = 1;
  variable[bytes - 1] = 2;
  TakeBoth(walks);
  variable[0] = aligned[0];
}

TEST(CfiWalk, ThroughRealignedAndVariableFrames) {
  for (const size_t bytes : {1, 100, 5000}) {
    Walks walks;
    Realigned(bytes, &walks);
    ExpectSame(walks, 6);
  }
}

TEST(CfiWalk, InThreadsAndTheirCleanUp) {
  Walks running, leaving;
  Walks* both[2] = {&running, &leaving};
  pthread_t thread;
  ASSERT_EQ(pthread_create(
                &thread, nullptr,
                [](void* argument) -> void* {
                  auto** walks = static_cast<Walks**>(argument);
                  static thread_local std::unique_ptr<Walks, void (*)(Walks*)> at_end(walks[1], TakeBoth);
                  TakeBoth(walks[0]);
                  return at_end.get();
                },
                both),
            0);
  pthread_join(thread, nullptr);
  ExpectSame(running, 3);
  ExpectSame(leaving, 4);
}

TEST(CfiWalk, OnAStackOfItsOwn) {
  Walks walks;
  current = &walks;
  std::vector<char> memory(1 << 17);
  ucontext_t here, there;
  ASSERT_EQ(getcontext(&there), 0);
  there.uc_stack.ss_sp = memory.data();
  there.uc_stack.ss_size = memory.size();
  there.uc_link = &here;
  makecontext(
      &there, [] { TakeBoth(current); }, 0);
  ASSERT_EQ(swapcontext(&here, &there), 0);
  // makecontext's start is no return address; libunwind and we may name it or not, but agree about everything above.
  ASSERT_GE(walks.ours.size(), 2u);
  ASSERT_GE(walks.theirs.size(), 2u);
  EXPECT_EQ(walks.ours[0], walks.theirs[0]);
  EXPECT_EQ(walks.ours[1], walks.theirs[1]);
  EXPECT_LE(walks.ours.size(), 8u);  // and it ends there
}

struct TakesAtUnwinding {
  ~TakesAtUnwinding() { TakeBoth(current); }
};

TEST(CfiWalk, WhileAnExceptionIsThrown) {
  Walks walks;
  current = &walks;
  try {
    const TakesAtUnwinding taken;
    throw 1;
  } catch (int) {
  }
  ExpectSame(walks, 6);
}

// ---- Damage.

struct Tables {
  std::vector<uint8_t> bytes;  // .eh_frame_hdr and .eh_frame, as they lie
  size_t header_at = 0;        // of .eh_frame_hdr
  intptr_t moved = 0;          // address here - address there
  std::vector<uintptr_t> code;
};

// The tables of the C++ library: thousands of entries from a compiler, with personality routines and LSDA pointers.
Tables CopyTables() {
  Tables tables;
  ModuleView module;
  void* symbol = dlsym(RTLD_DEFAULT, "_ZNSt15basic_streambufIcSt11char_traitsIcEE4syncEv");
  if (symbol == nullptr || !FindModule(reinterpret_cast<uintptr_t>(symbol), &module)) return tables;
  // The segment with the tables ends where readable bytes of the same module end.
  struct Found {
    uintptr_t header, begin, end;
    std::vector<uintptr_t> code;
  } found{reinterpret_cast<uintptr_t>(module.eh_frame_hdr), 0, 0, {}};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* argument) {
        auto* out = static_cast<Found*>(argument);
        for (int i = 0; i < info->dlpi_phnum; i++) {
          const auto& header = info->dlpi_phdr[i];
          const uintptr_t begin = info->dlpi_addr + header.p_vaddr;
          if (header.p_type != PT_LOAD || out->header < begin || out->header >= begin + header.p_memsz) continue;
          out->begin = begin;
          out->end = begin + header.p_memsz;
        }
        return 0;
      },
      &found);
  // As little before the header as possible: a table of one entry's length before it makes negative offsets legal.
  const uintptr_t begin = std::max(found.begin, found.header - 64);
  tables.bytes.assign(reinterpret_cast<const uint8_t*>(begin), reinterpret_cast<const uint8_t*>(found.end));
  tables.header_at = found.header - begin;
  tables.moved = reinterpret_cast<intptr_t>(tables.bytes.data()) - static_cast<intptr_t>(begin);
  for (uintptr_t pc = reinterpret_cast<uintptr_t>(symbol); tables.code.size() < 64; pc += 777)
    tables.code.push_back(pc);
  return tables;
}

// Looks `pc` up in the copy and, when there is a row, steps by it from a state that reads this thread's stack.
bool LookUp(const uint8_t* begin, size_t size, size_t header_at, uintptr_t pc) {
  const CfiTable table{begin + header_at, reinterpret_cast<uintptr_t>(begin),
                       reinterpret_cast<uintptr_t>(begin) + size};
  CfiRow row;
  if (!FindCfiRow(table, pc, &row)) return false;
  StackReader stack;
  CfiRegisters registers{pc, reinterpret_cast<uintptr_t>(__builtin_frame_address(0)),
                         reinterpret_cast<uintptr_t>(__builtin_frame_address(0))};
  LoggedReader memory(&stack);
  bool ended;
  StepByCfi(row, &memory, &registers, &ended);
  return true;
}

TEST(CfiDamage, ChangedBytesNeverCrash) {
  Tables tables = CopyTables();
  ASSERT_GT(tables.bytes.size(), 10000u);
  const auto look = [&](uintptr_t pc) {
    return LookUp(tables.bytes.data(), tables.bytes.size(), tables.header_at,
                  pc + static_cast<uintptr_t>(tables.moved));
  };
  std::vector<uintptr_t> good;
  for (uintptr_t pc : tables.code) {
    if (look(pc)) good.push_back(pc);
  }
  ASSERT_GE(good.size(), 30u) << "the undamaged copy must work";
  std::mt19937_64 random(7);
  int lost = 0;
  for (int round = 0; round < 6000; round++) {
    std::vector<std::pair<size_t, uint8_t>> undo;
    const uintptr_t pc = good[random() % good.size()];
    const auto damage = [&](size_t at, uint8_t value) {
      undo.emplace_back(at, tables.bytes[at]);
      tables.bytes[at] = value;
    };
    if (round % 3 == 0) {  // in the header, which every look-up reads
      for (int i = 0; i < 2; i++) damage(tables.header_at + random() % 16, static_cast<uint8_t>(random()));
    } else {
      // In what this look-up reads: the entries of the table and the CIEs and FDEs lie all over, so damage densely.
      for (int i = 0; i < 20000; i++) damage(random() % tables.bytes.size(), static_cast<uint8_t>(random()));
    }
    for (int i = 0; i < 8; i++) lost += !look(good[random() % good.size()] + random() % 64);
    lost += !look(pc);
    for (auto it = undo.rbegin(); it != undo.rend(); ++it) tables.bytes[it->first] = it->second;
  }
  EXPECT_GT(lost, 1000);
  for (uintptr_t pc : good) EXPECT_TRUE(look(pc)) << "the copy was not restored";
}

// Every length of one entry: the tables of this very program, cut anywhere.
TEST(CfiDamage, CutTablesNeverCrash) {
  const Tables tables = CopyTables();
  ASSERT_GT(tables.bytes.size(), 10000u);
  int found = 0;
  std::mt19937_64 random(8);
  for (int i = 0; i < 300; i++) {
    const size_t size = i < 100 ? tables.header_at + static_cast<size_t>(i) : random() % tables.bytes.size();
    const std::vector<uint8_t> cut(tables.bytes.begin(), tables.bytes.begin() + static_cast<ptrdiff_t>(size));
    const auto moved = reinterpret_cast<uintptr_t>(cut.data()) - reinterpret_cast<uintptr_t>(tables.bytes.data());
    for (uintptr_t pc : tables.code) {
      found +=
          LookUp(cut.data(), size, std::min(size, tables.header_at), pc + static_cast<uintptr_t>(tables.moved) + moved);
    }
  }
  EXPECT_GT(found, 0);
}

}  // namespace
}  // namespace tidemark
