// operator new in need of memory: handlers, exceptions, nothrow forms; see semantics_rows_test.py. [new.delete.single],
// [new.handler] and [expr.new] of the C++ standard say what has to be printed.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <vector>

namespace {

volatile size_t huge = PTRDIFF_MAX - 4096;
volatile long negative = -1;
constexpr std::align_val_t kWide{256};
int calls = 0;

struct FromHandler {};

template <typename F>
const char* Outcome(F allocate) {
  try {
    return allocate() == nullptr ? "null" : "block";
  } catch (const std::bad_array_new_length&) {
    return "bad_array_new_length";
  } catch (const std::bad_alloc&) {
    return "bad_alloc";
  } catch (const FromHandler&) {
    return "thrown by the handler";
  }
}

void ThirdCallGivesUp() {
  if (++calls == 3) std::set_new_handler(nullptr);
}
constexpr size_t kPiece = 1 << 20;
constexpr int kPieces = 64;
void* reserve[kPieces];
void GiveReserveBack() {
  calls++;
  for (void*& piece : reserve) {
    std::free(piece);
    piece = nullptr;
  }
  std::set_new_handler(nullptr);
}

// The caller has set a limit on data: where it is met, only what the handler frees can serve the request that failed.
bool ReserveHelps() {
  for (void*& piece : reserve) {
    if ((piece = std::malloc(kPiece)) == nullptr) return false;
    std::memset(piece, 1, kPiece);
  }
  calls = 0;
  std::set_new_handler(GiveReserveBack);
  constexpr int kMost = 1000;
  static void* pieces[kMost];
  int got = 0;
  const char* outcome = "block";
  while (got < kMost && calls == 0 && std::strcmp(outcome, "block") == 0) {
    outcome = Outcome([got] { return pieces[got] = ::operator new(kPiece); });
    if (pieces[got] != nullptr) got++;
  }
  std::set_new_handler(nullptr);
  for (int i = 0; i < got; i++) ::operator delete(pieces[i]);
  return calls == 1 && std::strcmp(outcome, "block") == 0;
}

int Handlers() {
  std::printf("plain: %s\n", Outcome([] { return ::operator new(huge); }));
  std::printf("array: %s\n", Outcome([] { return ::operator new[](huge); }));
  std::printf("aligned: %s\n", Outcome([] { return ::operator new(huge, kWide); }));
  std::printf("aligned array: %s\n", Outcome([] { return ::operator new[](huge, kWide); }));
  std::printf("nothrow: %s\n", Outcome([] { return ::operator new(huge, std::nothrow); }));
  std::printf("nothrow array: %s\n", Outcome([] { return ::operator new[](huge, std::nothrow); }));
  std::printf("nothrow aligned: %s\n", Outcome([] { return ::operator new(huge, kWide, std::nothrow); }));
  std::printf("nothrow aligned array: %s\n", Outcome([] { return ::operator new[](huge, kWide, std::nothrow); }));
  std::printf("negative: %s\n", Outcome([] { return static_cast<void*>(new int[static_cast<size_t>(negative)]); }));
  std::set_new_handler(ThirdCallGivesUp);
  const char* outcome = Outcome([] { return ::operator new(huge); });
  std::printf("handler ran %d times, then %s\n", calls, outcome);
  calls = 0;
  std::set_new_handler(ThirdCallGivesUp);
  outcome = Outcome([] { return ::operator new[](huge, kWide, std::nothrow); });
  std::printf("nothrow with handler: %s after %d\n", outcome, calls);
  std::printf("handler gave the reserve back, new succeeded: %d\n", ReserveHelps());
  std::set_new_handler([] { throw FromHandler(); });
  int thrown = 0;
  for (int i = 0; i < 100; i++) {
    outcome =
        i % 2 == 0 ? Outcome([] { return ::operator new(huge); }) : Outcome([] { return ::operator new[](huge); });
    thrown += std::strcmp(outcome, "thrown by the handler") == 0;
  }
  std::printf("handler threw %d times\n", thrown);
  std::set_new_handler(nullptr);
  std::printf("handler gone: %s\n", Outcome([] { return ::operator new(huge); }));
  return 0;
}

int ThrowingHandler() {
  std::set_new_handler([] { throw FromHandler(); });
  for (int i = 0; i < 100; i++) Outcome([] { return ::operator new(huge); });
  std::set_new_handler(nullptr);
  std::vector<std::string> strings;
  for (size_t i = 0; i < 20000; i++) strings.push_back(std::string(20 + i % 50, 'x'));
  return strings[100].size() == 20 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  return argc > 1 && std::strcmp(argv[1], "throwing_handler") == 0 ? ThrowingHandler() : Handlers();
}
