// Minimises random logic functions in sum-of-products form, in the manner of espresso: covers are lists of cubes, each
// cube in a block of its own, and complement, tautology and expansion recurse by Shannon's cofactors. Many lists live
// and die at every level of a recursion a dozen deep.
//
//   logic_minimiser FUNCTIONS [VARIABLES]
// Must not: share cubes between covers; that the blocks are many is the point.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "random_source.h"

namespace {

// One product: bit v of `care` says that variable v is in it, the same bit of `value` says which literal.
struct Cube {
  uint32_t care, value;
  bool Covers(const Cube& other) const { return (care & ~other.care) == 0 && ((value ^ other.value) & care) == 0; }
  bool Intersects(const Cube& other) const { return ((value ^ other.value) & care & other.care) == 0; }
};
using Cover = std::vector<std::unique_ptr<Cube>>;

void Append(Cover* cover, Cube cube) { cover->push_back(std::make_unique<Cube>(cube)); }

Cover Copy(const Cover& cover) {
  Cover copy;
  for (const auto& cube : cover) Append(&copy, *cube);
  return copy;
}

// The cover where variable `variable` has the value `high`.
[[gnu::noinline]] Cover Cofactor(const Cover& cover, int variable, bool high) {
  const uint32_t bit = 1u << variable;
  Cover result;
  for (const auto& cube : cover) {
    if ((cube->care & bit) != 0 && ((cube->value & bit) != 0) != high) continue;
    Append(&result, {cube->care & ~bit, cube->value & ~bit});
  }
  return result;
}

// The variable that most cubes depend on; -1: none does.
int MostUsed(const Cover& cover) {
  int counts[32] = {}, best = -1;
  for (const auto& cube : cover) {
    for (uint32_t rest = cube->care; rest != 0; rest &= rest - 1) counts[__builtin_ctz(rest)]++;
  }
  for (int v = 0; v < 32; v++) {
    if (counts[v] > 0 && (best < 0 || counts[v] > counts[best])) best = v;
  }
  return best;
}

[[gnu::noinline]] bool IsTautology(const Cover& cover) {
  if (cover.empty()) return false;
  for (const auto& cube : cover) {
    if (cube->care == 0) return true;
  }
  const int variable = MostUsed(cover);
  return IsTautology(Cofactor(cover, variable, false)) && IsTautology(Cofactor(cover, variable, true));
}

// Drops cubes that another one covers.
[[gnu::noinline]] Cover Absorb(const Cover& cover) {
  Cover result;
  for (size_t i = 0; i < cover.size(); i++) {
    bool covered = false;
    for (size_t j = 0; j < cover.size() && !covered; j++) {
      covered = i != j && cover[j]->Covers(*cover[i]) && !(j > i && cover[i]->Covers(*cover[j]));
    }
    if (!covered) Append(&result, *cover[i]);
  }
  return result;
}

[[gnu::noinline]] Cover Merge(int variable, const Cover& low, const Cover& high) {
  const uint32_t bit = 1u << variable;
  Cover result;
  for (const auto& cube : low) Append(&result, {cube->care | bit, cube->value});
  for (const auto& cube : high) Append(&result, {cube->care | bit, cube->value | bit});
  return Absorb(result);
}

[[gnu::noinline]] Cover Complement(const Cover& cover) {
  Cover result;
  if (cover.empty()) {
    Append(&result, {0, 0});
    return result;
  }
  for (const auto& cube : cover) {
    if (cube->care == 0) return result;
  }
  const int variable = MostUsed(cover);
  return Merge(variable, Complement(Cofactor(cover, variable, false)), Complement(Cofactor(cover, variable, true)));
}

// Makes every cube as large as the off-set allows: a literal goes if the larger cube still meets no cube of it.
[[gnu::noinline]] Cover Expand(const Cover& on, const Cover& off) {
  Cover result;
  for (const auto& original : on) {
    auto cube = std::make_unique<Cube>(*original);
    for (uint32_t rest = cube->care; rest != 0; rest &= rest - 1) {
      const uint32_t bit = rest & -rest;
      const Cube larger = {cube->care & ~bit, cube->value & ~bit};
      bool free = true;
      for (const auto& forbidden : off) free = free && !larger.Intersects(*forbidden);
      if (free) *cube = larger;
    }
    result.push_back(std::move(cube));
  }
  return Absorb(result);
}

// The part of a cover that a cube sees, in the cube's own coordinates.
[[gnu::noinline]] Cover Within(const Cover& cover, const Cube& cube, size_t except) {
  Cover result;
  for (size_t i = 0; i < cover.size(); i++) {
    if (i == except || !cover[i]->Intersects(cube)) continue;
    Append(&result, {cover[i]->care & ~cube.care, cover[i]->value & ~cube.care});
  }
  return result;
}

// Drops cubes that the others cover together.
[[gnu::noinline]] Cover Irredundant(const Cover& cover) {
  Cover kept = Copy(cover);
  for (size_t i = kept.size(); i-- > 0;) {
    if (IsTautology(Within(kept, *kept[i], i))) kept.erase(kept.begin() + static_cast<ptrdiff_t>(i));
  }
  return kept;
}

Cover RandomCover(RandomSource* random, int variables) {
  Cover cover;
  const uint32_t mask = (1u << variables) - 1;
  for (int i = 0; i < 4 * variables; i++) {
    const uint32_t care = static_cast<uint32_t>(random->Next() | random->Next()) & mask;
    Append(&cover, {care, static_cast<uint32_t>(random->Next()) & care});
  }
  return cover;
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned long functions = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 10;
  const int variables = argc > 2 ? std::atoi(argv[2]) : 12;
  if (variables < 2 || variables > 24) {
    std::fprintf(stderr, "logic_minimiser: %d variables; 2 to 24 are possible\n", variables);
    return 2;
  }
  RandomSource random(3);
  unsigned long cubes = 0, literals = 0;
  for (unsigned long i = 0; i < functions; i++) {
    const Cover on = RandomCover(&random, variables);
    const Cover off = Complement(on);
    const Cover minimal = Irredundant(Expand(on, off));
    cubes += minimal.size();
    for (const auto& cube : minimal) literals += static_cast<unsigned long>(__builtin_popcount(cube->care));
  }
  std::printf("%lu cubes, %lu literals\n", cubes, literals);
  return 0;
}
