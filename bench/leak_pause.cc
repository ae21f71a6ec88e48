// How long a leak check on demand holds a program up: the other threads are stopped, the process is copied, they go on.
//
//   sources=(bench/leak_pause.cc profiler/{own_memory,signal_action,snapshot,task_files,world_stop}.cc)
//   g++ -std=c++20 -O2 -I. "${sources[@]}" -o leak_pause
//   leak_pause MIB THREADS ROUNDS [in-order]
//
// The heap: MIB mebibytes in blocks of 80 to 135 bytes, of which each was written to; their pages come into being in
// random order, as in a program that has run for long (pages in order are copied twice as fast). THREADS threads write
// to 20 random blocks and sleep, 1 ms each or longer where there are more than 8, so that all of them together make
// about 160 pages private again in each millisecond after a copy. Prints one line of JSON: stop, copy and pause in
// microseconds, median, 95th percentile and largest. What follows in the copy, marking, holds nobody up and is not
// measured here. Must not: be run beside other work, unless that is what is meant.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "profiler/os.h"
#include "profiler/snapshot.h"
#include "profiler/world_stop.h"

namespace {

using tidemark::os::MonotonicNs;

constexpr size_t kPage = 4096;
constexpr uint64_t kDeadline_us = 5'000'000;

struct Heap {
  char* memory = nullptr;
  std::vector<uint32_t> blocks;  // offsets / 16
};

Heap MakeHeap(size_t bytes, bool in_order) {
  Heap heap;
  heap.memory = static_cast<char*>(
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  madvise(heap.memory, bytes, MADV_NOHUGEPAGE);
  std::mt19937_64 random(1);
  std::vector<uint32_t> pages(bytes / kPage);
  for (uint32_t i = 0; i < pages.size(); ++i) pages[i] = i;
  if (!in_order) std::shuffle(pages.begin(), pages.end(), random);
  for (const uint32_t page : pages) heap.memory[size_t{page} * kPage] = 1;
  for (size_t at = 0; at + 144 < bytes; at += (80 + random() % 56 + 15) & ~size_t{15}) {
    std::memset(heap.memory + at, 1, 80);
    heap.blocks.push_back(static_cast<uint32_t>(at / 16));
  }
  return heap;
}

void Print(const char* name, std::vector<double> values, const char* end) {
  std::sort(values.begin(), values.end());
  const auto at = [&values](double share) { return values[static_cast<size_t>(share * double(values.size() - 1))]; };
  std::printf("\"%s_us\": {\"p50\": %.0f, \"p95\": %.0f, \"max\": %.0f}%s", name, at(0.5), at(0.95), values.back(),
              end);
}

void End(void*) {}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: leak_pause MIB THREADS ROUNDS [in-order]\n");
    return 2;
  }
  const size_t mib = std::strtoull(argv[1], nullptr, 10);
  const auto thread_count = static_cast<uint32_t>(std::strtoul(argv[2], nullptr, 10));
  const int rounds = std::atoi(argv[3]);
  const Heap heap = MakeHeap(mib << 20, argc > 4);
  std::atomic<bool> end{false};
  std::vector<std::thread> threads;
  const uint32_t pause_us = std::max(1u, thread_count / 8) * 1000;
  for (uint32_t i = 0; i < thread_count; ++i) {
    threads.emplace_back([&heap, &end, pause_us, i] {
      std::minstd_rand random(i + 1);
      while (!end) {
        for (int k = 0; k < 20; ++k) {
          volatile char* block = heap.memory + size_t{heap.blocks[random() % heap.blocks.size()]} * 16;
          *block = *block + 1;
        }
        usleep(pause_us);
      }
    });
  }
  std::vector<double> stop, copy, pause;
  std::vector<tidemark::StoppedThread> found(thread_count + 16);
  uint32_t failed = 0, not_still = 0;
  for (int round = 0; round < rounds; ++round) {
    usleep(20000);
    tidemark::WorldStop world;
    const uint64_t begin = MonotonicNs();
    world.Stop(found.data(), static_cast<uint32_t>(found.size()), kDeadline_us);
    const uint64_t stopped = MonotonicNs();
    const bool copied = tidemark::RunInSnapshot(End, nullptr);
    const uint64_t made = MonotonicNs();
    world.Resume();
    const uint64_t resumed = MonotonicNs();
    tidemark::ReapSnapshot();
    failed += !copied;
    not_still += world.not_still();
    stop.push_back(double(stopped - begin) / 1000);
    copy.push_back(double(made - stopped) / 1000);
    pause.push_back(double(resumed - begin) / 1000);
  }
  end = true;
  for (std::thread& thread : threads) thread.join();
  std::printf("{\"mib\": %zu, \"blocks\": %zu, \"threads\": %u, \"rounds\": %d, \"failed\": %u, \"not_still\": %u, ",
              mib, heap.blocks.size(), thread_count, rounds, failed, not_still);
  Print("stop", stop, ", ");
  Print("copy", copy, ", ");
  Print("pause", pause, "}\n");
  return 0;
}
