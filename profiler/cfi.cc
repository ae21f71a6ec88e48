// Reader of .eh_frame_hdr and .eh_frame: binary search, CIE/FDE, the call frame program, expressions.
#include "profiler/cfi.h"

namespace tidemark {
namespace {

// A cursor over loader-mapped bytes that turns bad once it would leave its range; reads after that yield 0.
class Cursor {
 public:
  Cursor(const uint8_t* at, const uint8_t* end) : at_(at), end_(end) {}
  bool ok() const { return ok_; }
  bool AtEnd() const { return at_ >= end_; }
  const uint8_t* at() const { return at_; }
  size_t left() const { return ok_ ? static_cast<size_t>(end_ - at_) : 0; }

  template <typename T>
  T Fixed() {
    T value{};
    if (left() < sizeof(T)) return Fail<T>();
    __builtin_memcpy(&value, at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  uint64_t Uleb() {
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      const uint8_t byte = Fixed<uint8_t>();
      if (!ok_ || shift > 63) return Fail<uint64_t>();
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      if ((byte & 0x80) == 0) return value;
    }
  }
  int64_t Sleb() {
    uint64_t value = 0;
    for (unsigned shift = 0;;) {
      const uint8_t byte = Fixed<uint8_t>();
      if (!ok_ || shift > 63) return Fail<int64_t>();
      value |= static_cast<uint64_t>(byte & 0x7f) << shift;
      shift += 7;
      if ((byte & 0x80) == 0) {
        if (shift < 64 && (byte & 0x40) != 0) value |= ~uint64_t{0} << shift;
        return static_cast<int64_t>(value);
      }
    }
  }
  void Skip(uint64_t bytes) {
    if (bytes > left()) {
      Fail<int>();
      return;
    }
    at_ += bytes;
  }

 private:
  template <typename T>
  T Fail() {
    ok_ = false;
    at_ = end_;
    return T{};
  }
  const uint8_t* at_;
  const uint8_t* end_;
  bool ok_ = true;
};

// DW_EH_PE_* pointer encodings (LSB Core 10.5).
constexpr uint8_t kPeOmit = 0xff, kPeIndirect = 0x80;

bool ReadEncoded(Cursor* in, uint8_t encoding, uintptr_t data_base, uintptr_t* value) {
  if (encoding == kPeOmit || (encoding & kPeIndirect) != 0) return false;
  const uintptr_t position = reinterpret_cast<uintptr_t>(in->at());
  uintptr_t base = 0;
  switch (encoding & 0x70) {
    case 0x00:
      break;
    case 0x10:
      base = position;
      break;  // pcrel
    case 0x30:
      base = data_base;
      break;  // datarel
    default:
      return false;
  }
  switch (encoding & 0x0f) {
    case 0x00:
    case 0x04:
    case 0x0c:
      *value = base + in->Fixed<uint64_t>();
      break;
    case 0x01:
      *value = base + in->Uleb();
      break;
    case 0x02:
      *value = base + in->Fixed<uint16_t>();
      break;
    case 0x03:
      *value = base + in->Fixed<uint32_t>();
      break;
    case 0x09:
      *value = base + static_cast<uintptr_t>(in->Sleb());
      break;
    case 0x0a:
      *value = base + static_cast<uintptr_t>(static_cast<intptr_t>(in->Fixed<int16_t>()));
      break;
    case 0x0b:
      *value = base + static_cast<uintptr_t>(static_cast<intptr_t>(in->Fixed<int32_t>()));
      break;
    default:
      return false;
  }
  return in->ok();
}

struct Cie {
  uint64_t code_align = 1;
  int64_t data_align = 1;
  // A factored offset; unsigned inside, since damaged tables may overflow it.
  int64_t Scaled(uint64_t n) const { return static_cast<int64_t>(n * static_cast<uint64_t>(data_align)); }
  uint64_t return_register = kDwarfRip;
  uint8_t pointer_encoding = 0;
  bool signal_frame = false, has_augmentation_data = false;
  const uint8_t* program = nullptr;
  const uint8_t* program_end = nullptr;
};

// Reads the length of a CIE or FDE; returns the end of the entry or nullptr.
const uint8_t* EntryEnd(Cursor* in) {
  uint64_t length = in->Fixed<uint32_t>();
  if (length == 0xffffffff) length = in->Fixed<uint64_t>();
  if (!in->ok() || length == 0 || length > in->left()) return nullptr;
  return in->at() + length;
}

bool ParseCie(const uint8_t* at, const uint8_t* limit, Cie* cie) {
  Cursor head(at, limit);
  const uint8_t* end = EntryEnd(&head);
  if (end == nullptr) return false;
  Cursor in(head.at(), end);
  if (in.Fixed<uint32_t>() != 0) return false;  // CIE id of .eh_frame
  const uint8_t version = in.Fixed<uint8_t>();
  if (version != 1 && version != 3) return false;
  char augmentation[8] = {};
  for (size_t i = 0;; i++) {
    const char c = static_cast<char>(in.Fixed<uint8_t>());
    if (!in.ok() || i >= sizeof(augmentation)) return false;
    augmentation[i] = c;
    if (c == 0) break;
  }
  cie->code_align = in.Uleb();
  cie->data_align = in.Sleb();
  cie->return_register = version == 1 ? in.Fixed<uint8_t>() : in.Uleb();
  if (augmentation[0] == 'z') {
    cie->has_augmentation_data = true;
    const uint64_t bytes = in.Uleb();
    if (bytes > in.left()) return false;
    const uint8_t* after = in.at() + bytes;
    for (const char* a = augmentation + 1; *a != 0; a++) {
      switch (*a) {
        case 'R':
          cie->pointer_encoding = in.Fixed<uint8_t>();
          break;
        case 'L':
          in.Fixed<uint8_t>();
          break;
        case 'P': {
          // The personality routine is of no interest, only its size.
          const uint8_t encoding = in.Fixed<uint8_t>();
          uintptr_t ignored;
          if (!ReadEncoded(&in, encoding & 0x7f, 0, &ignored)) return false;
          break;
        }
        case 'S':
          cie->signal_frame = true;
          break;
        case 'B':
          break;
        default:
          return false;
      }
    }
    if (!in.ok() || after > end) return false;
    cie->program = after;
  } else if (augmentation[0] == 0) {
    cie->program = in.at();
  } else {
    return false;
  }
  cie->program_end = end;
  return in.ok();
}

// Runs call frame instructions until `pc` is passed.
class Program {
 public:
  Program(const Cie& cie, CfiRow* row, uintptr_t location) : cie_(cie), row_(row), begin_(location) {}

