// What the allocator says of itself: mallinfo, mallinfo2, malloc_info, malloc_stats; and malloc_trim, which makes it
// give memory back. glibc's own tell of glibc's heap, which stays empty here, so a program that watches its memory by
// them would see nothing happen.
//
// What is in use mimalloc tells of the calling thread's pages only: exact while the process has one thread. Afterwards
// all that was obtained for other threads' pages counts as used, which is an estimate: what was obtained from the
// system is mimalloc 2.0.9's own count, which takes the return of a segment (32 MiB, or a larger block) for two. So it
// may be too small, but is never told as less than what is in use. There are no arenas, bins or mapped chunks to tell
// of: those fields are 0, and the reports in XML and text have glibc's lines, for who parses them.
//
// mallopt stays glibc's: it says yes to its knobs, and none of them means anything here.
//
// Context: a program that asks for a report; like glibc's not signal-safe, and the text goes to the program's stream.
// Must not: be called by a hook.
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/single_threaded.h>

#include <initializer_list>

#include "interpose/heap.h"
#include "interpose/lifecycle.h"
#include "interpose/sample_region.h"

#define TIDEMARK_EXPORT __attribute__((visibility("default")))

// musl has none; see lifecycle.h.
#pragma weak __libc_single_threaded

namespace tidemark {
namespace {

struct Report {
  size_t system, peak, used;
  size_t unused() const { return system - used; }
};

Report TakeReport() {
  const bool alone = &__libc_single_threaded != nullptr && __libc_single_threaded != 0;
  const heap::Usage heap = heap::CurrentUsage();
  const size_t region = region::CommittedBytes();
  size_t used = heap.used_by_thread + region::UsedBytes();
  if (!alone && heap.committed > heap.committed_by_thread) used += heap.committed - heap.committed_by_thread;
  const size_t system = heap.committed + region;
  Report report = {system > used ? system : used, heap.peak_committed + region, used};
  if (report.peak < report.system) report.peak = report.system;
  return report;
}

// Text of a known bound, put together without a format.
class Text {
 public:
  Text& operator<<(const char* part) {
    while (*part != 0 && length_ < sizeof(bytes_) - 1) bytes_[length_++] = *part++;
    bytes_[length_] = 0;
    return *this;
  }
  Text& operator<<(size_t number) { return Padded(number, 1); }
  Text& Padded(size_t number, int width) {
    char digits[24];
    int i = sizeof(digits) - 1;
    digits[i] = 0;
    do {
      digits[--i] = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    while (static_cast<int>(sizeof(digits)) - 1 - i < width) digits[--i] = ' ';
    return *this << &digits[i];
  }
  // As glibc's, this is no cancellation point.
  void Put(FILE* stream) const {
    int state = PTHREAD_CANCEL_ENABLE;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
    fputs(bytes_, stream);
    pthread_setcancelstate(state, nullptr);
  }

 private:
  char bytes_[1200] = {};
  size_t length_ = 0;
};

// The function that would serve without us; null where there is none.
template <typename Function>
Function* NextReport(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

int Saturated(size_t bytes) { return bytes > INT32_MAX ? INT32_MAX : static_cast<int>(bytes); }

}  // namespace

extern "C" {

TIDEMARK_EXPORT struct mallinfo2 mallinfo2(void) {
  if (lifecycle::phase != lifecycle::Phase::kOurs) {
    auto* next = NextReport<struct mallinfo2()>("mallinfo2");
    return next != nullptr ? next() : (struct mallinfo2){};
  }
  const Report report = TakeReport();
  struct mallinfo2 info = {};
  info.arena = report.system;
  info.uordblks = report.used;
  info.fordblks = report.unused();
  return info;
}

// Its fields are too small for today's heaps; glibc's wrap around.
TIDEMARK_EXPORT struct mallinfo mallinfo(void) {
  if (lifecycle::phase != lifecycle::Phase::kOurs) {
    auto* next = NextReport<struct mallinfo()>("mallinfo");
    return next != nullptr ? next() : (struct mallinfo){};
  }
  const Report report = TakeReport();
  struct mallinfo info = {};
  info.arena = Saturated(report.system);
  info.uordblks = Saturated(report.used);
  info.fordblks = Saturated(report.unused());
  return info;
}

TIDEMARK_EXPORT int malloc_info(int options, FILE* stream) {
  if (lifecycle::phase != lifecycle::Phase::kOurs) {
    auto* next = NextReport<int(int, FILE*)>("malloc_info");
    return next != nullptr ? next(options, stream) : EINVAL;
  }
  if (options != 0) return EINVAL;
  const Report report = TakeReport();
  Text text;
  text << "<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n</sizes>\n";
  for (const char* end : {"</heap>\n<total type=\"mmap\" count=\"0\" size=\"0\"/>\n", "</malloc>\n"}) {
    text << "<total type=\"fast\" count=\"0\" size=\"0\"/>\n<total type=\"rest\" count=\""
         << size_t{report.unused() != 0} << "\" size=\"" << report.unused() << "\"/>\n<system type=\"current\" size=\""
         << report.system << "\"/>\n<system type=\"max\" size=\"" << report.peak
         << "\"/>\n<aspace type=\"total\" size=\"" << report.system << "\"/>\n<aspace type=\"mprotect\" size=\""
         << report.system << "\"/>\n"
         << end;
  }
  text.Put(stream);
  return 0;
}

TIDEMARK_EXPORT void malloc_stats(void) {
  if (lifecycle::phase != lifecycle::Phase::kOurs) {
    if (auto* next = NextReport<void()>("malloc_stats")) next();
    return;
  }
  constexpr int kWidth = 10;
  const Report report = TakeReport();
  Text text;
  for (const char* title : {"Arena 0:\n", "Total (incl. mmap):\n"}) {
    text << title << "system bytes     = ";
    text.Padded(report.system, kWidth) << "\nin use bytes     = ";
    text.Padded(report.used, kWidth) << "\n";
  }
  text << "max mmap regions = ";
  text.Padded(0, kWidth) << "\nmax mmap bytes   = ";
  text.Padded(0, kWidth) << "\n";
  text.Put(stderr);
}

// Memory is given back by the thread that it belongs to, so what other threads have unused stays theirs. How much is to
// be kept on top of the heap is of no meaning here.
TIDEMARK_EXPORT int malloc_trim(size_t keep) {
  if (lifecycle::phase != lifecycle::Phase::kOurs) {
    auto* next = NextReport<int(size_t)>("malloc_trim");
    return next != nullptr ? next(keep) : 0;
  }
  const int saved_errno = errno;
  const bool returned = heap::Trim();
  errno = saved_errno;
  return returned ? 1 : 0;
}

}  // extern "C"
}  // namespace tidemark
