// The session segment: the one piece of memory that the profiled process and the collector share.
//
// One segment per process image. The collector creates it (a sealed memfd, fully allocated, so that neither a full
// tmpfs nor a truncation can raise SIGBUS on either side), fills in the header, and hands it to the process over a
// Unix socket. The process maps it, closes the descriptor and from then on only stores into it: nothing that was
// committed is lost when the process dies, whatever way it dies.
//
//   offset 0                 SessionHeader
//   thread_slots_offset      ThreadSlot[thread_slot_count]      counters, written by the owning thread only
//   chunk_headers_offset     ChunkHeader[chunk_count]
//   chunks_offset            chunk_count * chunk_bytes          event words
//
// Context: any thread, signal-safe, no allocation. Must not: contain pointers (both sides map it elsewhere), be
// trusted by the collector (the other side may be hostile: every field is copied once and bounds-checked).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tidemark {

inline constexpr uint64_t kSessionMagic = 0x314d5345534b4d54;  // "TMKSESM1", little endian
inline constexpr uint32_t kSessionVersion = 1;

enum class Mode : uint32_t { kSampled = 1, kFull = 2 };

// Events whose conservation is counted: observed = recorded + dropped, per kind (promise 2).
enum EventKind : uint32_t { kKindAlloc = 0, kKindFree = 1, kKindRealloc = 2, kKindCount = 3 };

// Written by the host, read by the collector, unless said otherwise.
struct alignas(64) SessionHeader {
  // --- Written by the collector before the segment is handed over; constant afterwards.
  uint64_t magic;
  uint32_t version;
  uint32_t mode;  // Mode
  uint64_t segment_bytes;
  uint64_t sample_bytes;  // mean T of the exponential draw; 0 in full mode
  uint64_t seed;          // of the sampler; 0: take one from the clock
  uint32_t chunk_bytes;   // power of two, 4 KiB..1 MiB
  uint32_t chunk_count;   // <= kMaxChunks
  uint32_t thread_slot_count;
  uint32_t guard_every;  // one sample in this many gets a guarded slot; 0: none
  uint64_t thread_slots_offset;
  uint64_t chunk_headers_offset;
  uint64_t chunks_offset;
  uint64_t full_wait_us;  // full mode: longest wait for a free chunk before an event is dropped

  // --- Written by the collector while it runs.
  // Coarse clock, incremented at every poll. A thread that sees it change stamps its next event, so that even
  // unstamped (single-threaded) streams have a time line. Relaxed on both sides: it orders nothing.
  alignas(64) std::atomic<uint64_t> tick;
  // 1 while a collector drains the ring. 0 tells writers that nobody will ever free a chunk again: drop, do not wait.
  std::atomic<uint32_t> collector_alive;
  // A futex: changes when chunks were freed while somebody waited for one.
  std::atomic<uint32_t> freed_chunks;
  // Changes when somebody wants leaks looked for: LeakRequestBits and a number. Relaxed: the signal that follows
  // orders it.
  std::atomic<uint32_t> leak_request;

  // --- Written by the host.
  alignas(64) std::atomic<uint32_t> attached;         // 1 after the host mapped the segment (release)
  std::atomic<uint32_t> exiting;                      // 1 after the host's last destructor ran (release)
  std::atomic<uint32_t> pid;                          // as the host sees itself
  std::atomic<uint32_t> thread_serials;               // next thread serial; fetch_add
  std::atomic<uint32_t> bypassed;                     // 1: the executable brings its own malloc; nothing is recorded
  std::atomic<uint64_t> foreign_frees;                // pointers that were not ours, forwarded
  std::atomic<uint64_t> region_full_count;            // samples that did not fit the sampled region ...
  std::atomic<uint64_t> region_full_bytes;            // ... and their bytes: their frees are not seen
  std::atomic<uint64_t> dropped_no_slot[kKindCount];  // events of threads that found no thread slot
  std::atomic<uint64_t> internal_failures;            // our own mmap failed; the event was dropped and is counted above
  std::atomic<uint64_t> heap_errors;                  // HeapErrors that were seen on sampled blocks
  std::atomic<uint32_t> slot_hint;                    // where the search for a free thread slot begins
  // Chunks that threads hold open: host adds when it opens one and subtracts when it closes one, the collector
  // subtracts for those that it closes after their thread's death. Relaxed: it steers, it decides nothing.
  std::atomic<uint32_t> open_chunks;
  std::atomic<uint32_t> slots_wanted;  // incremented when a thread found no slot: the dead ones' are needed
  // Threads in complete mode that wait for a chunk. The futex word is `freed_chunks`; see ring_writer.cc.
  std::atomic<uint32_t> waiters;
  std::atomic<uint32_t> guards_given_up;  // 1: the program handles SIGSEGV itself, no guarded slot was given any more
  std::atomic<uint64_t> stacks_checked;   // by a second, full unwind (libtidemark_checked.so) ...
  std::atomic<uint64_t> stacks_wrong;     // ... and of them different
  std::atomic<uint32_t> leak_signal;      // to be sent after leak_request; 0: no handler is there
  std::atomic<uint32_t> leak_taken;       // the last leak_request that was taken up
  std::atomic<uint64_t> leak_pause_us;    // how long the last copy for a leak check held the program up