  bool Run(const uint8_t* at, const uint8_t* end, uintptr_t pc, const CfiRow* initial) {
    location_ = begin_;
    pc_ = pc;
    remembered_ = 0;
    Cursor in(at, end);
    while (!in.AtEnd()) {
      const uint8_t op = in.Fixed<uint8_t>();
      const uint8_t low = op & 0x3f;
      switch (op & 0xc0) {
        case 0x40:  // advance_loc
          if (Advance(low)) return true;
          continue;
        case 0x80:  // offset
          Set(low, {CfiHow::kAtOffset, cie_.Scaled(in.Uleb()), nullptr, 0});
          continue;
        case 0xc0:  // restore
          Restore(low, initial);
          continue;
      }
      bool done = false;
      if (!Extended(op, &in, initial, &done)) return false;
      if (done) return true;
    }
    return in.ok();
  }

 private:
  static constexpr int kMaxRemembered = 16;

  bool Extended(uint8_t op, Cursor* in, const CfiRow* initial, bool* done) {
    switch (op) {
      case 0x00:
        break;      // nop
      case 0x01: {  // set_loc
        uintptr_t to;
        if (!ReadEncoded(in, cie_.pointer_encoding, 0, &to)) return false;
        if (to > pc_)
          *done = true;
        else
          location_ = to;
        break;
      }
      case 0x02:
        *done = Advance(in->Fixed<uint8_t>());
        break;
      case 0x03:
        *done = Advance(in->Fixed<uint16_t>());
        break;
      case 0x04:
        *done = Advance(in->Fixed<uint32_t>());
        break;
      case 0x05: {  // offset_extended
        const uint64_t reg = in->Uleb();
        Set(reg, {CfiHow::kAtOffset, cie_.Scaled(in->Uleb()), nullptr, 0});
        break;
      }
      case 0x06:
        Restore(in->Uleb(), initial);
        break;  // restore_extended
      case 0x07:
        Set(in->Uleb(), {CfiHow::kUndefined, 0, nullptr, 0});
        break;  // undefined
      case 0x08:
        Set(in->Uleb(), {CfiHow::kSame, 0, nullptr, 0});
        break;      // same_value
      case 0x09: {  // register
        const uint64_t reg = in->Uleb();
        in->Uleb();
        Set(reg, {CfiHow::kInRegister, 0, nullptr, 0});
        break;
      }
      case 0x0a:  // remember_state
        if (remembered_ == kMaxRemembered) return false;
        stack_[remembered_++] = *row_;
        break;
      case 0x0b: {  // restore_state
        if (remembered_ == 0) return false;
        const bool signal_frame = row_->signal_frame;
        *row_ = stack_[--remembered_];
        row_->signal_frame = signal_frame;
        break;
      }
      case 0x0c:  // def_cfa
        row_->cfa_register = static_cast<uint32_t>(in->Uleb());
        row_->cfa_offset = static_cast<int64_t>(in->Uleb());
        row_->cfa_expression = nullptr;
        break;
      case 0x0d:  // def_cfa_register
        row_->cfa_register = static_cast<uint32_t>(in->Uleb());
        row_->cfa_expression = nullptr;
        break;
      case 0x0e:
        row_->cfa_offset = static_cast<int64_t>(in->Uleb());
        break;      // def_cfa_offset
      case 0x0f: {  // def_cfa_expression
        const uint64_t bytes = in->Uleb();
        row_->cfa_expression = in->at();
        row_->cfa_expression_bytes = bytes;
        in->Skip(bytes);
        break;
      }
      case 0x10:
      case 0x16: {  // expression, val_expression
        const uint64_t reg = in->Uleb();
        const uint64_t bytes = in->Uleb();
        Set(reg, {op == 0x10 ? CfiHow::kExpression : CfiHow::kValExpression, 0, in->at(), bytes});
        in->Skip(bytes);
        break;
      }
      case 0x11: {  // offset_extended_sf
        const uint64_t reg = in->Uleb();
        Set(reg, {CfiHow::kAtOffset, cie_.Scaled(static_cast<uint64_t>(in->Sleb())), nullptr, 0});
        break;
      }
      case 0x12:  // def_cfa_sf
        row_->cfa_register = static_cast<uint32_t>(in->Uleb());
        row_->cfa_offset = cie_.Scaled(static_cast<uint64_t>(in->Sleb()));
        row_->cfa_expression = nullptr;
        break;
      case 0x13:
        row_->cfa_offset = cie_.Scaled(static_cast<uint64_t>(in->Sleb()));
        break;  // def_cfa_offset_sf
      case 0x14:
      case 0x15: {  // val_offset, val_offset_sf
        const uint64_t reg = in->Uleb();
        const int64_t factored = op == 0x14 ? static_cast<int64_t>(in->Uleb()) : in->Sleb();
        Set(reg, {CfiHow::kValOffset, cie_.Scaled(static_cast<uint64_t>(factored)), nullptr, 0});
        break;
      }
      case 0x2e:
        in->Uleb();
        break;      // GNU_args_size
      case 0x2f: {  // GNU_negative_offset_extended
        const uint64_t reg = in->Uleb();
        Set(reg, {CfiHow::kAtOffset, cie_.Scaled(-in->Uleb()), nullptr, 0});
        break;
      }
      default:
        return false;
    }
    return in->ok();
  }

