// Marking, and folding of what was not marked; see reachability.h.
//
// A word is looked up in two tables: one entry per 32 MiB of addresses, then one per 512 bytes, which names the first
// block there. Both are sparse in untouched memory where the heap is.
#include "profiler/reachability.h"

#include <cpuid.h>
#include <immintrin.h>

namespace tidemark {
namespace {

constexpr uint32_t kGranuleBits = 9, kUnitBits = 25;
constexpr uint32_t kGranulesPerUnit = 1u << (kUnitBits - kGranuleBits);
constexpr uint64_t kWord = 8;

constexpr size_t RoundUp(size_t bytes) { return (bytes + 15) & ~size_t{15}; }
uint64_t LowOf(const HeapBlock* blocks) { return blocks[0].start & ~((uint64_t{1} << kGranuleBits) - 1); }

// What will be scanned soon: the beginning, after which the processor knows how it goes on.
void Prefetch(const HeapBlock& block) {
  constexpr uint64_t kLine = 64;
  __builtin_prefetch(reinterpret_cast<const void*>(block.start));
  if (block.size > kLine) __builtin_prefetch(reinterpret_cast<const void*>(block.start + kLine));
}

bool HasAvx2() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kOsSavesRegisters = 1u << 27, kAvx2 = 1u << 5;
  if (__get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kOsSavesRegisters) == 0) return false;
  unsigned saved_low, saved_high;
  asm volatile("xgetbv" : "=a"(saved_low), "=d"(saved_high) : "c"(0));
  constexpr unsigned kSseAndAvx = 6;
  if ((saved_low & kSseAndAvx) != kSseAndAvx) return false;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & kAvx2) != 0;
}

// The first word of [at, end) whose value is in [low, low + span]; `end` if there is none. Whole groups of eight words
// are tested at once.
__attribute__((target("avx2"))) uint64_t NextInRangeAvx2(uint64_t at, uint64_t end, uint64_t low, uint64_t span) {
  const __m256i base = _mm256_set1_epi64x(static_cast<long long>(low));
  // Unsigned comparison by a signed one: both sides with their top bit turned.
  const __m256i top = _mm256_set1_epi64x(static_cast<long long>(uint64_t{1} << 63));
  const __m256i limit = _mm256_xor_si256(_mm256_set1_epi64x(static_cast<long long>(span)), top);
  for (; at + 8 * kWord <= end; at += 8 * kWord) {
    const auto* words = reinterpret_cast<const __m256i*>(at);
    const __m256i first = _mm256_xor_si256(_mm256_sub_epi64(_mm256_loadu_si256(words), base), top);
    const __m256i second = _mm256_xor_si256(_mm256_sub_epi64(_mm256_loadu_si256(words + 1), base), top);
    const __m256i beyond_first = _mm256_cmpgt_epi64(first, limit), beyond_second = _mm256_cmpgt_epi64(second, limit);
    const int all = _mm256_movemask_epi8(_mm256_and_si256(beyond_first, beyond_second));
    if (all == -1) [[likely]]
      continue;
    const unsigned inside = ~(static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(beyond_first))) |
                              static_cast<unsigned>(_mm256_movemask_pd(_mm256_castsi256_pd(beyond_second))) << 4);
    return at + kWord * static_cast<unsigned>(__builtin_ctz(inside));
  }
  for (; at < end; at += kWord) {
    if (*reinterpret_cast<const uint64_t*>(at) - low <= span) return at;
  }
  return end;
}

uint64_t NextInRange(uint64_t at, uint64_t end, uint64_t low, uint64_t span) {
  for (; at < end; at += kWord) {
    if (*reinterpret_cast<const uint64_t*>(at) - low <= span) return at;
  }
  return end;
}

}  // namespace

