// Thread states, guards, fork detection and event records; see recorder.h.
#include "profiler/recorder.h"

#include <errno.h>
#include <signal.h>

#include "profiler/leak_request.h"
#include "profiler/live_table.h"
#include "profiler/module_publisher.h"
#include "profiler/os.h"
#include "profiler/own_memory.h"
#include "profiler/ring_writer.h"
#include "profiler/session_client.h"
#include "profiler/stack_table.h"

namespace tidemark::recorder {
namespace {

constexpr std::atomic<uint32_t> kNotStarted{kImageNew};

}  // namespace

const std::atomic<uint32_t>* image_state = &kNotStarted;
__thread ThreadState* this_thread = nullptr;

namespace {

// The page of image_state: empty (kImageNew) after fork, _Fork and raw clone, but not after vfork, whose child runs in
// the parent's memory and is the parent as far as the heap is concerned.
std::atomic<uint32_t>* fork_page = nullptr;

std::atomic<bool> recording{false};
__thread uint32_t unslotted_events __attribute__((tls_model("initial-exec"))) = 0;  // of a thread that found no slot
char session_name[33] = "";
constexpr uint32_t kMaxSlots = 16384;
constexpr size_t kPage = 4096;
ThreadState* leak_writer = nullptr;
ThreadState** thread_states = nullptr;  // by slot; kept over the slot's owners

void Add(std::atomic<uint64_t>& counter, uint64_t n) {
  counter.store(counter.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
}

bool PrepareSession() {
  if (fork_page == nullptr) {
    fork_page = static_cast<std::atomic<uint32_t>*>(own_memory::Map(4096));
    if (fork_page == nullptr) return false;
    if (os::IsError(os::Advise(fork_page, 4096, MADV_WIPEONFORK))) return false;
  }
  if (thread_states == nullptr) {
    constexpr size_t kBytes = kMaxSlots * sizeof(ThreadState*);  // NOLINT(bugprone-sizeof-expression): of pointers
    thread_states = static_cast<ThreadState**>(own_memory::Map(kBytes));
    if (thread_states == nullptr) return false;
  }
  session.collector = session_name;
  own_memory::Remember(session.header, session.bytes);
  ForgetCollector();
  ForgetPublishedModules();
  if (!ResetUnwinder() || !ResetStackTable(true)) return false;
  stamp_records.store(session.header->mode == static_cast<uint32_t>(Mode::kSampled), std::memory_order_relaxed);
  return true;
}

void StartRecording() {
  recording.store(true, std::memory_order_release);
  fork_page->store(kImageRecording, std::memory_order_release);
  image_state = fork_page;
}

// For good: nobody will ever read this ring again.
void StopRecording() {
  recording.store(false, std::memory_order_relaxed);
  fork_page->store(kImageStopped, std::memory_order_relaxed);
}

// First event in a forked child: leave the parent's ring, get one of our own. Threads that the child has already
// started stay out until this is done.
bool AdoptChild() {
  uint32_t expected = kImageNew;
  if (!fork_page->compare_exchange_strong(expected, kImageAdopting)) return false;
  recording.store(false, std::memory_order_relaxed);
  this_thread = nullptr;
  leak_writer = nullptr;
  live_table::BeginImage();
  own_memory::Forget(session.header);
  DetachSession(&session);
  if (AttachToCollector(session_name, true, false, &session) != Attach::kAttached || !PrepareSession()) {
    DetachSession(&session);
    StopRecording();
    return false;
  }
  leak_request::Tell();
  StartRecording();
  return true;
}

std::atomic<void*> spare_page{nullptr};  // for the writer of a leak check when there is no memory any more

ThreadState* MakeState(uint32_t index) {
  ThreadState* state = thread_states[index];
  if (state == nullptr) {
    static_assert(sizeof(ThreadState) <= 768, "the rest of the page is for the frames of short stacks");
    state = static_cast<ThreadState*>(own_memory::Map(kPage));
    if (state == nullptr) state = static_cast<ThreadState*>(spare_page.exchange(nullptr, std::memory_order_relaxed));
    if (state == nullptr) return nullptr;
    state->frames.first_room = state + 1;
    state->frames.first_room_bytes = kPage - sizeof(ThreadState);
    thread_states[index] = state;
  }
  return state;
}

// A slot of its own for records of the calling thread; nullptr: none to be had.
ThreadState* ClaimSlotFor(uint32_t tid) {
  SessionHeader* header = session.header;
  const uint32_t count = header->thread_slot_count < kMaxSlots ? header->thread_slot_count : kMaxSlots;
  // Slots are taken in turn, so that a thousand threads that start do not each look at all that came before.
  const uint32_t first = header->slot_hint.load(std::memory_order_relaxed);
  for (uint32_t k = 0; k < count; k++) {
    const uint32_t i = (first + k) % count;
    ThreadSlot& slot = session.slots[i];
    uint32_t owner = slot.owner.load(std::memory_order_relaxed);
    if (owner != 0 && owner != kSlotDead) continue;
    // Acquire: pairs with the collector's release when it declared the previous owner dead.
    if (!slot.owner.compare_exchange_strong(owner, tid, std::memory_order_acquire)) continue;
    header->slot_hint.store(i + 1, std::memory_order_relaxed);
    ThreadState* thread = MakeState(i);
    if (thread == nullptr) {
      header->internal_failures.fetch_add(1, std::memory_order_relaxed);
      slot.owner.store(kSlotDead, std::memory_order_relaxed);
      return nullptr;
    }
    const StackMemory frames = thread->frames;
    __builtin_memset(static_cast<void*>(thread), 0, sizeof(*thread));
    thread->frames = frames;
    thread->frames.previous_count = 0;
    thread->slot = &slot;
    thread->slot_index = i;
    thread->tid = tid;
    for (uint32_t kind = 0; kind < kKindCount; kind++) {  // the slot's go on where its last owner left them
      thread->events[kind] = slot.events[kind].load(std::memory_order_relaxed);
      thread->dropped[kind] = slot.dropped[kind].load(std::memory_order_relaxed);
      thread->skipped[kind] = slot.skipped[kind].load(std::memory_order_relaxed);
    }
    thread->errno_at = __errno_location();
    thread->until_timed = 1;
    thread->serial = header->thread_serials.fetch_add(1, std::memory_order_relaxed) + 1;
    slot.serial.store(thread->serial, std::memory_order_relaxed);
    const uint64_t seed = header->seed != 0 ? header->seed + thread->serial : os::Tsc() ^ uint64_t { tid } << 32;
    thread->sampler.Seed(seed);
    return thread;
  }
  return nullptr;
}

ThreadState* ClaimSlot() {
  ThreadState* thread = ClaimSlotFor(os::ThreadId());
  if (thread == nullptr) return nullptr;
  if (thread->serial > 1) stamp_records.store(true, std::memory_order_relaxed);
  this_thread = thread;
  return thread;
}

// Is this hook nested in another one of the same thread, or was that one left by longjmp? Stacks grow down: a nested
// hook lies below, with a signal handler's frame between the two. A handler on an alternate stack may lie anywhere, so
// ask the kernel in that case.
bool IsNested(uintptr_t busy_sp, uintptr_t sp) {
  if (sp < busy_sp) return HandlerStandsBelow(busy_sp);
  stack_t alternate{};
  os::Syscall(SYS_sigaltstack, 0, reinterpret_cast<long>(&alternate));
  return (alternate.ss_flags & SS_ONSTACK) != 0;
}

void Count(std::atomic<uint64_t>& shared, uint64_t* own) { shared.store(++*own, std::memory_order_relaxed); }

bool Reserve(ThreadState* thread, uint32_t words) {
  if (HasRoom(thread, words)) [[likely]]
    return true;
  return !ForkedAway() && NextChunk(thread);
}

void Drop(ThreadState* thread, EventKind kind, uint64_t bytes) {
  if (ForkedAway()) return;
  thread->gap_count[kind]++;
  thread->gap_bytes[kind] += bytes;
  const SessionHeader* header = session.header;
  const bool waits = header->mode == static_cast<uint32_t>(Mode::kFull);
  if (header->collector_alive.load(std::memory_order_relaxed) == 0 || (!waits && !CollectorMayReturn()))
    StopRecording();
  Count(thread->slot->dropped[kind], &thread->dropped[kind]);
}

void Recorded(ThreadState* thread, EventKind kind) {
  if (ForkedAway()) [[unlikely]]
    return;
  Commit(thread);
  Count(thread->slot->events[kind], &thread->events[kind]);
  ReleaseIfOneShot(thread);
}

// Times one event of many.
class Timing {
 public:
  explicit Timing(ThreadState* thread) : thread_(thread), begin_(--thread->until_timed == 0 ? os::Tsc() : 0) {}
  ~Timing() {
    if (begin_ != 0) [[unlikely]]
      Count();
  }
  Timing(const Timing&) = delete;

 private:
  __attribute__((noinline)) void Count() const {
    const uint64_t ticks = os::Tsc() - begin_;
    Add(thread_->slot->timed_ticks, ticks < kTimedTicksLimit ? ticks : kTimedTicksLimit);
    Add(thread_->slot->timed_events, 1);
    thread_->until_timed = session.header->mode == static_cast<uint32_t>(Mode::kFull) ? kTimedEvery : 1;
  }
  ThreadState* thread_;
  uint64_t begin_;
};

inline uint64_t AddressField(const void* block) { return reinterpret_cast<uintptr_t>(block) >> 4 & 0xfffffffffffu; }

// Word 0 of kAlloc and kRealloc; *escaped: the size follows in a word of its own.
uint64_t HeadWord(RecordKind kind, Api api, size_t size, uint32_t node, bool* escaped) {
  *escaped = size >= kSizeEscape;
  const uint64_t size_field = *escaped ? kSizeEscape : size;
  return static_cast<uint64_t>(kind) | static_cast<uint64_t>(api) << 4 | size_field << 8 | uint64_t{node} << 36;
}

constexpr uint32_t kTimeWords = 2;  // room for a kTime record before any other

}  // namespace

Start Begin(const Options& options, const char* options_text, bool bypassed) {
  Attach attach;
  if (options.session[0] != 0) {
    __builtin_memcpy(session_name, options.session, sizeof(session_name));
    attach = AttachToCollector(session_name, false, bypassed, &session);
  } else {
    if (bypassed) return Start::kBypassed;
    attach = StartCollector(options_text, session_name, &session);
  }
  if (attach != Attach::kAttached) return attach == Attach::kRefused ? Start::kRefused : Start::kNoCollector;
  if (bypassed) {
    DetachSession(&session);
    return Start::kBypassed;
  }
  if (!PrepareSession()) {
    DetachSession(&session);
    return Start::kNoMemory;
  }
  StartRecording();
  return Start::kRecording;
}

bool IsRecording() { return recording.load(std::memory_order_relaxed); }

ThreadState* EnterSlowly(uintptr_t sp, EventKind kind) {
  if (!recording.load(std::memory_order_acquire)) return nullptr;
  const uint32_t state = image_state->load(std::memory_order_acquire);
  if (state != kImageRecording && (state != kImageNew || !AdoptChild())) return nullptr;
  ThreadState* thread = this_thread;
  if (thread == nullptr) {
    // Without a slot: look again after a while only.
    constexpr uint32_t kEventsBetweenSearches = 256;
    if (unslotted_events % kEventsBetweenSearches == 0) thread = ClaimSlot();
    unslotted_events = thread != nullptr ? 0 : unslotted_events + 1;
    if (thread == nullptr) {
      session.header->slots_wanted.fetch_add(1, std::memory_order_relaxed);
      if (kind != kKindCount) session.header->dropped_no_slot[kind].fetch_add(1, std::memory_order_relaxed);
      return nullptr;
    }
  }
  if (thread->busy_sp != 0) {
    if (IsNested(thread->busy_sp, sp)) {
      if (kind != kKindCount) Count(thread->slot->skipped[kind], &thread->skipped[kind]);
      return nullptr;
    }
    // What the older hook was doing to the thread's state is half done.
    ForgetUncommitted(thread);
    thread->frames.previous_count = 0;
  }
  thread->busy_sp = sp;
  return thread;
}

void OnAlloc(ThreadState* thread, Api api, const void* block, size_t size, const UnwindStart& from) {
  const Timing timing(thread);
  const uint32_t node = TakeStack(thread, from);
  live_table::Enter(block, node, size);
  if (!Reserve(thread, 3 + kTimeWords)) return Drop(thread, kKindAlloc, size);
  bool escaped;
  const uint64_t head = HeadWord(RecordKind::kAlloc, api, size, node, &escaped);
  const uint64_t time = TimeField(thread, 0, 20);
  PutWord(thread, head);
  PutWord(thread, AddressField(block) | time << 44);
  if (escaped) PutWord(thread, size);
  Recorded(thread, kKindAlloc);
}

void OnFree(ThreadState* thread, const void* block) {
  const Timing timing(thread);
  live_table::Take(block);
  if (!Reserve(thread, 1 + kTimeWords)) return Drop(thread, kKindFree, 0);
  const uint64_t time = TimeField(thread, 0, 16);
  PutWord(thread, static_cast<uint64_t>(RecordKind::kFree) | AddressField(block) << 4 | time << 48);
  Recorded(thread, kKindFree);
}

void OnRealloc(ThreadState* thread, Api api, const void* old_block, const void* block, size_t size, uint64_t before,
               const UnwindStart& from) {
  const Timing timing(thread);
  const uint32_t node = TakeStack(thread, from);
  live_table::Enter(block, node, size);
  if (!Reserve(thread, 4 + kTimeWords)) return Drop(thread, kKindRealloc, size);
  bool escaped;
  const uint64_t head = HeadWord(RecordKind::kRealloc, api, size, node, &escaped);
  const uint64_t now = os::Tsc();
  const uint64_t elapsed = now - before < (1u << 20) - 1 ? now - before : (1u << 20) - 1;
  const uint64_t time = TimeField(thread, now, 20);
  PutWord(thread, head);
  PutWord(thread, AddressField(block) | time << 44);
  PutWord(thread, AddressField(old_block) | elapsed << 44);
  if (escaped) PutWord(thread, size);
  Recorded(thread, kKindRealloc);
}

void OnHeapError(ThreadState* thread, HeapError error, const void* block, const UnwindStart& from) {
  session.header->heap_errors.fetch_add(1, std::memory_order_relaxed);
  const uint32_t node = TakeStack(thread, from);
  if (!Reserve(thread, 2 + kTimeWords)) return;
  const uint64_t time = TimeField(thread, 0, 20);
  PutWord(thread,
          static_cast<uint64_t>(RecordKind::kHeapError) | static_cast<uint64_t>(error) << 4 | uint64_t{node} << 36);
  PutWord(thread, AddressField(block) | time << 44);
  if (ForkedAway()) return;
  Commit(thread);
  ReleaseIfOneShot(thread);
}

uint32_t ImageNumber() { return session.header == nullptr ? 0 : session.header->pid.load(std::memory_order_relaxed); }

void OnGuardReport(ThreadState* thread, const GuardReport& report, const UnwindStart& from) {
  if (image_state->load(std::memory_order_acquire) != kImageRecording) return;
  session.header->heap_errors.fetch_add(1, std::memory_order_relaxed);
  if (thread == nullptr) return;
  const uint32_t node = TakeStack(thread, from);
  if (!Reserve(thread, 6 + kTimeWords)) return;
  const uint64_t time = TimeField(thread, 0, 20);
  PutWord(thread, static_cast<uint64_t>(RecordKind::kGuardReport) | static_cast<uint64_t>(report.error) << 4 |
                      static_cast<uint64_t>(report.access) << 8 | uint64_t{node} << 36);
  PutWord(thread, AddressField(reinterpret_cast<const void*>(report.block)) | time << 44);
  PutWord(thread, static_cast<uint64_t>(report.offset));
  PutWord(thread, report.size);
  for (const StackOfThread& stack : {report.allocated, report.released}) {
    PutWord(thread, stack.node | uint64_t{stack.thread_serial} << 32);
  }
  if (ForkedAway()) return;
  Commit(thread);
  ReleaseIfOneShot(thread);
}

void OnMark(ThreadState* thread, const char* text) {
  constexpr size_t kMaxText = 256;
  size_t bytes = 0;
  while (bytes < kMaxText && text[bytes] != 0) bytes++;
  const uint32_t words = static_cast<uint32_t>(1 + (bytes + 7) / 8);
  if (!Reserve(thread, words + kTimeWords)) return;
  const uint64_t time = TimeField(thread, os::Tsc(), 32);
  PutWord(thread, static_cast<uint64_t>(RecordKind::kMark) | uint64_t{words} << 4 | uint64_t{bytes} << 16 | time << 32);
  for (size_t i = 0; i < bytes; i += 8) {
    uint64_t word = 0;
    __builtin_memcpy(&word, text + i, bytes - i < 8 ? bytes - i : 8);
    PutWord(thread, word);
  }
  if (ForkedAway()) return;
  Commit(thread);
  ReleaseIfOneShot(thread);
}

uint64_t NextSample(ThreadState* thread, uint64_t allocated) {
  Add(thread->slot->allocated_bytes, allocated);
  thread->drawn_bytes = thread->sampler.DrawBytes(session.header->sample_bytes);
  return thread->drawn_bytes;
}

uint64_t BytesUntilRetry() {
  if (this_thread != nullptr || !recording.load(std::memory_order_relaxed)) return 0;
  unslotted_events = 0;
  return session.header->sample_bytes;
}

bool WantsGuard(ThreadState* thread) {
  const uint32_t every = session.header->guard_every;
  return every != 0 && thread->sampler.OneIn(every);
}

bool UsesGuards() {
  return IsRecording() && session.header->guard_every != 0 &&
         session.header->mode == static_cast<uint32_t>(Mode::kSampled);
}

void CountGuardsGivenUp() {
  if (image_state->load(std::memory_order_acquire) == kImageRecording) {
    session.header->guards_given_up.store(1, std::memory_order_relaxed);
  }
}

void CountForeignFree() {
  if (recording.load(std::memory_order_relaxed)) {
    session.header->foreign_frees.fetch_add(1, std::memory_order_relaxed);
  }
}

void CountRegionFull(size_t size) {
  session.header->region_full_count.fetch_add(1, std::memory_order_relaxed);
  session.header->region_full_bytes.fetch_add(size, std::memory_order_relaxed);
}

void PrepareLeakWriter() { spare_page.store(own_memory::Map(kPage), std::memory_order_relaxed); }

namespace {

// Not so in a vfork child, which is its parent's.
bool IsThisImageRecorded() {
  return recording.load(std::memory_order_acquire) && image_state->load(std::memory_order_acquire) == kImageRecording &&
         session.header->pid.load(std::memory_order_relaxed) == os::ProcessId();
}

}  // namespace

// One for all checks of an image, so that their records come in order, until its thread ends.
ThreadState* ClaimLeakWriter() {
  if (!IsThisImageRecorded()) return nullptr;
  if (leak_writer != nullptr && leak_writer->slot->owner.load(std::memory_order_acquire) == leak_writer->tid &&
      leak_writer->slot->serial.load(std::memory_order_relaxed) == leak_writer->serial) {
    return leak_writer;
  }
  leak_writer = ClaimSlotFor(os::ThreadId());
  if (leak_writer != nullptr) leak_writer->waits = true;
  return leak_writer;
}

void ReleaseLeakWriter(ThreadState* writer) { CloseChunk(writer); }

ThreadState* ClaimCopyWriter() {
  if (!IsThisImageRecorded()) return nullptr;
  ThreadState* writer = ClaimSlotFor(os::ProcessId());  // its first thread: there as long as the process
  if (writer != nullptr) writer->waits = true;
  return writer;
}

void ReleaseCopyWriter(ThreadState* writer) {
  CloseChunk(writer);
  // Release: as the collector does it for the dead, with the acquire of the next owner's CAS.
  writer->slot->owner.store(kSlotDead, std::memory_order_release);
}

bool PutLeakRecord(ThreadState* writer, const uint64_t* words, uint32_t count) {
  if (!ReserveWords(writer, count)) return false;
  for (uint32_t i = 0; i < count; i++) PutWord(writer, words[i]);
  Commit(writer);
  ReleaseIfOneShot(writer);
  return true;
}

void OnExit(uint64_t countdown) {
  if (!recording.load(std::memory_order_acquire) || fork_page->load(std::memory_order_relaxed) != kImageRecording) {
    return;
  }
  if (ThreadState* thread = this_thread; thread != nullptr && thread->drawn_bytes > countdown) {
    Add(thread->slot->allocated_bytes, thread->drawn_bytes - countdown);
    thread->drawn_bytes = countdown;
  }
  session.header->exiting.store(1, std::memory_order_release);
}

}  // namespace tidemark::recorder
