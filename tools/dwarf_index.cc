// See dwarf_index.h. The input is untrusted: walks only go forward in the section (so they end), recursion and
// reference chains have limits, and ranges outside the executable segments (what linkers leave of discarded functions)
// are dropped.
#include "tools/dwarf_index.h"

#include <dwarf.h>
#include <elfutils/libdw.h>

#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "tools/interval_table.h"

namespace tidemark {
namespace {

constexpr uint32_t kMaxScopeDepth = 256;
constexpr uint32_t kMaxInlineDepth = 1024;
constexpr int kMaxReferenceChain = 16;
constexpr size_t kMaxNameBytes = 4096;
constexpr uint64_t kMaxRanges = uint64_t{1} << 26;  // of a whole module; large browsers have some millions

struct Inline {
  Dwarf_Die die;
  uint32_t parent;  // index of the enclosing inlined call, kNone for the function itself
  uint32_t call_file, call_line;
};

struct Function {
  Dwarf_Die die;
  uint64_t start = UINT64_MAX;
  bool built = false;
  std::vector<Inline> inlines;
  IntervalTable inline_table;
};

struct Unit {
  Dwarf_Die lines_die;      // the unit, or the skeleton of a split unit: has the line table
  Dwarf_Die functions_die;  // the unit, or the split unit in its .dwo
  bool functions_read = false, deep = false, lines_read = false;
  std::vector<Function> functions;
  IntervalTable function_table;
  std::string directory;  // of the compilation
  Dwarf_Lines* lines = nullptr;
  size_t line_count = 0;
  Dwarf_Files* call_files = nullptr;
  size_t call_file_count = 0;
};

// A namespace, type or function that others are declared in.
struct Scope {
  uint32_t outer;
  const char* name;
};
struct ScopedDie {
  const void* die;
  uint32_t scope;
};

struct Name {
  std::string text;
  bool mangled = false;
};

// One pass over a DIE's attributes: dwarf_attr would search the abbreviation once per attribute.
struct CodeAttributes {
  uint64_t low = 0, high = 0, call_file = 0, call_line = 0;
  bool has_low = false, has_high = false, high_is_length = false, has_ranges = false;
};

int TakeAttribute(Dwarf_Attribute* attribute, void* opaque) {
  CodeAttributes* code = static_cast<CodeAttributes*>(opaque);
  Dwarf_Word number = 0;
  switch (dwarf_whatattr(attribute)) {
    case DW_AT_low_pc:
      code->has_low = dwarf_formaddr(attribute, &code->low) == 0;
      break;
    case DW_AT_high_pc:
      if (dwarf_formaddr(attribute, &code->high) == 0) {
        code->has_high = true;
      } else if (dwarf_formudata(attribute, &code->high) == 0) {
        code->has_high = code->high_is_length = true;
      }
      break;
    case DW_AT_ranges:
      code->has_ranges = true;
      break;
    case DW_AT_call_file:
      if (dwarf_formudata(attribute, &number) == 0) code->call_file = number;
      break;
    case DW_AT_call_line:
      if (dwarf_formudata(attribute, &number) == 0) code->call_line = number;
      break;
    default:
      break;
  }
  return DWARF_CB_OK;
}

const char* StringOf(Dwarf_Die* die, unsigned attribute_name) {
  Dwarf_Attribute attribute;
  return dwarf_formstring(dwarf_attr(die, attribute_name, &attribute));
}

// Calls visit(child) for the children of `die`. Forward only: a damaged sibling reference ends the walk.
template <typename Visit>
void ForEachChild(Dwarf_Die* die, const Visit& visit) {
  Dwarf_Die child;
  if (dwarf_child(die, &child) != 0) return;
  while (true) {
    visit(&child);
    const void* before = child.addr;
    if (dwarf_siblingof(&child, &child) != 0 || child.addr <= before) return;
  }
}

// Languages whose linkage names equal their names: no scopes to add.
bool IsFlatLanguage(int language) {
  switch (language) {
    case DW_LANG_C89:
    case DW_LANG_C:
    case DW_LANG_C99:
    case DW_LANG_C11:
    case 0x2c:  // DW_LANG_C17
    case DW_LANG_Go:
    case DW_LANG_Mips_Assembler:
      return true;
    default:
      return false;
  }
}

class LibdwIndex : public DwarfIndex {
 public:
  ~LibdwIndex() override {
    if (dwarf_ != nullptr) dwarf_end(dwarf_);
    if (alternate_dwarf_ != nullptr) dwarf_end(alternate_dwarf_);
    if (elf_ != nullptr) elf_end(elf_);
    if (alternate_elf_ != nullptr) elf_end(alternate_elf_);
  }