// Where the tables are in the workspace; offsets in bytes.
struct ReachabilityMarker::Layout {
  Layout(const HeapBlock* blocks, uint32_t count) {
    if (count == 0) return;
    const uint64_t low = LowOf(blocks);
    unit_count = ((blocks[count - 1].start + blocks[count - 1].size - low) >> kUnitBits) + 1;
    uint64_t used_units = 0, next_unit = 0;
    for (uint32_t i = 0; i < count; i++) {
      const uint64_t first = (blocks[i].start - low) >> kUnitBits;
      const uint64_t last = (blocks[i].start + blocks[i].size - low) >> kUnitBits;
      if (last < next_unit) continue;
      used_units += last + 1 - (first > next_unit ? first : next_unit);
      next_unit = last + 1;
    }
    granules = Place(unit_count * sizeof(uint32_t));
    marks = Place(used_units * kGranulesPerUnit * sizeof(uint32_t));
    pending = Place(count);
    pointed_into = Place(size_t{count} * sizeof(uint32_t));
    vertex_of = Place(size_t{count} * sizeof(uint32_t));
    vertices = Place(size_t{count} * sizeof(uint32_t));
    Place(size_t{count} * sizeof(Vertex));
  }
  // Takes room for a table; where the next one begins.
  size_t Place(size_t table_bytes) { return bytes += RoundUp(table_bytes); }

  uint64_t unit_count = 0;
  size_t bytes = 0, granules = 0, marks = 0, pending = 0, pointed_into = 0, vertex_of = 0, vertices = 0;
};

size_t ReachabilityMarker::WorkspaceBytes(const HeapBlock* blocks, uint32_t count) {
  return Layout(blocks, count).bytes;
}

ReachabilityMarker::ReachabilityMarker(const HeapBlock* blocks, uint32_t count, void* workspace)
    : blocks_(blocks), count_(count), has_avx2_(HasAvx2()) {
  if (count == 0) return;
  const Layout layout(blocks, count);
  auto* bytes = static_cast<uint8_t*>(workspace);
  units_ = reinterpret_cast<uint32_t*>(bytes);
  granules_ = reinterpret_cast<uint32_t*>(bytes + layout.granules);
  marks_ = bytes + layout.marks;
  pending_ = reinterpret_cast<uint32_t*>(bytes + layout.pending);
  pointed_into_ = reinterpret_cast<uint32_t*>(bytes + layout.pointed_into);
  vertex_of_ = reinterpret_cast<uint32_t*>(bytes + layout.vertex_of);
  vertices_ = reinterpret_cast<Vertex*>(bytes + layout.vertices);
  low_ = LowOf(blocks);
  span_ = blocks[count - 1].start + blocks[count - 1].size - low_;
  uint32_t tables = 0;
  for (uint32_t i = 0; i < count; i++) {
    const uint64_t last = (blocks[i].start + blocks[i].size - low_) >> kGranuleBits;
    for (uint64_t granule = (blocks[i].start - low_) >> kGranuleBits; granule <= last; granule++) {
      uint32_t& unit = units_[granule >> (kUnitBits - kGranuleBits)];
      if (unit == 0) unit = ++tables;
      uint32_t& first = granules_[uint64_t{unit - 1} * kGranulesPerUnit + granule % kGranulesPerUnit];
      if (first == 0) first = i + 1;
    }
  }
}

inline const uint32_t* ReachabilityMarker::GranuleOf(uint64_t word) const {
  const uint64_t offset = word - low_;
  const uint32_t unit = units_[offset >> kUnitBits];
  if (unit == 0) return nullptr;
  return &granules_[uint64_t{unit - 1} * kGranulesPerUnit + (offset >> kGranuleBits) % kGranulesPerUnit];
}

uint32_t ReachabilityMarker::FindFrom(uint32_t first, uint64_t word, bool* inside) const {
  uint32_t i = first;
  if (blocks_[i].start > word) return kNobody;
  while (i + 1 < count_ && blocks_[i + 1].start <= word) i++;
  const uint64_t within = word - blocks_[i].start;
  if (within > blocks_[i].size) return kNobody;
  *inside = within != 0;
  return i;
}

uint32_t ReachabilityMarker::Find(uint64_t word, bool* inside) const {
  const uint32_t* granule = GranuleOf(word);
  return granule == nullptr || *granule == 0 ? kNobody : FindFrom(*granule - 1, word, inside);
}

