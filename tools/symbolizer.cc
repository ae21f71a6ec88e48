// Chooses a source of names per module and remembers what it said; the sources themselves live in dwarf_index,
// llvm_symbolizer and elf_symbols. See symbolizer.h for the contract.
//
// Finding a module's files is done when it is added (some opens and stats); reading them waits until an address is
// not in the disk cache. A module without a trustworthy file gets no names at all: wrong ones would be believed.
#include "tools/symbolizer.h"

#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <unordered_map>
#include <utility>

#include "tools/debug_files.h"
#include "tools/dwarf_index.h"
#include "tools/elf_symbols.h"
#include "tools/llvm_symbolizer.h"
#include "tools/symbol_cache.h"
#include "tools/zstd_sections.h"

namespace tidemark {
namespace {

bool IsBetter(SymbolSource a, SymbolSource b) { return static_cast<int>(a) < static_cast<int>(b); }

void AddReason(ModuleSymbols* status, const std::string& reason) {
  if (reason.empty()) return;
  if (!status->reason.empty()) status->reason += "; ";
  status->reason += reason;
}

// What the results depend on besides the build-id. The path is not part of it: the build-id already says which build.
std::string Identity(const char* role, const FoundImage& found) {
  struct stat status;
  if (found.image == nullptr || stat(found.path.c_str(), &status) != 0) return std::string(role) + ":none ";
  return std::string(role) + ":" + std::to_string(status.st_size) + ":" + std::to_string(status.st_mtim.tv_sec) + "." +
         std::to_string(status.st_mtim.tv_nsec) + " ";
}

bool HasTable(const FoundImage& found, const char* section_name) {
  if (found.image == nullptr) return false;
  const ElfSection* section = found.image->FindSection(section_name);
  return section != nullptr && !found.image->BytesOf(*section).empty();
}

class ModuleResolver {
 public:
  ModuleResolver(TraceModule module, const SymbolizerOptions& options, const SymbolCache* cache)
      : module_(std::move(module)), options_(options) {
    files_ = FindModuleFiles(module_, options_.debug_directories);
    if (options_.allow_llvm) llvm_tool_ = FindLlvmSymbolizer();
    key_ = Identity("program", files_.program) + Identity("debug", files_.debug) +
           Identity("alternate", files_.alternate) + "llvm:" + llvm_tool_;
    if (cache == nullptr) return;
    cached_ = cache->Load(module_.build_id);
    if (cached_ == nullptr) return;
    cache_is_current_ = cached_->key() == key_;
    // Debug symbols that are gone by now leave results behind that are still true of this build-id.
    if (!cache_is_current_ && !IsBetter(cached_->status().source, ExpectedSource())) cached_ = nullptr;
    if (cached_ != nullptr) {
      status_ = cached_->status();
      if (!cache_is_current_) AddReason(&status_, "names partly from the symbol cache; now " + files_.reason);
    }
  }

  const SymbolizedAddress& Resolve(uint64_t address) {
    const auto known = memo_.find(address);
    if (known != memo_.end()) return known->second;
    Prefetch({address});
    return memo_[address];
  }

  void Prefetch(std::vector<uint64_t> addresses) {
    std::sort(addresses.begin(), addresses.end());
    addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
    std::erase_if(addresses, [this](uint64_t address) {
      if (memo_.contains(address)) return true;
      SymbolizedAddress result;
      if (cached_ == nullptr || !cached_->Find(address, &result)) return false;
      memo_.emplace(address, std::move(result));
      return true;
    });
    if (addresses.empty()) return;
    EnsureLoaded();
    changed_ = true;
    if (llvm_ != nullptr) {
      std::vector<SymbolizedAddress> results;
      if (llvm_->Resolve(addresses, &results)) {
        for (size_t i = 0; i < addresses.size(); ++i) {
          // llvm-symbolizer names the physical function by the nearest symbol, be it an assembler label within it.
          const ElfSymbol* symbol = Symbols().Find(addresses[i]);
          if (symbol != nullptr && !results[i].frames.empty()) results[i].frames.back().function = NameOf(*symbol);
          NamePhysicalFunction(addresses[i], &results[i]);
          memo_.emplace(addresses[i], std::move(results[i]));
        }
        return;
      }
      AddReason(&status_, llvm_->error());
      llvm_ = nullptr;
      status_.source = dwarf_ != nullptr ? SymbolSource::kDwarf : Symbols().best_source();
    }
    for (uint64_t address : addresses) memo_.emplace(address, ResolveHere(address));
  }