  // Moves the location; true when the rows from here on are beyond pc.
  bool Advance(uint64_t delta) {
    location_ += delta * cie_.code_align;
    return location_ > pc_;
  }
  CfiRule* RuleOf(uint64_t reg) {
    if (reg == kDwarfRbp) return &row_->rbp;
    if (reg == cie_.return_register) return &row_->return_address;
    return nullptr;
  }
  void Set(uint64_t reg, CfiRule rule) {
    if (CfiRule* r = RuleOf(reg)) *r = rule;
  }
  void Restore(uint64_t reg, const CfiRow* initial) {
    if (initial == nullptr) return;
    if (reg == kDwarfRbp) row_->rbp = initial->rbp;
    if (reg == cie_.return_register) row_->return_address = initial->return_address;
  }

  const Cie& cie_;
  CfiRow* row_;
  const uintptr_t begin_;
  uintptr_t location_ = 0, pc_ = 0;
  CfiRow stack_[kMaxRemembered];
  int remembered_ = 0;
};

// Tries the FDE at `at`; false: damaged, or it does not cover pc.
bool RowOfFde(const CfiTable& table, const uint8_t* at, uintptr_t pc, CfiRow* row) {
  const uint8_t* limit = reinterpret_cast<const uint8_t*>(table.module_end);
  Cursor head(at, limit);
  const uint8_t* end = EntryEnd(&head);
  if (end == nullptr) return false;
  Cursor in(head.at(), end);
  const uintptr_t id_position = reinterpret_cast<uintptr_t>(in.at());
  const uint32_t cie_offset = in.Fixed<uint32_t>();
  if (cie_offset == 0 || id_position - cie_offset < table.module_start || id_position < cie_offset) return false;
  Cie cie;
  if (!ParseCie(reinterpret_cast<const uint8_t*>(id_position - cie_offset), limit, &cie)) return false;
  uintptr_t begin, length;
  if (!ReadEncoded(&in, cie.pointer_encoding, 0, &begin)) return false;
  if (!ReadEncoded(&in, cie.pointer_encoding & 0x0f, 0, &length)) return false;
  if (pc - begin >= length) return false;
  if (cie.has_augmentation_data) in.Skip(in.Uleb());
  if (!in.ok()) return false;

  *row = CfiRow{};
  row->signal_frame = cie.signal_frame;
  Program program(cie, row, begin);  // one for both: it takes most of the stack that unwinding needs
  if (!program.Run(cie.program, cie.program_end, ~uintptr_t{0}, nullptr)) return false;
  const CfiRow initial = *row;
  return program.Run(in.at(), end, pc, &initial);
}

// DWARF expressions as call frame programs use them (PLT stubs, signal frames, realigned stacks).
bool Evaluate(const uint8_t* expression, size_t bytes, const CfiRegisters& registers, LoggedReader* memory,
              const uintptr_t* initial, uintptr_t* result) {
  constexpr int kDepth = 16;
  uintptr_t stack[kDepth];
  int n = 0;
  if (initial != nullptr) stack[n++] = *initial;
  Cursor in(expression, expression + bytes);
  while (!in.AtEnd()) {
    const uint8_t op = in.Fixed<uint8_t>();
    const auto push = [&](uintptr_t value) {
      if (n == kDepth) return false;
      stack[n++] = value;
      return true;
    };
    bool ok = true;
    if (op >= 0x30 && op <= 0x4f) {  // lit0..lit31
      ok = push(op - 0x30u);
    } else if (op >= 0x70 && op <= 0x8f) {  // breg0..breg31
      const uint32_t reg = op - 0x70u;
      const int64_t offset = in.Sleb();
      const uintptr_t value = reg == kDwarfRbp ? registers.bp : reg == kDwarfRsp ? registers.sp : registers.ip;
      ok = (reg == kDwarfRbp || reg == kDwarfRsp || reg == kDwarfRip) && push(value + static_cast<uintptr_t>(offset));
    } else {
      const auto binary = [&](auto f) {
        if (n < 2) return false;
        n--;
        stack[n - 1] = f(stack[n - 1], stack[n]);
        return true;
      };
      switch (op) {
        case 0x03:
          ok = push(in.Fixed<uint64_t>());
          break;  // addr
        case 0x06:
          ok = n >= 1 && memory->Read(stack[n - 1], &stack[n - 1]);
          break;  // deref
        case 0x08:
          ok = push(in.Fixed<uint8_t>());
          break;  // const1u
        case 0x09:
          ok = push(static_cast<uintptr_t>(intptr_t{in.Fixed<int8_t>()}));
          break;  // const1s
        case 0x0a:
          ok = push(in.Fixed<uint16_t>());
          break;  // const2u
        case 0x0b:
          ok = push(static_cast<uintptr_t>(intptr_t{in.Fixed<int16_t>()}));
          break;  // const2s
        case 0x0c:
          ok = push(in.Fixed<uint32_t>());
          break;  // const4u
        case 0x0d:
          ok = push(static_cast<uintptr_t>(intptr_t{in.Fixed<int32_t>()}));
          break;  // const4s
        case 0x10:
          ok = push(in.Uleb());
          break;  // constu
        case 0x11:
          ok = push(static_cast<uintptr_t>(in.Sleb()));
          break;  // consts
        case 0x12:
          ok = n >= 1 && push(stack[n - 1]);
          break;  // dup
        case 0x13:
          ok = n-- >= 1;
          break;  // drop
        case 0x1a:
          ok = binary([](uintptr_t a, uintptr_t b) { return a & b; });
          break;
        case 0x1c:
          ok = binary([](uintptr_t a, uintptr_t b) { return a - b; });
          break;
        case 0x1e:
          ok = binary([](uintptr_t a, uintptr_t b) { return a * b; });
          break;
        case 0x21:
          ok = binary([](uintptr_t a, uintptr_t b) { return a | b; });
          break;
        case 0x22:
          ok = binary([](uintptr_t a, uintptr_t b) { return a + b; });
          break;
        case 0x23:
          ok = n >= 1;
          if (ok) stack[n - 1] += in.Uleb();
          break;  // plus_uconst
        case 0x24:
          ok = binary([](uintptr_t a, uintptr_t b) { return b > 63 ? 0 : a << b; });
          break;
        case 0x25:
          ok = binary([](uintptr_t a, uintptr_t b) { return b > 63 ? 0 : a >> b; });
          break;
        case 0x2a:
          ok = binary([](uintptr_t a, uintptr_t b) { return uintptr_t{intptr_t(a) >= intptr_t(b)}; });
          break;
        case 0x2d:
          ok = binary([](uintptr_t a, uintptr_t b) { return uintptr_t{intptr_t(a) < intptr_t(b)}; });
          break;
        default:
          ok = false;
      }
    }
    if (!ok || !in.ok()) return false;
  }
  if (n < 1) return false;
  *result = stack[n - 1];
  return true;
}

}  // namespace

bool FindCfiRow(const CfiTable& table, uintptr_t pc, CfiRow* row) {
  const uint8_t* hdr = table.eh_frame_hdr;
  const uintptr_t base = reinterpret_cast<uintptr_t>(hdr);
  if (hdr == nullptr || base < table.module_start || base + 12 > table.module_end) return false;
  Cursor in(hdr, reinterpret_cast<const uint8_t*>(table.module_end));
  const uint8_t version = in.Fixed<uint8_t>();
  const uint8_t pointer_encoding = in.Fixed<uint8_t>();
  const uint8_t count_encoding = in.Fixed<uint8_t>();
  const uint8_t table_encoding = in.Fixed<uint8_t>();
  if (version != 1) return false;
  uintptr_t eh_frame, count = 0;
  if (!ReadEncoded(&in, pointer_encoding, base, &eh_frame)) return false;
  constexpr uint8_t kDatarelSdata4 = 0x3b;
  if (table_encoding != kDatarelSdata4 || !ReadEncoded(&in, count_encoding, base, &count)) return false;
  struct Entry {
    int32_t begin, fde;
  } __attribute__((packed));  // damage can move the table
  if (count == 0 || count > in.left() / sizeof(Entry)) return false;
  const Entry* entries = reinterpret_cast<const Entry*>(in.at());
  const int64_t target = static_cast<int64_t>(pc - base);
  size_t low = 0, high = count;  // invariant: entries[low].begin <= target < entries[high].begin
  if (target < entries[0].begin) return false;
  while (high - low > 1) {
    const size_t middle = low + (high - low) / 2;
    (entries[middle].begin <= target ? low : high) = middle;
  }
  const uintptr_t fde = base + static_cast<uintptr_t>(static_cast<intptr_t>(entries[low].fde));
  if (fde < table.module_start || fde >= table.module_end) return false;
  return RowOfFde(table, reinterpret_cast<const uint8_t*>(fde), pc, row);
}

bool StepByCfi(const CfiRow& row, LoggedReader* memory, CfiRegisters* registers, bool* ended) {
  *ended = row.return_address.how == CfiHow::kUndefined;
  if (*ended) return true;
  uintptr_t cfa;
  if (row.cfa_expression != nullptr) {
    if (!Evaluate(row.cfa_expression, row.cfa_expression_bytes, *registers, memory, nullptr, &cfa)) return false;
  } else if (row.cfa_register == kDwarfRsp) {
    cfa = registers->sp + static_cast<uintptr_t>(row.cfa_offset);
  } else if (row.cfa_register == kDwarfRbp) {
    cfa = registers->bp + static_cast<uintptr_t>(row.cfa_offset);
  } else {
    return false;
  }
  const auto recover = [&](const CfiRule& rule, uintptr_t current, uintptr_t* value) {
    switch (rule.how) {
      case CfiHow::kSame:
        *value = current;
        return true;
      case CfiHow::kUndefined:
      case CfiHow::kInRegister:
        *value = 0;
        return true;
      case CfiHow::kAtOffset:
        return memory->Read(cfa + static_cast<uintptr_t>(rule.offset), value);
      case CfiHow::kValOffset:
        *value = cfa + static_cast<uintptr_t>(rule.offset);
        return true;
      case CfiHow::kExpression:
      case CfiHow::kValExpression: {
        uintptr_t address;
        if (!Evaluate(rule.expression, rule.expression_bytes, *registers, memory, &cfa, &address)) return false;
        if (rule.how == CfiHow::kExpression) return memory->Read(address, value);
        *value = address;
        return true;
      }
    }
    return false;
  };
  // No rule at all (the step would not move), or a register that we do not track.
  if (row.return_address.how == CfiHow::kSame || row.return_address.how == CfiHow::kInRegister) return false;
  uintptr_t ip, bp;
  if (!recover(row.return_address, registers->ip, &ip) || !recover(row.rbp, registers->bp, &bp)) return false;
  *registers = CfiRegisters{ip, cfa, bp};
  return true;
}

}  // namespace tidemark