// Calls on_word(word, where the next one is) for words that may point at a block, until it returns false.
template <typename OnWord>
void ReachabilityMarker::ForEachCandidate(uint64_t start, uint64_t end, OnWord on_word) const {
  uint64_t at = (start + kWord - 1) & ~(kWord - 1);
  end &= ~(kWord - 1);
  while (at < end) {
    at = has_avx2_ ? NextInRangeAvx2(at, end, low_, span_) : NextInRange(at, end, low_, span_);
    if (at >= end) return;
    const uint64_t word = *reinterpret_cast<const uint64_t*>(at);
    at += kWord;
    if (!on_word(word, at)) return;
  }
}

template <typename OnBlock>
void ReachabilityMarker::ForEachPointer(uint64_t start, uint64_t end, OnBlock on_block) const {
  ForEachCandidate(start, end, [this, on_block](uint64_t word, uint64_t behind) {
    bool inside = false;
    const uint32_t block = Find(word, &inside);
    return block == kNobody || on_block(block, inside, behind);
  });
}

void ReachabilityMarker::Consider(uint64_t word, RootKind root) {
  const uint32_t* granule = GranuleOf(word);
  if (granule == nullptr) return;
  __builtin_prefetch(granule);
  if (candidates_.full()) LookUpGranule();
  candidates_.Put({word, granule, root});
}

void ReachabilityMarker::LookUpGranule() {
  const Candidate candidate = candidates_.Take();
  if (*candidate.granule == 0) return;
  const uint32_t block = *candidate.granule - 1;
  __builtin_prefetch(&blocks_[block]);
  __builtin_prefetch(&marks_[block], 1);
  if (located_.full()) LookUpBlock();
  located_.Put({candidate.word, block, candidate.root});
}

void ReachabilityMarker::LookUpBlock() {
  const Located located = located_.Take();
  bool inside = false;
  const uint32_t block = FindFrom(located.block, located.word, &inside);
  if (block != kNobody) Reach(block, inside, located.root);
}

void ReachabilityMarker::Reach(uint32_t block, bool inside, RootKind root) {
  const auto mark = static_cast<Mark>(marks_[block] & 15);
  const uint8_t by_root = static_cast<uint8_t>(static_cast<uint8_t>(root) << 4);
  if (flooding_possible_) {
    if (mark == kReached || mark == kPossible) return;
    const uint8_t known_root = mark == kPointedInto ? static_cast<uint8_t>(marks_[block] & 0xf0) : by_root;
    marks_[block] = static_cast<uint8_t>(kPossible | known_root);
  } else if (inside) {
    if (mark != kUnseen) return;
    marks_[block] = static_cast<uint8_t>(kPointedInto | by_root);
    pointed_into_[pointed_into_count_++] = block;
    return;
  } else {
    if (mark == kReached) return;
    marks_[block] = static_cast<uint8_t>(kReached | by_root);
  }
  if (to_scan_.full()) {
    pending_[pending_count_++] = block;
    return;
  }
  Prefetch(blocks_[block]);
  to_scan_.Put(block);
}

void ReachabilityMarker::Flood() {
  for (;;) {
    if (to_scan_.empty()) {
      while (!candidates_.empty()) LookUpGranule();
      while (!located_.empty()) LookUpBlock();
      while (pending_count_ != 0 && !to_scan_.full()) {
        const uint32_t block = pending_[--pending_count_];
        Prefetch(blocks_[block]);
        to_scan_.Put(block);
      }
      if (to_scan_.empty()) return;
    }
    const uint32_t block = to_scan_.Take();
    const auto root = static_cast<RootKind>(marks_[block] >> 4);
    ForEachCandidate(blocks_[block].start, blocks_[block].start + blocks_[block].size,
                     [this, root](uint64_t word, uint64_t) {
                       Consider(word, root);
                       return true;
                     });
  }
}

void ReachabilityMarker::MarkRoots(const RootRange& range) {
  if (count_ == 0) return;
  ForEachCandidate(range.start, range.end, [this, &range](uint64_t word, uint64_t) {
    Consider(word, range.kind);
    return true;
  });
  Flood();
}

void ReachabilityMarker::MarkWord(uint64_t word, RootKind kind) {
  if (count_ == 0 || word - low_ > span_) return;
  bool inside = false;
  const uint32_t block = Find(word, &inside);
  if (block == kNobody) return;
  Reach(block, inside, kind);
  Flood();
}

