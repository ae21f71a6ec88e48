// Call frame information: what .eh_frame says about one instruction (DWARF 5 section 6.4, LSB Core 10.6).
//
// Our own reader instead of libunwind: it needs no pipe, no dlopen, no sigprocmask in the host, and can answer "what
// is the rule" instead of "take one step", which is what the rule cache stores. libunwind is the oracle in the tests.
//
// Context: any thread, signal-safe, no allocation, no locks. Reads only mapped, loader-provided tables, bounds-checked.
#pragma once

#include <cstddef>
#include <cstdint>

#include "profiler/stack_reader.h"

namespace tidemark {

// How a register's value in the caller is found.
enum class CfiHow : uint8_t {
  kSame,        // unchanged
  kUndefined,   // not recoverable; for the return address: outermost frame
  kAtOffset,    // stored at CFA + offset
  kValOffset,   // is CFA + offset
  kInRegister,  // kept in another register, which we do not track
  kExpression,  // stored at the address that the expression computes
  kValExpression,
};

struct CfiRule {
  CfiHow how = CfiHow::kSame;
  int64_t offset = 0;
  const uint8_t* expression = nullptr;
  size_t expression_bytes = 0;
};

struct CfiRow {
  // CFA = register + offset (register: kRbp, kRsp or another, which we cannot follow), or an expression.
  uint32_t cfa_register = 0;
  int64_t cfa_offset = 0;
  const uint8_t* cfa_expression = nullptr;
  size_t cfa_expression_bytes = 0;
  CfiRule rbp, return_address;
  bool signal_frame = false;
};

inline constexpr uint32_t kDwarfRbp = 6, kDwarfRsp = 7, kDwarfRip = 16;

struct CfiRegisters {
  uintptr_t ip, sp, bp;
};

// The table of one module: PT_GNU_EH_FRAME, and the mapped range it must lie in.
struct CfiTable {
  const uint8_t* eh_frame_hdr;
  uintptr_t module_start, module_end;
};

// Finds the row in force at `pc`. False: no FDE covers pc, or the table is damaged or of a kind we do not read.
bool FindCfiRow(const CfiTable& table, uintptr_t pc, CfiRow* row);

// Takes one step by `row`: *registers becomes the caller's. False: cannot (unknown register, unreadable word).
// *ended: the row says that this is the outermost frame. The caller's registers are a function of the row, of
// *registers and of the words that `memory` has logged.
bool StepByCfi(const CfiRow& row, LoggedReader* memory, CfiRegisters* registers, bool* ended);

}  // namespace tidemark
