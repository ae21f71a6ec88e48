// Parser of TIDEMARK_OPTIONS; see options.h.
#include "profiler/options.h"

#include <type_traits>

namespace tidemark {
namespace {

struct Slice {
  const char* at;
  size_t size;
  bool Is(const char* word) const { return __builtin_strlen(word) == size && __builtin_memcmp(at, word, size) == 0; }
  bool CopyTo(char* out, size_t capacity) const {
    if (size >= capacity) return false;
    __builtin_memcpy(out, at, size);
    out[size] = 0;
    return true;
  }
  bool Number(uint64_t* out) const {
    uint64_t value = 0;
    size_t i = 0;
    for (; i < size && at[i] >= '0' && at[i] <= '9'; i++) {
      if (__builtin_mul_overflow(value, uint64_t{10}, &value) ||
          __builtin_add_overflow(value, static_cast<uint64_t>(at[i] - '0'), &value)) {
        return false;
      }
    }
    if (i == 0) return false;
    unsigned shift = 0;
    if (i + 1 == size) {
      const char suffix = at[i] & ~0x20;
      shift = suffix == 'K' ? 10 : suffix == 'M' ? 20 : suffix == 'G' ? 30 : 0;
      if (shift == 0) return false;
      i++;
    }
    if (i != size || (value << shift) >> shift != value) return false;
    *out = value << shift;
    return true;
  }
};

bool IsSessionName(const Slice& value) {
  if (value.size != 32) return false;
  for (size_t i = 0; i < value.size; i++) {
    const char c = value.at[i];
    if ((c < '0' || c > '9') && (c < 'a' || c > 'f')) return false;
  }
  return true;
}

// False: not understood, or out of range; then nothing was changed.
bool Apply(const Slice& key, const Slice& value, Options* options) {
  if (key.Is("mode")) {
    const bool full = value.Is("full");
    if (!full && !value.Is("sampled")) return false;
    options->present = true;
    options->mode = full ? Mode::kFull : Mode::kSampled;
    return true;
  }
  if (key.Is("session")) return IsSessionName(value) && value.CopyTo(options->session, sizeof(options->session));
  if (key.Is("out")) return value.size != 0 && value.CopyTo(options->out, sizeof(options->out));
  if (key.Is("follow")) return value.Is("yes") || value.Is("no");
  if (key.Is("valgrind")) {
    options->under_valgrind = value.Is("yes");
    return options->under_valgrind || value.Is("no");
  }
  if (key.Is("guard_action")) {
    options->guard_kills = value.Is("die");
    return options->guard_kills || value.Is("report");
  }
  if (key.Is("leak_check")) {
    options->leak_check = value.Is("yes") || value.Is("1");
    return options->leak_check || value.Is("no") || value.Is("0");
  }
  uint64_t number = 0;
  if (!value.Number(&number)) return false;
  const auto set = [number](auto* target, uint64_t smallest, uint64_t largest) {
    if (number < smallest || number > largest) return false;
    *target = static_cast<std::remove_pointer_t<decltype(target)>>(number);
    return true;
  };
  if (key.Is("sample_bytes")) return set(&options->sample_bytes, 1, uint64_t{1} << 40);
  if (key.Is("guard")) return set(&options->guard, 0, 1u << 30);
  if (key.Is("leak_check_signal")) return set(&options->leak_check_signal, 0, 64);
  if (key.Is("seed")) return set(&options->seed, 0, ~uint64_t{0});
  if (key.Is("ring_bytes")) return set(&options->ring_bytes, 64 << 10, uint64_t{1} << 30);
  return false;
}

}  // namespace

Options ParseOptions(const char* text) {
  Options options;
  while (text != nullptr && *text != 0) {
    const char* end = text;
    while (*end != 0 && *end != ',') end++;
    const char* equals = text;
    while (equals < end && *equals != '=') equals++;
    const Slice key{text, static_cast<size_t>(equals - text)};
    const Slice value{equals < end ? equals + 1 : end, equals < end ? static_cast<size_t>(end - equals - 1) : 0};
    if (end > text && !Apply(key, value, &options) && options.error[0] == 0) {
      const Slice whole{text, static_cast<size_t>(end - text)};
      const Slice cut{text, whole.size < sizeof(options.error) ? whole.size : sizeof(options.error) - 1};
      cut.CopyTo(options.error, sizeof(options.error));
    }
    text = *end == ',' ? end + 1 : end;
  }
  return options;
}

}  // namespace tidemark