void ReachabilityMarker::Finish() {
  flooding_possible_ = true;
  for (uint32_t i = 0; i < pointed_into_count_; i++) {
    const uint32_t block = pointed_into_[i];
    if ((marks_[block] & 15) == kPointedInto) Reach(block, true, RootKind::kNone);
    Flood();
  }
  FoldLost();
}

// One component at a time is found by a walk that keeps its path in pending_ and the vertices of open components in
// pointed_into_; neither is needed for marking any more.
void ReachabilityMarker::FoldLost() {
  for (uint32_t i = 0; i < count_; i++) {
    if ((marks_[i] & 15) != kUnseen) continue;
    marks_[i] = kLost;
    vertex_of_[i] = vertex_count_;
    vertices_[vertex_count_] = {i, 0, 0, kNobody, blocks_[i].start, false, false, 0};
    vertex_count_++;
  }
  uint32_t counter = 0;
  for (uint32_t v = 0; v < vertex_count_; v++) {
    if (vertices_[v].index == 0) WalkFrom(v, &counter);
  }
  // Only from outside of all others can a component be entered first that nothing points at, so its first vertex is the
  // one of lowest address.
  for (uint32_t v = 0; v < vertex_count_; v++) {
    if (vertices_[v].component == v && !vertices_[v].referenced) Charge(v);
  }
}

void ReachabilityMarker::WalkFrom(uint32_t vertex, uint32_t* counter) {
  uint32_t* path = pending_;
  uint32_t* open = pointed_into_;
  uint32_t path_length = 0, open_count = 0;
  const auto enter = [&](uint32_t v) {
    vertices_[v].index = vertices_[v].low_link = ++*counter;
    path[path_length++] = v;
    open[open_count++] = v;
  };
  enter(vertex);
  while (path_length != 0) {
    const uint32_t v = path[path_length - 1];
    Vertex& here = vertices_[v];
    const HeapBlock& block = blocks_[here.block];
    uint32_t next = kNobody;
    ForEachPointer(here.cursor, block.start + block.size, [&](uint32_t target, bool, uint64_t behind) {
      if ((marks_[target] & 15) != kLost) return true;
      const uint32_t w = vertex_of_[target];
      Vertex& there = vertices_[w];
      if (there.index == 0) {
        here.cursor = behind;
        next = w;
        return false;
      }
      if (there.component != kNobody)
        vertices_[there.component].referenced = true;
      else if (there.index < here.low_link)
        here.low_link = there.index;
      return true;
    });
    if (next != kNobody) {
      enter(next);
      continue;
    }
    path_length--;
    const bool closes = here.low_link == here.index;
    if (closes) {
      uint32_t member;
      do {
        member = open[--open_count];
        vertices_[member].component = v;
      } while (member != v);
    }
    if (path_length == 0) continue;
    if (closes) {
      here.referenced = true;  // by the vertex in front of it on the path
    } else if (Vertex& before = vertices_[path[path_length - 1]]; here.low_link < before.low_link) {
      before.low_link = here.low_link;
    }
  }
}

void ReachabilityMarker::Charge(uint32_t leader) {
  const auto take = [&](uint32_t v) {
    vertices_[v].charged = true;
    vertices_[v].leader = leader;
    pending_[pending_count_++] = v;
  };
  take(leader);
  while (pending_count_ != 0) {
    const HeapBlock& block = blocks_[vertices_[pending_[--pending_count_]].block];
    ForEachPointer(block.start, block.start + block.size, [&](uint32_t target, bool, uint64_t) {
      if ((marks_[target] & 15) == kLost && !vertices_[vertex_of_[target]].charged) take(vertex_of_[target]);
      return true;
    });
  }
}

Reachability ReachabilityMarker::ResultOf(uint32_t block) const {
  const auto root = static_cast<RootKind>(marks_[block] >> 4);
  switch (static_cast<Mark>(marks_[block] & 15)) {
    case kReached:
      return {LeakClass::kReachable, root, block};
    case kPointedInto:
    case kPossible:
      return {LeakClass::kPossiblyLost, root, block};
    default:
      break;
  }
  const uint32_t leader = vertices_[vertices_[vertex_of_[block]].leader].block;
  return {leader == block ? LeakClass::kDefinitelyLost : LeakClass::kIndirectlyLost, RootKind::kNone, leader};
}

}  // namespace tidemark
