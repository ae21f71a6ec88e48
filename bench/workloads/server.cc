// A server without its network: requests come, allocate a few blocks of mixed sizes, and hold them for a random time.
//
//   server REQUESTS THREADS constant|ramp|burst
// Time is counted in ticks, not seconds: so many requests arrive in a tick, by the load profile, and each lives for an
// exponential number of ticks, a few for very long. So the heap is the same in every run and with every allocator.
// Must not: sleep; the rate of a load profile is relative, and CPU is what is measured.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "random_source.h"

namespace {

enum class Load { kConstant, kRamp, kBurst };
constexpr unsigned kTicks = 1024;  // of one run; lifetimes beyond it end with the run

struct Request {
  std::string path;
  std::unique_ptr<char[]> body;
  std::vector<std::string> headers;
};

double Rate(Load load, unsigned tick) {  // relative; the mean over a run is 1
  switch (load) {
    case Load::kConstant:
      return 1;
    case Load::kRamp:
      return 2.0 * tick / kTicks;
    case Load::kBurst:
      return tick % 16 == 0 ? 8.5 : 0.5;
  }
  return 1;
}

[[gnu::noinline]] std::unique_ptr<Request> Accept(RandomSource* random) {
  auto request = std::make_unique<Request>();
  request->path = "/items/" + std::to_string(random->Next());
  const size_t body = 32 + random->Below(random->Below(32) == 0 ? 16384 : 512);
  request->body = std::make_unique<char[]>(body);
  std::memset(request->body.get(), 'b', body);
  for (uint64_t i = random->Below(5); i-- > 0;) request->headers.emplace_back(20 + random->Below(60), 'h');
  return request;
}

void Serve(unsigned long requests, Load load, unsigned long seed, unsigned long* checksum) {
  RandomSource random(seed);
  std::vector<std::vector<std::unique_ptr<Request>>> ends_at(kTicks + 1);
  double due = 0;
  for (unsigned tick = 0; tick < kTicks; tick++) {
    for (due += Rate(load, tick) * static_cast<double>(requests) / kTicks; due >= 1; due -= 1) {
      std::unique_ptr<Request> request = Accept(&random);
      const double mean = random.Below(50) == 0 ? kTicks / 2.0 : 4;
      const double uniform = (static_cast<double>(random.Next() >> 11) + 1) / 9007199254740993.0;
      const double end = tick + 1 - mean * std::log(uniform);
      ends_at[end < kTicks ? static_cast<unsigned>(end) : kTicks].push_back(std::move(request));
    }
    for (const auto& request : ends_at[tick]) *checksum += request->path.size() * 31 + request->headers.size();
    ends_at[tick].clear();
    ends_at[tick].shrink_to_fit();
  }
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned long requests = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 100'000;
  const unsigned threads = argc > 2 ? static_cast<unsigned>(std::strtoul(argv[2], nullptr, 10)) : 1;
  const std::string name = argc > 3 ? argv[3] : "constant";
  if (threads == 0 || (name != "constant" && name != "ramp" && name != "burst")) {
    std::fprintf(stderr, "server: usage: server REQUESTS THREADS constant|ramp|burst\n");
    return 2;
  }
  const Load load = name == "ramp" ? Load::kRamp : name == "burst" ? Load::kBurst : Load::kConstant;
  std::vector<unsigned long> checksums(threads);
  std::vector<std::thread> others;
  for (unsigned i = 1; i < threads; i++) others.emplace_back(Serve, requests / threads, load, i, &checksums[i]);
  Serve(requests / threads, load, 0, &checksums[0]);
  for (std::thread& thread : others) thread.join();
  unsigned long checksum = 0;
  for (const unsigned long part : checksums) checksum += part;
  std::printf("checksum %lu\n", checksum);
  return 0;
}