  bool Init(const FoundImage& debug, const FoundImage& alternate, std::string* error) {
    elf_version(EV_CURRENT);
    image_ = debug.image;
    alternate_image_ = alternate.image;
    dwarf_ = Begin(*image_, &elf_);
    if (dwarf_ == nullptr) {
      const char* message = dwarf_errmsg(-1);
      *error = message != nullptr ? message : "unknown libdw error";
      return false;
    }
    if (alternate_image_ != nullptr) {
      alternate_dwarf_ = Begin(*alternate_image_, &alternate_elf_);
      if (alternate_dwarf_ != nullptr) dwarf_setalt(dwarf_, alternate_dwarf_);
    }
    ReadUnits();
    if (units_.empty()) {
      *error = "no DWARF unit could be read";
      return false;
    }
    return true;
  }

  bool Find(uint64_t address, DwarfAnswer* answer) override {
    uint32_t index = unit_table_.Find(address);
    if (index == IntervalTable::kNone) {
      ReadRangelessUnits();
      index = rangeless_table_.Find(address);
      if (index == IntervalTable::kNone) return false;
    }
    Unit& unit = units_[index];
    ReadFunctions(&unit);
    uint32_t function_index = unit.function_table.Find(address);
    if (function_index == IntervalTable::kNone && !unit.deep) {
      // Functions inside functions or types (nested C functions, methods in Rust and D).
      unit.deep = true;
      unit.functions.clear();
      unit.functions_read = false;
      ReadFunctions(&unit);
      function_index = unit.function_table.Find(address);
    }
    SymbolFrame innermost;
    FindLine(&unit, address, &innermost);
    if (function_index == IntervalTable::kNone) {
      if (innermost.file.empty()) return false;
      answer->frames.push_back(std::move(innermost));
      return true;
    }
    Function& function = unit.functions[function_index];
    BuildInlines(&unit, &function);
    // Innermost out: each frame's position is where the next inner one was inlined.
    SymbolFrame frame = std::move(innermost);
    for (uint32_t at = function.inline_table.Find(address); at != IntervalTable::kNone;) {
      Inline& inlined = function.inlines[at];
      frame.function = NameOf(&inlined.die).text;
      frame.inlined = true;
      answer->frames.push_back(std::move(frame));
      frame = SymbolFrame();
      frame.line = inlined.call_line;
      const char* file = inlined.call_file < unit.call_file_count
                             ? dwarf_filesrc(unit.call_files, inlined.call_file, nullptr, nullptr)
                             : nullptr;
      frame.file = FullPath(unit, file);
      at = inlined.parent;
    }
    const Name& name = NameOf(&function.die);
    frame.function = name.text;
    answer->frames.push_back(std::move(frame));
    answer->function_is_unmangled = !name.mangled;
    answer->function_start = function.start;
    return true;
  }

  uint64_t missing_split_units() const override { return missing_split_units_; }

 private:
  static Dwarf* Begin(const ElfImage& image, Elf** elf) {
    // libelf rewrites the headers of sections it decompresses: ElfImage's bytes are a private copy and it read them
    // before.
    *elf = elf_memory(const_cast<char*>(image.bytes().data()), image.bytes().size());
    return *elf == nullptr ? nullptr : dwarf_begin_elf(*elf, DWARF_C_READ, nullptr);
  }

  // visit(low, high) for the executable ranges of a DIE.
  template <typename Visit>
  void ForEachRange(Dwarf_Die* die, const CodeAttributes& code, const Visit& visit) {
    if (code.has_ranges) {
      Dwarf_Addr base = 0, low = 0, high = 0;
      ptrdiff_t offset = 0;
      while (ranges_read_ < kMaxRanges && (offset = dwarf_ranges(die, offset, &base, &low, &high)) > 0) {
        ++ranges_read_;
        if (low < high && image_->IsExecutable(low)) visit(low, high);
      }
    } else if (code.has_low && code.has_high && ranges_read_ < kMaxRanges) {
      ++ranges_read_;
      const uint64_t high = code.high_is_length ? code.low + code.high : code.high;
      if (code.low < high && image_->IsExecutable(code.low)) visit(code.low, high);
    }
  }

