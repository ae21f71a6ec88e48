// Factorises numbers with Pollard's rho over heap-allocated bignums, as a computer algebra program would that keeps
// every intermediate result in a block of its own: small blocks, short lives, calls about eight deep.
//
//   bignum_factor COUNT     factorises COUNT products of two primes near 2^22
// The arithmetic functions are not inlined: in such a program they are a library. Must not: use a faster
// representation.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "random_source.h"

#define LIBRARY_FUNCTION [[gnu::noinline]]

namespace {

// A natural number: limbs of 32 bits, least significant first, no zero limb on top.
class Natural {
 public:
  explicit Natural(uint64_t value = 0) : Natural(value, 2) { Trim(); }
  Natural(const Natural& other) : Natural(0, other.size_) { std::copy_n(other.limbs_, size_, limbs_); }
  Natural(Natural&& other) noexcept
      : limbs_(std::exchange(other.limbs_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Natural& operator=(Natural other) noexcept {
    std::swap(limbs_, other.limbs_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~Natural() { std::free(limbs_); }

  bool IsZero() const { return size_ == 0; }
  bool IsOne() const { return size_ == 1 && limbs_[0] == 1; }
  uint64_t Low() const { return (size_ > 0 ? limbs_[0] : 0) | (size_ > 1 ? uint64_t{limbs_[1]} << 32 : 0); }

  LIBRARY_FUNCTION static int Compare(const Natural& a, const Natural& b) {
    if (a.size_ != b.size_) return a.size_ < b.size_ ? -1 : 1;
    for (size_t i = a.size_; i-- > 0;) {
      if (a.limbs_[i] != b.limbs_[i]) return a.limbs_[i] < b.limbs_[i] ? -1 : 1;
    }
    return 0;
  }

  LIBRARY_FUNCTION static Natural Add(const Natural& a, const Natural& b) {
    Natural sum(0, std::max(a.size_, b.size_) + 1);
    uint64_t carry = 0;
    for (size_t i = 0; i < sum.size_; i++) {
      carry += (i < a.size_ ? a.limbs_[i] : uint64_t{0}) + (i < b.size_ ? b.limbs_[i] : uint64_t{0});
      sum.limbs_[i] = static_cast<uint32_t>(carry);
      carry >>= 32;
    }
    sum.Trim();
    return sum;
  }

  LIBRARY_FUNCTION static Natural Subtract(const Natural& a, const Natural& b) {  // a >= b
    Natural difference(0, a.size_);
    int64_t borrow = 0;
    for (size_t i = 0; i < a.size_; i++) {
      borrow += static_cast<int64_t>(a.limbs_[i]) - (i < b.size_ ? b.limbs_[i] : 0);
      difference.limbs_[i] = static_cast<uint32_t>(borrow);
      borrow >>= 32;
    }
    difference.Trim();
    return difference;
  }

  LIBRARY_FUNCTION static Natural Multiply(const Natural& a, const Natural& b) {
    Natural product(0, a.size_ + b.size_);
    for (size_t i = 0; i < a.size_; i++) {
      uint64_t carry = 0;
      for (size_t j = 0; j < b.size_ || carry != 0; j++) {
        carry += product.limbs_[i + j] + uint64_t{a.limbs_[i]} * (j < b.size_ ? b.limbs_[j] : 0);
        product.limbs_[i + j] = static_cast<uint32_t>(carry);
        carry >>= 32;
      }
    }
    product.Trim();
    return product;
  }

  LIBRARY_FUNCTION static Natural ShiftLeft(const Natural& a, unsigned bits) {
    Natural shifted(0, a.size_ + bits / 32 + 1);
    for (size_t i = 0; i < a.size_; i++) {
      const uint64_t wide = uint64_t{a.limbs_[i]} << (bits % 32);
      shifted.limbs_[i + bits / 32] |= static_cast<uint32_t>(wide);
      shifted.limbs_[i + bits / 32 + 1] |= static_cast<uint32_t>(wide >> 32);
    }
    shifted.Trim();
    return shifted;
  }

  // Long division by the leading 64 bits: the estimate is never too large, and a few rounds bring the rest below b.
  LIBRARY_FUNCTION static Natural Remainder(Natural a, const Natural& b) {
    while (Compare(a, b) >= 0) {
      const unsigned distance = a.BitLength() - b.BitLength();
      const unsigned more = std::min(distance, 32u), width = std::min(b.BitLength(), 31u);
      const uint64_t estimate = a.Top(width + more) / (b.Top(width) + 1);
      const Natural factor = ShiftLeft(Natural(std::max<uint64_t>(estimate, 1)), distance - more);
      a = Subtract(a, Multiply(b, factor));
    }
    return a;
  }

  LIBRARY_FUNCTION static Natural GreatestCommonDivisor(Natural a, Natural b) {
    while (!b.IsZero()) {
      Natural rest = Remainder(std::move(a), b);
      a = std::exchange(b, std::move(rest));
    }
    return a;
  }

 private:
  Natural(uint64_t value, size_t size) : limbs_(Allocate(size)), size_(size) {
    if (size > 0) limbs_[0] = static_cast<uint32_t>(value);
    if (size > 1) limbs_[1] = static_cast<uint32_t>(value >> 32);
  }
  LIBRARY_FUNCTION static uint32_t* Allocate(size_t size) {
    auto* limbs = static_cast<uint32_t*>(std::malloc(std::max<size_t>(size, 1) * sizeof(uint32_t)));
    if (limbs == nullptr) std::abort();
    std::fill_n(limbs, size, 0);
    return limbs;
  }
  void Trim() {
    while (size_ > 0 && limbs_[size_ - 1] == 0) size_--;
  }
  unsigned BitLength() const {
    return size_ == 0 ? 0 : static_cast<unsigned>(size_ * 32 - static_cast<size_t>(__builtin_clz(limbs_[size_ - 1])));
  }
  uint64_t Top(unsigned bits) const {  // the leading ones, 63 at most
    const unsigned below = BitLength() - bits;
    __uint128_t value = 0;
    for (size_t i = below / 32; i < size_ && i < below / 32 + 3; i++) {
      value |= static_cast<__uint128_t>(limbs_[i]) << (32 * (i - below / 32));
    }
    return static_cast<uint64_t>(value >> (below % 32));
  }

  uint32_t* limbs_ = nullptr;
  size_t size_ = 0;
};

LIBRARY_FUNCTION Natural MultiplyModulo(const Natural& a, const Natural& b, const Natural& modulus) {
  return Natural::Remainder(Natural::Multiply(a, b), modulus);
}

LIBRARY_FUNCTION Natural Step(const Natural& x, const Natural& addend, const Natural& modulus) {
  return Natural::Remainder(Natural::Add(MultiplyModulo(x, x, modulus), addend), modulus);
}

Natural Distance(const Natural& a, const Natural& b) {
  return Natural::Compare(a, b) < 0 ? Natural::Subtract(b, a) : Natural::Subtract(a, b);
}

// Pollard's rho in Brent's form, one gcd for 64 steps. 0: this addend found nothing.
LIBRARY_FUNCTION Natural FindDivisor(const Natural& number, const Natural& addend) {
  Natural slow(2), fast(2), product(1);
  for (unsigned length = 1; length <= 1u << 16; length *= 2) {
    slow = fast;
    for (unsigned i = 0; i < length; i++) {
      fast = Step(fast, addend, number);
      product = MultiplyModulo(product, Distance(slow, fast), number);
      if (i % 64 != 63 && i + 1 != length) continue;
      Natural divisor = Natural::GreatestCommonDivisor(product, number);
      if (Natural::Compare(divisor, number) == 0 || divisor.IsZero()) return Natural(0);
      if (!divisor.IsOne()) return divisor;
    }
  }
  return Natural(0);
}

LIBRARY_FUNCTION uint64_t SmallestDivisor(const Natural& number) {
  for (uint64_t addend = 1; addend < 20; addend++) {
    const Natural divisor = FindDivisor(number, Natural(addend));
    if (!divisor.IsZero()) return divisor.Low();
  }
  return 0;
}

uint64_t PrimeFrom(uint64_t candidate) {
  for (candidate |= 1;; candidate += 2) {
    bool prime = true;
    for (uint64_t divisor = 3; divisor * divisor <= candidate && prime; divisor += 2) prime = candidate % divisor != 0;
    if (prime) return candidate;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const unsigned long count = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 10;
  RandomSource random(7);
  uint64_t checksum = 0;
  for (unsigned long i = 0; i < count; i++) {
    const uint64_t first = PrimeFrom((1 << 22) + random.Below(1 << 20));
    const uint64_t second = PrimeFrom((1 << 22) + random.Below(1 << 20));
    const uint64_t found = SmallestDivisor(Natural::Multiply(Natural(first), Natural(second)));
    if (found != first && found != second) {
      std::fprintf(stderr, "bignum_factor: %lu is no divisor of %lu * %lu\n", found, first, second);
      return 1;
    }
    checksum = checksum * 31 + first + second;
  }
  std::printf("checksum %lu\n", checksum);
  return 0;
}