  // Bit i set: chunk i is free. Host clears (acquire: sees the collector's last read of it), collector sets (release).
  alignas(64) std::atomic<uint64_t> free_chunks[256];
};

inline constexpr uint32_t kMaxChunks = 256 * 64;

// One per thread that ever recorded an event. Reused after the thread's death; counters keep accumulating, so that
// their sums over all slots are totals of the process. Owner-only writes: plain load + store, relaxed.
struct alignas(64) ThreadSlot {
  // 0 free -> (host CAS) tid while owned -> (collector, when the tid is gone) kSlotDead -> (host CAS) tid of the next.
  std::atomic<uint32_t> owner;
  std::atomic<uint32_t> serial;               // unique per thread within the session, from 1
  std::atomic<uint64_t> events[kKindCount];   // recorded, i.e. committed into a chunk
  std::atomic<uint64_t> dropped[kKindCount];  // not recorded: no free chunk
  // Exact bytes requested. Sampled mode: bytes between draws are added at the next draw, so it lags by less than one
  // draw.
  std::atomic<uint64_t> allocated_bytes;
  // Unwinder statistics.
  std::atomic<uint64_t> stacks;           // stacks taken
  std::atomic<uint64_t> frames_walked;    // frames found by a rule
  std::atomic<uint64_t> frames_reused;    // frames proven by suffix reuse
  std::atomic<uint64_t> rule_misses;      // frames whose rule came from CFI
  std::atomic<uint64_t> rule_miss_ticks;  // of the TSC, for those
  std::atomic<uint64_t> truncated;        // stacks that did not reach the root
  std::atomic<uint64_t> fp_guesses;       // frames without CFI that were stepped by frame pointer
  // Events not looked at because they came from inside a hook (a signal handler that allocates while the thread was
  // recording). observed = events + dropped + skipped.
  std::atomic<uint64_t> skipped[kKindCount];
  // What recording costs: one event in kTimedEvery (sampled mode: each) is timed, without the heap's own work.
  std::atomic<uint64_t> timed_events;
  std::atomic<uint64_t> timed_ticks;  // of the TSC, at most kTimedTicksLimit an event
};
static_assert(sizeof(ThreadSlot) == 192);
inline constexpr uint32_t kTimedEvery = 1021;          // prime: falls into step with no loop
inline constexpr uint64_t kTimedTicksLimit = 1 << 20;  // beyond, the thread was interrupted
inline constexpr uint32_t kSlotDead = 0xffffffff;

// State of a chunk. Only the host moves free -> open -> closed; only the collector moves closed -> free.
enum ChunkState : uint32_t { kChunkFree = 0, kChunkOpen = 1, kChunkClosed = 2 };