  void ReadUnits() {
    Dwarf_CU* cu = nullptr;
    Dwarf_CU* next = nullptr;
    Dwarf_Half version = 0;
    uint8_t type = 0;
    Dwarf_Die die, split;
    while (dwarf_get_units(dwarf_, cu, &next, &version, &type, &die, &split) == 0) {
      cu = next;
      if (type != DW_UT_compile && type != DW_UT_skeleton) continue;
      Unit unit;
      unit.lines_die = unit.functions_die = die;
      if (type == DW_UT_skeleton) {
        if (dwarf_tag(&split) == DW_TAG_compile_unit) {
          unit.functions_die = split;
        } else {
          ++missing_split_units_;
        }
      }
      const uint32_t index = static_cast<uint32_t>(units_.size());
      CodeAttributes code;
      dwarf_getattrs(&die, &TakeAttribute, &code, 0);
      bool any = false;
      ForEachRange(&die, code, [&](uint64_t low, uint64_t high) {
        unit_table_.Add(low, high, 0, index);
        any = true;
      });
      if (!any && !code.has_ranges && dwarf_haschildren(&unit.functions_die) == 1) rangeless_units_.push_back(index);
      units_.push_back(std::move(unit));
    }
    unit_table_.Build();
  }

  // Some compilers give units no ranges: then their functions say what they cover. Read on the first miss only.
  void ReadRangelessUnits() {
    if (rangeless_units_.empty()) return;
    for (uint32_t index : rangeless_units_) {
      ReadFunctions(&units_[index]);
      for (const auto& [low, high] : last_function_ranges_) rangeless_table_.Add(low, high, 0, index);
    }
    rangeless_table_.Build();
    rangeless_units_.clear();
  }

  void ReadFunctions(Unit* unit) {
    if (unit->functions_read) return;
    unit->functions_read = true;
    last_function_ranges_.clear();
    unit->function_table = IntervalTable();
    CollectFunctions(unit, &unit->functions_die, 0);
    unit->function_table.Build();
    dwarf_getsrcfiles(&unit->functions_die, &unit->call_files, &unit->call_file_count);
    const char* directory = StringOf(&unit->lines_die, DW_AT_comp_dir);
    if (directory != nullptr) unit->directory.assign(directory, strnlen(directory, kMaxNameBytes));
  }

  void CollectFunctions(Unit* unit, Dwarf_Die* parent, uint32_t depth) {
    if (depth > kMaxScopeDepth) return;
    ForEachChild(parent, [&](Dwarf_Die* child) {
      const int tag = dwarf_tag(child);
      if (tag == DW_TAG_subprogram) {
        CodeAttributes code;
        dwarf_getattrs(child, &TakeAttribute, &code, 0);
        const uint32_t index = static_cast<uint32_t>(unit->functions.size());
        uint64_t start = UINT64_MAX;
        ForEachRange(child, code, [&](uint64_t low, uint64_t high) {
          // Of several ranges the first is the hot part with the entry; symbols are looked up there.
          if (start == UINT64_MAX) start = low;
          unit->function_table.Add(low, high, depth, index);
          last_function_ranges_.emplace_back(low, high);
        });
        if (start != UINT64_MAX) {
          Function function;
          function.die = *child;
          function.start = start;
          unit->functions.push_back(std::move(function));
        }
      }
      if (tag == DW_TAG_namespace || tag == DW_TAG_module || unit->deep) CollectFunctions(unit, child, depth + 1);
    });
  }

  void BuildInlines(Unit* unit, Function* function) {
    if (function->built) return;
    function->built = true;
    CollectInlines(unit, function, &function->die, IntervalTable::kNone, 0);
    function->inline_table.Build();
    function->inlines.shrink_to_fit();
  }

