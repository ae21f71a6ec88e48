// The trace file (.tmk) as C++ structures; docs/trace-format.md is the specification, this file its mirror.
//
//   FileHeader, then sections: SectionHeader + stored payload, until the end of the file. No padding.
//
// Every section stands alone: its header has its own checksum, so that a reader finds the next section behind a
// damaged one by scanning for the magic. The file is only ever appended to; a prefix of a trace is a trace.
// Must not: say anything that the document does not; a number changed here is a new major version.
#pragma once

#include <cstdint>

namespace tidemark {

inline constexpr char kTraceMagic[8] = {'T', 'I', 'D', 'E', 'M', 'A', 'R', 'K'};
inline constexpr uint16_t kTraceMajor = 2;  // readers refuse another major
inline constexpr uint16_t kTraceMinor = 2;  // readers accept any minor and skip section types they do not know

struct FileHeader {
  char magic[8];
  uint16_t major;
  uint16_t minor;
  uint32_t checksum;  // CRC-32C of the 12 bytes before
};
static_assert(sizeof(FileHeader) == 16);

inline constexpr uint32_t kSectionMagic = 0x534b4d54;  // "TMKS"

enum class SectionType : uint16_t {
  kInfo = 1,     // JSON: process, command line, mode, sampling, machine
  kModules = 2,  // mapped objects with build-ids
  kStacks = 3,   // nodes of the stack tree
  kEvents = 4,   // one thread's consecutive events, columns
  kThreads = 5,  // serial -> tid, name
  kClock = 6,    // TSC <-> nanoseconds
  kMemory = 7,   // RSS and smaps samples
  kEnd = 8,      // JSON: exit status, counters of observed / recorded / dropped
  kIndex = 9,    // offsets of all sections; last one; may be missing
  kLeaks = 10,   // part of one leak check's verdict; since 2.2
};

enum class Encoding : uint16_t { kRaw = 0, kZstd = 1 };

struct SectionHeader {
  uint32_t magic;  // kSectionMagic
  uint16_t type;
  uint16_t encoding;
  uint32_t stored_bytes;      // payload bytes in the file
  uint32_t raw_bytes;         // payload bytes after decoding; == stored_bytes when raw; <= kMaxSectionBytes
  uint32_t sequence;          // 0, 1, 2...: a hole in the sequence tells of a lost section
  uint32_t payload_checksum;  // CRC-32C of the stored payload
  uint32_t subject;           // kEvents: the thread serial, so that a damaged payload can be named; else 0
  uint32_t header_checksum;   // CRC-32C of the 28 bytes before
};
static_assert(sizeof(SectionHeader) == 32);

inline constexpr uint32_t kMaxSectionBytes = 64u << 20;
// JSON sections and events sections have tighter bounds: a reader holds one events section per running thread.
inline constexpr uint32_t kMaxJsonBytes = 16u << 20;
inline constexpr uint32_t kMaxJsonDepth = 64;
inline constexpr uint32_t kMaxEventSectionBytes = 4u << 20;
inline constexpr uint32_t kMaxEventsPerSection = 1u << 16;
inline constexpr uint32_t MaxRawBytes(SectionType type) {
  if (type == SectionType::kInfo || type == SectionType::kEnd) return kMaxJsonBytes;
  return type == SectionType::kEvents ? kMaxEventSectionBytes : kMaxSectionBytes;
}
inline constexpr uint32_t kMaxTextBytes = 0xffff;  // a mark, a path, a name, a build-id

// ---- Columns. All payloads but JSON are tables: v rows, then columns (v id, v bytes, bytes) in any order. Readers
// skip ids that they do not know. "v": LEB128 varint. "z": zigzag varint. "zd": z of the difference to the row before.

enum class ModuleColumn : uint32_t {
  kStart = 1,      // zd
  kLength = 2,     // v   end - start
  kLoadBias = 3,   // z   start - load bias
  kFirstTsc = 4,   // zd
  kBuildId = 5,    // v length, bytes
  kPath = 6,       // v length, bytes
  kFirstNode = 7,  // v; may be missing: 0
};

enum class StackColumn : uint32_t {
  kNode = 1,    // zd
  kParent = 2,  // z   node - parent; always positive in a sound trace
  kIp = 3,      // zd
  kFlags = 4,   // v   optional
};

enum class ThreadColumn : uint32_t {
  kSerial = 1,    // zd
  kTid = 2,       // zd
  kFirstTsc = 3,  // zd
  kName = 4,      // v length, bytes
};

enum class ClockColumn : uint32_t { kTsc = 1, kMonotonicNs = 2, kRealtimeNs = 3 };  // all zd

enum class MemoryColumn : uint32_t {  // all zd; all but the first optional
  kMonotonicNs = 1,
  kRss = 2,
  kPss = 3,
  kAnonymous = 4,
  kFile = 5,
  kShmem = 6,
  kSwap = 7,
  kVirtualSize = 8,
};

enum class LeakColumn : uint32_t {
  // Of the section, all v: number of the check (1, 2 ... in the trace), part (0, 1 ...), 1 in its last part, trigger,
  // method, outcome, flags, tsc, pause in us, scan in us, threads, threads that were not stopped, bytes of the roots,
  // live blocks, live bytes.
  kCheck = 1,
  kClass = 2,    // 1 byte: LeakClass (reachability.h)
  kRoot = 3,     // 1 byte: RootKind (reachability.h)
  kNode = 4,     // zd  the stack that obtained it; 0: not known
  kBlocks = 5,   // v
  kBytes = 6,    // v   as requested
  kAddress = 7,  // zd  / 16; 0: the row stands for several blocks
  kLeader = 8,   // z   (the leader's address - the own one) / 16
  kFlags = 9,    // v   LeakRowFlags; optional
};

// What made the process look.
enum class LeakTrigger : uint32_t {
  kExitBefore = 1,      // exit or return from main, before destructors
  kExitAfter = 2,       // the same, after them
  kUnderscoreExit = 3,  // _exit, _Exit
  kQuickExit = 4,
  kAbort = 5,
  kExec = 6,
  kSignal = 7,
  kOnDemand = 8,  // tidemark leaks --pid
  kApi = 9,
};
// kInPlace: the process waited; kSnapshot: a copy of it looked; kConcurrent: nobody waited, several looks agree.
enum class LeakMethod : uint32_t { kInPlace = 1, kSnapshot = 2, kConcurrent = 3 };
// kNoMemory: for the marks; kNoMaps: /proc/self/maps could not be read; kUnfinished: who looked died in the middle.
enum class LeakOutcome : uint32_t {
  kDone = 0,
  kNoMemory = 1,
  kTimedOut = 2,
  kNoMaps = 3,
  kNoSnapshot = 4,
  kUnfinished = 5,
};
enum LeakFlags : uint32_t {
  kLeaksThreadsRan = 1,     // some threads could not be stopped: what only their stacks hold is possibly lost
  kLeaksOwnMemory = 2,      // memory of ours may have been among the roots
  kLeaksBlocksMissing = 4,  // not every live block was known
};
enum LeakRowFlags : uint32_t {
  kLeakInherited = 1,  // from the process that forked this one
  kLeakHeapSize = 2,   // the size is the heap's, not the requested one
};

enum class IndexColumn : uint32_t { kType = 1, kOffset = 2, kSubject = 3 };  // v, zd, v

enum class EventColumn : uint32_t {
  kHeader = 1,        // v thread serial, v chunk sequence, v fragment, v part, v first tsc, v tsc shift
  kOp = 2,            // v per event: EventOp, or kFirstShapeOp + number of a shape: an alloc
  kTime = 3,          // per change of time: v events since the last one, z difference in units; optional
  kShapeSize = 4,     // v per shape
  kShapeNode = 5,     // zd per shape
  kShapeApi = 6,      // 1 byte per shape; optional: all malloc
  kReallocShape = 7,  // v per realloc: number of its shape
  kAddress = 8,       // per address that is not as expected: v addresses that were, z difference; optional
  kOrigin = 9,        // v per free, realloc: how many allocs and reallocs back the block was obtained; 0: see kFar
  kFar = 10,          // zd per free, realloc whose origin is 0; optional
  kElapsed = 11,      // v per realloc, in units of time; optional: all zero
  kGap = 12,          // per gap: v event kind, v count, v bytes
  kHeapError = 13,    // per heap error: v error, v node, v address / 16
  kMark = 14,         // per mark: v length, bytes
  // Per guard report: v error, v access, v node, v address / 16, z offset, v size, and of the stacks that obtained and
  // released the block: v node, v thread serial.
  kGuardReport = 15,
};

enum class EventOp : uint8_t {
  kFree = 0,
  kRealloc = 1,         // to another address
  kReallocInPlace = 2,  // the old address is the new one
  kGap = 3,
  kHeapError = 4,
  kMark = 5,
  kGuardReport = 7,
};
// Ops from here on are allocs; 6 is for a later minor version. Shapes are numbered in the order in which
// they first occur in the section.
inline constexpr uint32_t kFirstShapeOp = 8;

// The header column. (thread_serial, chunk_sequence, fragment, part) orders the sections of a thread.
struct EventsHeader {
  uint32_t thread_serial = 0, chunk_sequence = 0, fragment = 0;
  uint32_t part = 0;       // 0, 1, 2...: when one fragment does not fit one section
  uint64_t first_tsc = 0;  // a multiple of 1 << tsc_shift
  uint32_t tsc_shift = 0;  // times are stored in units of 1 << tsc_shift ticks
};

inline constexpr uint32_t kMaxTscShift = 20;
inline constexpr uint64_t kAddressMask = (uint64_t{1} << 60) - 1;  // addresses are multiples of 16, stored / 16

// Size classes of the address predictor: 16 byte steps up to 64 bytes, then four per doubling. These are the bins of
// mimalloc, whose pages hold blocks of one bin; any allocator of segregated fits gains nearly as much.
inline constexpr uint32_t kSizeClasses = 256;
inline uint32_t SizeClassOf(uint64_t size) {
  uint64_t words = size / 8 + (size % 8 != 0);
  if (words <= 8) return static_cast<uint32_t>((words + 1) / 2);
  words--;
  const uint32_t top = 63 - static_cast<uint32_t>(__builtin_clzll(words));
  return (top << 2) + static_cast<uint32_t>((words >> (top - 2)) & 3);
}
// Distance of neighbouring blocks of a class, in units of 16 bytes.
inline uint64_t BlockUnits(uint32_t size_class) {
  if (size_class <= 4) return size_class == 0 ? 1 : size_class;
  return (((uint64_t{5} + (size_class & 3)) << ((size_class >> 2) - 2)) + 1) / 2;
}
// A page of the address predictor: 64 KiB.
inline constexpr uint32_t kPageUnitBits = 12;

}  // namespace tidemark