  const ModuleSymbols& Status() {
    if (cached_ == nullptr) EnsureLoaded();
    return status_;
  }

  void Save(SymbolCache* cache) {
    if (!changed_ || module_.build_id.empty() || !IsBetter(status_.source, SymbolSource::kNone)) return;
    // Better results of a source that is gone are not mixed with what is found without it.
    if (cached_ != nullptr && !cache_is_current_) return;
    CachedModule saved;
    saved.key = key_;
    saved.status = status_;
    for (const auto& [address, result] : memo_) saved.addresses.emplace(address, result);
    CachedModule merged = saved;
    // Read again: another process may have added to it since.
    const std::shared_ptr<const CachedSymbols> on_disk = cache->Load(module_.build_id);
    if (on_disk != nullptr && on_disk->key() == key_) on_disk->CopyTo(&merged.addresses);
    if (!cache->Store(module_.build_id, merged)) cache->Store(module_.build_id, saved);
    changed_ = false;
  }

 private:
  SymbolSource ExpectedSource() const {
    if (files_.debug.image != nullptr && files_.debug.image->HasDebugInfo()) return SymbolSource::kDwarf;
    if (HasTable(files_.program, ".gnu_debugdata")) return SymbolSource::kMinidebug;
    if (HasTable(files_.debug, ".symtab") || HasTable(files_.program, ".symtab")) return SymbolSource::kSymtab;
    return HasTable(files_.program, ".dynsym") ? SymbolSource::kDynsym : SymbolSource::kNone;
  }

  void EnsureLoaded() {
    if (loaded_) return;
    loaded_ = true;
    ModuleSymbols status;
    status.reason = files_.reason;
    if (files_.program.image != nullptr && module_.build_id.empty()) {
      AddReason(&status, "the trace has no build-id for this module: names are those of the file found now");
    }
    if (files_.debug.image != nullptr && files_.debug.image->HasDebugInfo()) OpenDebugInfo(&status);
    if (dwarf_ == nullptr && llvm_ == nullptr) {
      status.source = Symbols().best_source();
      AddReason(&status, minidebug_error_);
    }
    // Results of the cache stay in use where they are better; see the constructor.
    if (cached_ == nullptr || cache_is_current_) status_ = std::move(status);
  }

  void OpenDebugInfo(ModuleSymbols* status) {
    FoundImage debug = files_.debug;
    std::string error;
    if (debug.image->HasZstdDebugSections()) debug.image = UnpackZstdSections(*debug.image, &error);
    if (debug.image != nullptr) dwarf_ = DwarfIndex::Open(debug, files_.alternate, &error);
    if (dwarf_ != nullptr) status->source = SymbolSource::kDwarf;
    std::string problem;
    if (dwarf_ == nullptr) {
      problem = files_.debug.path + ": its DWARF cannot be read (" + error + ")";
    } else if (dwarf_->missing_split_units() != 0) {
      problem = files_.debug.path + ": " + std::to_string(dwarf_->missing_split_units()) +
                " units have their DWARF in .dwo or .dwp files that were not found or cannot be read";
    } else {
      return;
    }
    if (!options_.allow_llvm) {
      AddReason(status, problem + " (llvm-symbolizer is switched off)");
    } else if (llvm_tool_.empty()) {
      AddReason(status, problem + "; install llvm-symbolizer 14 or newer to try it (apt-get install llvm)");
    } else {
      llvm_ = LlvmSymbolizer::Start(llvm_tool_, files_.debug.path, options_.debug_directories, &error);
      if (llvm_ != nullptr) {
        status->source = SymbolSource::kLlvm;
      } else {
        problem += "; " + error;
      }
      AddReason(status, problem);
    }
  }

  SymbolizedAddress ResolveHere(uint64_t address) {
    DwarfAnswer answer;
    SymbolizedAddress result;
    if (dwarf_ != nullptr && dwarf_->Find(address, &answer)) {
      result.frames = std::move(answer.frames);
      if (answer.function_is_unmangled) PreferSymbolName(answer.function_start, &result.frames.back().function);
    }
    NamePhysicalFunction(address, &result);
    return result;
  }

  // Static C++ functions have no linkage name in DWARF, their symbol tells scope and parameters; C functions may have
  // several symbols, of which DWARF names an internal one (__libc_malloc, where programs call malloc).
  void PreferSymbolName(uint64_t function_start, std::string* function) {
    const ElfSymbol* symbol = Symbols().Find(function_start);
    if (symbol == nullptr || symbol->address != function_start) return;
    // As for mangled names in DWARF, clones (.cold, .constprop.0) keep the name of their origin.
    const std::string& name = NameOf(*symbol);
    if (name.starts_with(*function + ".")) return;
    *function = name.substr(0, name.find(" [clone "));
  }