  void CollectInlines(Unit* unit, Function* function, Dwarf_Die* parent, uint32_t enclosing, uint32_t depth) {
    if (depth > kMaxInlineDepth) return;
    ForEachChild(parent, [&](Dwarf_Die* child) {
      const int tag = dwarf_tag(child);
      uint32_t inside = enclosing;
      if (tag == DW_TAG_inlined_subroutine) {
        CodeAttributes code;
        dwarf_getattrs(child, &TakeAttribute, &code, 0);
        const uint32_t index = static_cast<uint32_t>(function->inlines.size());
        ForEachRange(child, code,
                     [&](uint64_t low, uint64_t high) { function->inline_table.Add(low, high, depth, index); });
        function->inlines.push_back({*child, enclosing,
                                     static_cast<uint32_t>(std::min<uint64_t>(code.call_file, UINT32_MAX)),
                                     static_cast<uint32_t>(std::min<uint64_t>(code.call_line, UINT32_MAX))});
        inside = index;
      } else if (tag != DW_TAG_lexical_block && tag != DW_TAG_try_block && tag != DW_TAG_catch_block &&
                 tag != DW_TAG_with_stmt) {
        return;
      }
      CollectInlines(unit, function, child, inside, depth + 1);
    });
  }

  // The last row at or below the address, unless that row ends its sequence.
  void FindLine(Unit* unit, uint64_t address, SymbolFrame* frame) {
    if (!unit->lines_read) {
      unit->lines_read = true;
      if (dwarf_getsrclines(&unit->lines_die, &unit->lines, &unit->line_count) != 0) unit->line_count = 0;
    }
    size_t low = 0, high = unit->line_count;
    while (low < high) {
      const size_t middle = low + (high - low) / 2;
      Dwarf_Addr row_address = 0;
      dwarf_lineaddr(dwarf_onesrcline(unit->lines, middle), &row_address);
      if (row_address <= address) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    if (low == 0) return;
    Dwarf_Line* row = dwarf_onesrcline(unit->lines, low - 1);
    bool ends_sequence = false;
    int line = 0;
    if (dwarf_lineendsequence(row, &ends_sequence) != 0 || ends_sequence) return;
    frame->file = FullPath(*unit, dwarf_linesrc(row, nullptr, nullptr));
    if (dwarf_lineno(row, &line) == 0 && line > 0) frame->line = static_cast<uint32_t>(line);
  }

  // libdw leaves directories of DWARF 5 line tables relative to the compilation directory.
  static std::string FullPath(const Unit& unit, const char* file) {
    if (file == nullptr) return "";
    std::string path(file, strnlen(file, kMaxNameBytes));
    return path.starts_with('/') || unit.directory.empty() ? path : unit.directory + "/" + path;
  }

  // Follows abstract_origin and specification (across units and into the dwz file) to a linkage name, or failing
  // that to the declaration's name within its scopes.
  const Name& NameOf(Dwarf_Die* die) {
    Dwarf_Die at = *die;
    Dwarf_Attribute attribute;
    // Inlined calls and clones share their origin: that is where the name is remembered.
    if (dwarf_attr(&at, DW_AT_abstract_origin, &attribute) != nullptr) {
      Dwarf_Die origin;
      if (dwarf_formref_die(&attribute, &origin) != nullptr) at = origin;
    }
    const auto [entry, inserted] = names_.try_emplace(at.addr);
    if (!inserted) return entry->second;
    Name name;
    Dwarf_Die named;
    const char* plain = nullptr;
    bool external = false;
    for (int i = 0; i < kMaxReferenceChain; ++i) {
      const char* linkage = StringOf(&at, DW_AT_linkage_name);
      if (linkage == nullptr) linkage = StringOf(&at, DW_AT_MIPS_linkage_name);
      if (linkage != nullptr) {
        name.text = Demangle(linkage);
        name.mangled = name.text != linkage;
        if (name.mangled) {
          entry->second = std::move(name);
          return entry->second;
        }
        // C with an assembler name (glibc's __GI_abort): what the source calls it is what a reader looks for.
        external = true;
        if (plain == nullptr) {
          plain = linkage;
          named = at;
        }
      }
      if (const char* text = StringOf(&at, DW_AT_name)) {
        plain = text;
        named = at;
      }
      bool flag = false;
      if (dwarf_formflag(dwarf_attr(&at, DW_AT_external, &attribute), &flag) == 0 && flag) external = true;
      Dwarf_Die next;
      if (dwarf_attr(&at, DW_AT_abstract_origin, &attribute) == nullptr &&
          dwarf_attr(&at, DW_AT_specification, &attribute) == nullptr) {
        break;
      }
      if (dwarf_formref_die(&attribute, &next) == nullptr) break;
      at = next;
    }
    name.text.clear();
    if (plain != nullptr) {
      // External without a linkage name: extern "C", main; its name is all of it.
      if (!external) name.text = ScopeOf(&named);
      name.text.append(plain, strnlen(plain, kMaxNameBytes));
    }
    return entry->second = std::move(name);
  }

  // "a::b::" of a subprogram's DIE. DIEs do not know their parents: a unit is walked once when this is first asked.
  std::string ScopeOf(Dwarf_Die* die) {
    Dwarf_Die unit;
    if (dwarf_diecu(die, &unit, nullptr, nullptr) == nullptr || IsFlatLanguage(dwarf_srclang(&unit))) return "";
    const auto [entry, inserted] = scoped_units_.try_emplace(unit.addr);
    std::vector<ScopedDie>& dies = entry->second;
    if (inserted) CollectScopes(&unit, 0, 0, &dies);
    const auto found = std::lower_bound(dies.begin(), dies.end(), die->addr,
                                        [](const ScopedDie& a, const void* address) { return a.die < address; });
    if (found == dies.end() || found->die != die->addr) return "";
    std::vector<const char*> names;
    for (uint32_t at = found->scope; at != 0; at = scopes_[at].outer) names.push_back(scopes_[at].name);
    std::string scope;
    for (auto name = names.rbegin(); name != names.rend() && scope.size() < kMaxNameBytes; ++name) {
      scope.append(*name, strnlen(*name, kMaxNameBytes)).append("::");
    }
    return scope;
  }

  // The walk goes forward in the section, so `dies` comes out sorted.
  void CollectScopes(Dwarf_Die* parent, uint32_t scope, uint32_t depth, std::vector<ScopedDie>* dies) {
    if (depth > kMaxScopeDepth) return;
    ForEachChild(parent, [&](Dwarf_Die* child) {
      uint32_t inside = scope;
      switch (dwarf_tag(child)) {
        case DW_TAG_subprogram:
          if (scope != 0) dies->push_back({child->addr, scope});
          [[fallthrough]];
        case DW_TAG_namespace:
        case DW_TAG_module:
        case DW_TAG_class_type:
        case DW_TAG_structure_type:
        case DW_TAG_union_type:
        case DW_TAG_interface_type:
        case DW_TAG_enumeration_type: {
          if (dwarf_haschildren(child) != 1) return;
          const char* name = StringOf(child, DW_AT_name);
          if (name == nullptr && dwarf_tag(child) == DW_TAG_namespace) name = "(anonymous namespace)";
          if (name != nullptr) {
            inside = static_cast<uint32_t>(scopes_.size());
            scopes_.push_back({scope, name});
          }
          break;
        }
        case DW_TAG_lexical_block:
          break;
        default:
          return;
      }
      CollectScopes(child, inside, depth + 1, dies);
    });
  }

  std::shared_ptr<const ElfImage> image_, alternate_image_;
  Elf* elf_ = nullptr;
  Elf* alternate_elf_ = nullptr;
  Dwarf* dwarf_ = nullptr;
  Dwarf* alternate_dwarf_ = nullptr;
  std::vector<Unit> units_;
  IntervalTable unit_table_, rangeless_table_;
  std::vector<uint32_t> rangeless_units_;
  std::vector<std::pair<uint64_t, uint64_t>> last_function_ranges_;  // of the last ReadFunctions that read anything
  uint64_t ranges_read_ = 0;
  uint64_t missing_split_units_ = 0;
  std::unordered_map<const void*, Name> names_;                           // by DIE of the origin
  std::unordered_map<const void*, std::vector<ScopedDie>> scoped_units_;  // by unit DIE
  std::vector<Scope> scopes_ = {{0, ""}};                                 // 0: no scope
};

}  // namespace

std::unique_ptr<DwarfIndex> DwarfIndex::Open(const FoundImage& debug, const FoundImage& alternate, std::string* error) {
  auto index = std::make_unique<LibdwIndex>();
  if (!index->Init(debug, alternate, error)) return nullptr;
  return index;
}

}  // namespace tidemark
