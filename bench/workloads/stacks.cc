// Allocates from exactly so many different call stacks: a tree of calls of which every path is one stack.
//
//   stacks STACKS EVENTS     visits the stacks in an order that jumps, as often as EVENTS (malloc and free) allow
// Ten functions call each other; the decimal digits of a number are the path, so that n digits make 10^n stacks, six
// frames deep. Must not: let the compiler turn the calls into jumps or merge the functions.
#include <cstdio>
#include <cstdlib>

namespace {

unsigned long checksum = 0;

[[gnu::noinline]] void Leaf(unsigned long number) {
  auto* block = static_cast<unsigned long*>(std::malloc(16 + number % 64));
  if (block == nullptr) std::abort();
  *block = number;
  asm volatile("" : : "r"(block) : "memory");
  checksum += *block;
  std::free(block);
}

void Descend(unsigned long path, int digits, unsigned long number);

template <int kDigit>
[[gnu::noinline]] void Level(unsigned long path, int digits, unsigned long number) {
  Descend(path, digits, number);
  asm volatile("" : : "i"(kDigit) : "memory");  // something is left to do: no tail call, and no two functions are alike
}

inline void Descend(unsigned long path, int digits, unsigned long number) {
  using Function = void (*)(unsigned long, int, unsigned long);
  static constexpr Function kLevels[] = {Level<0>, Level<1>, Level<2>, Level<3>, Level<4>,
                                         Level<5>, Level<6>, Level<7>, Level<8>, Level<9>};
  if (digits == 0) {
    Leaf(number);
  } else {
    kLevels[path % 10](path / 10, digits - 1, number);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned long stacks = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1000;
  const unsigned long events = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 1'000'000;
  int digits = 0;
  for (unsigned long reach = 1; reach < stacks; reach *= 10) digits++;
  if (stacks == 0) {
    std::fprintf(stderr, "stacks: 0 stacks; 1 or more are possible\n");
    return 2;
  }
  // A step that is prime to every power of ten (and not near a small fraction of it) visits each stack once in a round.
  constexpr unsigned long kStep = 61803399;
  for (unsigned long done = 0, at = 0; done < events; done += 2, at = (at + kStep) % stacks) Descend(at, digits, at);
  std::printf("checksum %lu\n", checksum);
  return 0;
}
