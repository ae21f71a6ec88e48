// Many threads that each allocate a little: all at one time, or one batch after the other.
//
//   threads concurrent|short THREADS EVENTS_OF_ALL
// "concurrent": every thread lives until the last one has begun; "short": at most eight live at a time. The work is
// divided, so that the cost of an event can be compared between numbers of threads. Must not: give a thread no work.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <latch>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "random_source.h"

namespace {

std::atomic<unsigned long> total{0};

void Work(unsigned long seed, unsigned long events) {
  constexpr size_t kSlots = 16;
  RandomSource random(seed);
  void* slots[kSlots] = {};
  unsigned long sum = 0;
  for (unsigned long done = 0; done < events; done += 2) {
    void*& slot = slots[random.Below(kSlots)];
    std::free(slot);
    const size_t size = 16 + random.Below(256);
    slot = std::malloc(size);
    if (slot == nullptr) std::abort();
    *static_cast<volatile char*>(slot) = 1;
    sum += size;
  }
  for (void* slot : slots) std::free(slot);
  total += sum;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string kind = argc > 1 ? argv[1] : "concurrent";
  const unsigned long count = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 100;
  const unsigned long events = argc > 3 ? std::strtoul(argv[3], nullptr, 10) : 100'000;
  if (count == 0 || (kind != "concurrent" && kind != "short")) {
    std::fprintf(stderr, "threads: usage: threads concurrent|short THREADS EVENTS_OF_ALL\n");
    return 2;
  }
  const unsigned long at_a_time = kind == "short" ? std::min(count, 8ul) : count;
  const unsigned long share = std::max(2ul, events / count);
  try {
    for (unsigned long begun = 0; begun < count; begun += at_a_time) {
      const unsigned long now = std::min(at_a_time, count - begun);
      std::latch all_here(static_cast<ptrdiff_t>(now));
      std::vector<std::thread> threads;
      for (unsigned long i = 0; i < now; i++) {
        threads.emplace_back([&all_here, seed = begun + i, share] {
          all_here.arrive_and_wait();
          Work(seed, share);
        });
      }
      for (std::thread& thread : threads) thread.join();
    }
  } catch (const std::system_error& error) {
    std::fprintf(stderr, "threads: this system allows no %lu threads: %s\n", count, error.what());
    std::_Exit(77);
  }
  std::printf("%lu bytes\n", total.load());
  return 0;
}