struct alignas(64) ChunkHeader {
  std::atomic<uint32_t> state;      // host: release on close; collector: acquire
  std::atomic<uint32_t> committed;  // bytes of whole records; host: release; collector: acquire
  std::atomic<uint32_t> thread_serial;
  std::atomic<uint32_t> tid;
  std::atomic<uint32_t> sequence;   // 0, 1, 2... within the thread: the order of its chunks
  std::atomic<uint32_t> slot;       // index of the thread slot
  std::atomic<uint64_t> first_tsc;  // time base of the first record
  std::atomic<uint64_t> name[2];    // thread name (PR_GET_NAME) when the chunk was opened, zero padded
  uint64_t reserved;
};
static_assert(sizeof(ChunkHeader) == 64);

// ---- Records: sequences of little-endian 64-bit words. Word 0 has the record kind in bits 0..3.
//
// Time: `dt` is the TSC since the previous record of the chunk (first: since first_tsc), 0 while the process is
// single-threaded. A kTime record sets the clock absolutely; it precedes every record whose dt would not fit.
// Addresses are multiples of 16 below 2^48 and stored shifted right by 4 (44 bits).
// Sizes are requested sizes in bytes, exact. `node` names a stack: see kNode; 0 means "no stack".
enum class RecordKind : uint32_t {
  kPad = 0,  // word 0 == 0: nothing; skip one word
  // 2 words (3 when size field is kSizeEscape: word 2 is the size).
  //   w0: kind 4 | api 4 | size 28 | node 28      w1: address 44 | dt 20
  kAlloc = 1,
  // 1 word. w0: kind 4 | address 44 | dt 16
  kFree = 2,
  // 3 words (4 when size field is kSizeEscape: word 3 is the size). Old block released, new obtained.
  //   w0: kind 4 | api 4 | size 28 | node 28      w1: new address 44 | dt 20     w2: old address 44 | elapsed 20
  //   `elapsed`: TSC between the stamp before the old block was released and the event's own time (saturating).
  kRealloc = 3,
  // 2 words. Defines a node of the stack tree; committed before any record that uses it is, in whatever thread.
  //   w0: kind 4 | node 28 | parent 28 (0: root) | flags 4 (NodeFlags)      w1: ip (the return address, 64 bits)
  kNode = 4,
  // 1 word. w0: kind 4 | tsc 60
  kTime = 5,
  // A module that a frame was found in. w0: kind 4 | words 12 (whole record) | build_id_bytes 8 | path_bytes 16 | 0
  //   w1: start  w2: end (mapped addresses)  w3: load bias  w4: first node
  //   then build-id bytes, path bytes, zero padded to words.
  // `first node`: addresses of the range mean this module in nodes of this number and above; below, what was there
  // before.
  kModule = 6,
  // 2 words. Events of this thread that were lost just before. w0: kind 4 | kind of event 4 | count 56  w1: bytes
  kGap = 7,
  // 2 words. A heap error found at free. w0: kind 4 | error 4 | 0 28 | node 28    w1: address 44 | dt 20
  kHeapError = 8,
  // 6 words. A heap error on a guarded block (guard_report.h). w0: kind 4 | error 4 | access 4 | 0 24 | node 28
  //   w1: address of the block 44 | dt 20   w2: offset of the access   w3: size
  //   w4, w5: node 32 | thread serial 32, of the stacks that obtained and released the block
  kGuardReport = 10,
  // A leak check begins (2 words) or has ended (8 words).
  //   w0: kind 4 | ended 1 | 0 11 | number 16 | trigger 8 | method 8 | outcome 8 | flags 8      w1: tsc
  //   w2: pause in us  w3: scan in us  w4: threads 32 | not stopped 32  w5: root bytes  w6: live blocks  w7: live bytes
  kLeakCheck = 11,
  // 4 words. Part of a check's verdict; between its two kLeakCheck records, of the same thread.
  //   w0: kind 4 | class 4 | root 4 | flags 8 | node 28 | number of the check 16
  //   w1: address; 0: several blocks   w2: bytes   w3: how many blocks, or the address of the one block's leader
  kLeakRow = 12,
  // An application's mark. w0: kind 4 | words 12 (whole record) | bytes 16 | dt 32; then text, zero padded to words.
  kMark = 9,
};

inline constexpr uint32_t kSizeBits = 28;
inline constexpr uint64_t kSizeEscape = (uint64_t{1} << kSizeBits) - 1;
inline constexpr uint32_t kNodeBits = 28;
inline constexpr uint32_t kMaxNodes = (1u << kNodeBits) - 1;

