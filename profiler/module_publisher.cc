// Module records; see module_publisher.h.
#include "profiler/module_publisher.h"

#include "profiler/os.h"
#include "profiler/ring_writer.h"
#include "profiler/stack_table.h"

namespace tidemark {
namespace {

struct Published {
  std::atomic<uintptr_t> start;  // 0: entry not used yet
  uintptr_t end;
  uint64_t identity;
  std::atomic<uint64_t> generation;  // of the loader when this was last seen to hold
};
constexpr uint64_t kUnknownGeneration = 0;  // the loader's counter was not found
constexpr uint32_t kMaxPublished = 4096;
constinit Published published[kMaxPublished] = {};  // never by an initialiser that runs after ours
std::atomic<uint32_t> published_count{0};

uint64_t Identity(const uint8_t* build_id, size_t bytes, const char* path) {
  uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
  const auto mix = [&](uint8_t byte) { hash = (hash ^ byte) * 0x100000001b3u; };
  for (size_t i = 0; i < bytes; i++) mix(build_id[i]);
  for (; *path != 0; path++) mix(static_cast<uint8_t>(*path));
  return hash;
}

constexpr uint32_t kFixedWords = 5;

bool Emit(ThreadState* thread, const ModuleView& module, const uint8_t* id, size_t id_bytes, const char* path) {
  size_t path_bytes = __builtin_strlen(path);
  const size_t limit = session.header->chunk_bytes / 2;
  if (path_bytes > limit) path_bytes = limit;
  const uint32_t words = static_cast<uint32_t>(kFixedWords + (id_bytes + path_bytes + 7) / 8);
  if (!ReserveWords(thread, words)) return false;
  PutWord(thread, static_cast<uint64_t>(RecordKind::kModule) | uint64_t{words} << 4 | uint64_t{id_bytes} << 16 |
                      uint64_t{path_bytes} << 24);
  PutWord(thread, module.start);
  PutWord(thread, module.end);
  PutWord(thread, module.load_bias);
  PutWord(thread, NextStackNode());
  auto* bytes = reinterpret_cast<char*>(thread->cursor);
  if (words > kFixedWords) thread->cursor[words - kFixedWords - 1] = 0;  // the padding of the last word
  __builtin_memcpy(bytes, id, id_bytes);
  __builtin_memcpy(bytes + id_bytes, path, path_bytes);
  thread->cursor += words - kFixedWords;
  Commit(thread);
  return true;
}

}  // namespace

void ForgetPublishedModules() {
  // Entries too: a new one is counted before its range is stored.
  for (Published& entry : published) entry.start.store(0, std::memory_order_relaxed);
  published_count.store(0, std::memory_order_relaxed);
}

void PublishModule(ThreadState* thread, const ModuleView& module) {
  uint8_t id[64];
  uint32_t count = published_count.load(std::memory_order_acquire);
  if (count > kMaxPublished) count = kMaxPublished;  // another thread is about to find the table full
  const uint64_t generation = LoaderGeneration();
  // The latest publication of a range is the valid one. Within one generation of the loader it cannot have changed, so
  // that the module need not be read again for each of its rules.
  Published* latest = nullptr;
  for (uint32_t i = count; i-- > 0 && latest == nullptr;) {
    const uintptr_t start = published[i].start.load(std::memory_order_acquire);
    if (start != 0 && module.start < published[i].end && module.end > start) latest = &published[i];
  }
  const bool same_range =
      latest != nullptr && latest->end == module.end && latest->start.load(std::memory_order_relaxed) == module.start;
  if (same_range && generation != kUnknownGeneration &&
      latest->generation.load(std::memory_order_relaxed) == generation) {
    return;
  }
  const char* path = ModulePath(module);
  const size_t id_bytes = ReadBuildId(module, id, sizeof(id));
  const uint64_t identity = Identity(id, id_bytes, path);
  if (same_range && latest->identity == identity) {
    latest->generation.store(generation, std::memory_order_relaxed);
    return;
  }
  const bool reused = latest != nullptr;
  // Before the record: from the node number that it gives on, no node of the old module is found any more.
  if (reused) ResetStackTable(false);
  if (!Emit(thread, module, id, id_bytes, path)) return;
  const uint32_t index = published_count.fetch_add(1, std::memory_order_acq_rel);
  if (index < kMaxPublished) {
    published[index].end = module.end;
    published[index].identity = identity;
    published[index].generation.store(generation, std::memory_order_relaxed);
    published[index].start.store(module.start, std::memory_order_release);
  } else {
    published_count.store(kMaxPublished, std::memory_order_relaxed);
  }
}

}  // namespace tidemark
