// Symbolizes the addresses on stdin (hex, one a line) in the file named by argv[1]; the comparison with other
// symbolizers (compare.py) and measurements drive it. Prints "0xADDRESS" and one tab-separated line per frame.
//
// lookup FILE [CACHE_DIRECTORY]: with a cache directory the results are kept there; timing goes to stderr.
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "tools/elf_image.h"
#include "tools/symbolizer.h"

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: lookup FILE [CACHE_DIRECTORY] < addresses\n");
    return 2;
  }
  std::vector<uint64_t> addresses;
  for (std::string line; std::getline(std::cin, line);) addresses.push_back(std::stoull(line, nullptr, 16));
  const auto start = std::chrono::steady_clock::now();
  tidemark::TraceModule module;
  module.path = std::filesystem::absolute(argv[1]);
  std::string error;
  if (const auto image = tidemark::ElfImage::Open(module.path, &error)) module.build_id = image->build_id();
  tidemark::SymbolizerOptions options;
  options.use_cache = argc > 2;
  if (argc > 2) options.cache_directory = argv[2];
  const auto symbolizer = tidemark::Symbolizer::Create(options);
  const uint32_t id = symbolizer->AddModule(module);
  symbolizer->Prefetch(id, addresses);
  size_t frames = 0;
  for (uint64_t address : addresses) frames += symbolizer->Resolve(id, address).frames.size();
  const auto resolved = std::chrono::steady_clock::now();
  symbolizer->SaveCache();
  const auto saved = std::chrono::steady_clock::now();
  const auto milliseconds = [](auto duration) { return std::chrono::duration<double, std::milli>(duration).count(); };
  const tidemark::ModuleSymbols& status = symbolizer->Status(id);
  std::fprintf(stderr, "%zu addresses, %zu frames, resolve %.1f ms, save %.1f ms, source %d %s\n", addresses.size(),
               frames, milliseconds(resolved - start), milliseconds(saved - resolved), static_cast<int>(status.source),
               status.reason.c_str());
  for (uint64_t address : addresses) {
    std::printf("0x%llx\n", static_cast<unsigned long long>(address));
    for (const tidemark::SymbolFrame& frame : symbolizer->Resolve(id, address).frames) {
      std::printf("\t%s\t%s\t%u\t%d\n", frame.function.c_str(), frame.file.c_str(), frame.line, frame.inlined ? 1 : 0);
    }
  }
  return 0;
}