enum NodeFlags : uint32_t {
  kNodeFramePointer = 1,  // the *next* frame towards the root was found by frame pointer, without CFI: a guess
  kNodeTruncated = 2,     // stands for frames that were left out between leaf and root part (ip 0), or beyond the last
  kNodeSignal = 4,        // ip is an interrupted instruction, not a return address: look it up as it is, not at ip-1
  kNodeKeepsFrame = 8,    // the next frame was found by frame pointer, which the call frame information says is kept;
                          // with kNodeFramePointer: by evaluating expressions of the call frame information
};
// How the step from a frame to the next one towards the root went.
enum NodeStep : uint32_t {
  kStepByRule = 0,  // call frame information, as a rule in the cache
  kStepGuessed = kNodeFramePointer,
  kStepByFramePointer = kNodeKeepsFrame,
  kStepEvaluated = kNodeFramePointer | kNodeKeepsFrame,
};
inline NodeStep StepOf(uint32_t flags) { return static_cast<NodeStep>(flags & (kNodeFramePointer | kNodeKeepsFrame)); }

// Which entry point made the event.
enum class Api : uint32_t {
  kMalloc = 0,
  kCalloc = 1,
  kRealloc = 2,
  kReallocarray = 3,
  kMemalign = 4,
  kAlignedAlloc = 5,
  kPosixMemalign = 6,
  kValloc = 7,
  kPvalloc = 8,
  kFree = 9,
  kFreeSized = 10,
  kFreeAlignedSized = 11,
  kCfree = 12,
};

enum class HeapError : uint32_t {
  kDoubleFree = 1,
  kInvalidFree = 2,   // of a pointer into the middle of a block
  kOverflow = 3,      // access behind the end of a block ...
  kUnderflow = 4,     // ... before its beginning
  kUseAfterFree = 5,  // ... after its release
};

// ---- Handshake on the Unix socket (abstract name; SOCK_SEQPACKET). Both sides check lengths and magic.
struct AttachRequest {
  uint64_t magic;  // kSessionMagic
  uint32_t version;
  uint32_t pid;             // as the host sees itself; the collector believes SO_PEERCRED
  uint32_t parent_session;  // 1: fork child of a profiled process; 0: a new image (exec)
  uint32_t flags;           // AttachFlags
};
enum AttachFlags : uint32_t { kAttachBypassed = 1 };
enum LeakRequestBits : uint32_t {
  kLeakExact = 1u << 31,    // signal threads in system calls, too, which may then fail with EINTR
  kLeakInPlace = 1u << 30,  // where no copy can be made, the program waits
};
struct AttachReply {  // carries the segment's fd in SCM_RIGHTS when accepted
  uint64_t magic;
  uint32_t version;
  uint32_t accepted;  // 1: attached fd is the segment; 0: stay inert
  uint64_t segment_bytes;
};

// ---- A question to the collector, on the same socket: look for leaks in a process that you record. Answered when its
// verdict is in the trace, or will not come.
inline constexpr uint64_t kLeakQuestionMagic = 0x314b41454c4b4d54;  // "TMKLEAK1", little endian
struct LeakQuestion {
  uint64_t magic;
  uint32_t version;  // kSessionVersion
  uint32_t pid;      // as the collector sees it; same namespace: as everybody does
  uint32_t bits;     // LeakRequestBits
  uint32_t reserved;
};
enum class LeakAnswer : uint32_t {
  kDone = 0,
  kNotRecorded = 1,  // not by this collector, or it has ended
  kNotPrepared = 2,  // recorded without leak_check
  kNoHandler = 3,    // the program uses the signal itself
  kEnded = 4,        // the process has ended meanwhile
  kNotTaken = 5,     // no thread has taken the request up
  kNoVerdict = 6,    // taken up, but no verdict came
  kNotWritten = 7,   // the trace cannot be written
};
struct LeakReply {
  uint64_t magic;
  uint32_t version;
  LeakAnswer answer;
  uint32_t check;   // its number in the trace
  char path[4072];  // of the trace, absolute; NUL-terminated
};

}  // namespace tidemark