  // Code DWARF knows nothing about, or only the lines of (assembly), is named by the symbol tables.
  void NamePhysicalFunction(uint64_t address, SymbolizedAddress* result) {
    if (!result->frames.empty() && !result->frames.back().function.empty()) return;
    const ElfSymbol* symbol = Symbols().Find(address);
    if (symbol == nullptr) return;
    if (result->frames.empty()) result->frames.emplace_back();
    result->frames.back().function = NameOf(*symbol);
  }

  ElfSymbols& Symbols() {
    if (symbols_ != nullptr) return *symbols_;
    symbols_ = std::make_unique<ElfSymbols>();
    if (files_.debug.image != nullptr && files_.debug.image != files_.program.image) {
      symbols_->AddImage(files_.debug.image);
    }
    if (files_.program.image != nullptr) {
      symbols_->AddImage(files_.program.image);
      if (IsBetter(SymbolSource::kDynsym, symbols_->best_source()) ||
          symbols_->best_source() == SymbolSource::kDynsym) {
        symbols_->AddMinidebugInfo(*files_.program.image, &minidebug_error_);
      }
    }
    symbols_->Build();
    return *symbols_;
  }

  const std::string& NameOf(const ElfSymbol& symbol) {
    const auto [entry, inserted] = symbol_names_.try_emplace(symbol.address);
    if (inserted) entry->second = Demangle(std::string(symbol.name));
    return entry->second;
  }

  TraceModule module_;
  const SymbolizerOptions& options_;
  ModuleFiles files_;
  std::string llvm_tool_, key_, minidebug_error_;
  std::shared_ptr<const CachedSymbols> cached_;
  bool cache_is_current_ = false;
  bool loaded_ = false, changed_ = false;
  ModuleSymbols status_;
  std::unique_ptr<DwarfIndex> dwarf_;
  std::unique_ptr<LlvmSymbolizer> llvm_;
  std::unique_ptr<ElfSymbols> symbols_;
  std::unordered_map<uint64_t, std::string> symbol_names_;  // by symbol address
  std::unordered_map<uint64_t, SymbolizedAddress> memo_;    // nodes stay where they are: references are stable
};

class ModuleSymbolizer : public Symbolizer {
 public:
  explicit ModuleSymbolizer(SymbolizerOptions options) : options_(std::move(options)) {
    if (options_.use_cache) {
      cache_ = std::make_unique<SymbolCache>(options_.cache_directory, options_.cache_max_bytes);
      if (!cache_->reason().empty()) cache_ = nullptr;
    }
  }

  uint32_t AddModule(const TraceModule& module) override {
    const auto [entry, inserted] =
        ids_.try_emplace({module.build_id, module.path}, static_cast<uint32_t>(modules_.size()));
    if (inserted) modules_.push_back(std::make_unique<ModuleResolver>(module, options_, cache_.get()));
    return entry->second;
  }

  const SymbolizedAddress& Resolve(uint32_t module, uint64_t relative_pc) override {
    static const SymbolizedAddress kUnknown;
    return module < modules_.size() ? modules_[module]->Resolve(relative_pc) : kUnknown;
  }

  void Prefetch(uint32_t module, const std::vector<uint64_t>& relative_pcs) override {
    if (module < modules_.size()) modules_[module]->Prefetch(relative_pcs);
  }

  const ModuleSymbols& Status(uint32_t module) const override {
    static const ModuleSymbols kUnknown = {SymbolSource::kNone, "no such module"};
    return module < modules_.size() ? modules_[module]->Status() : kUnknown;
  }

  void SaveCache() override {
    if (cache_ == nullptr) return;
    for (const auto& module : modules_) module->Save(cache_.get());
  }

 private:
  const SymbolizerOptions options_;
  std::unique_ptr<SymbolCache> cache_;
  std::map<std::pair<std::string, std::string>, uint32_t> ids_;
  std::vector<std::unique_ptr<ModuleResolver>> modules_;
};

}  // namespace

std::unique_ptr<Symbolizer> Symbolizer::Create(SymbolizerOptions options) {
  return std::make_unique<ModuleSymbolizer>(std::move(options));
}

}  // namespace tidemark
