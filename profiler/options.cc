// Parser of TIDEMARK_OPTIONS; see options.h.
#include "profiler/options.h"

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

bool Apply(const Slice& key, const Slice& value, Options* options) {
  uint64_t number = 0;
  if (key.Is("mode")) {
    options->present = value.Is("sampled") || value.Is("full");
    options->mode = value.Is("full") ? Mode::kFull : Mode::kSampled;
    return options->present;
  }
  if (key.Is("session")) return value.size == 32 && value.CopyTo(options->session, sizeof(options->session));
  if (key.Is("out")) return value.size != 0 && value.CopyTo(options->out, sizeof(options->out));
  if (key.Is("follow")) return value.Is("yes") || value.Is("no");
  if (!value.Number(&number)) return false;
  if (key.Is("sample_bytes")) {
    options->sample_bytes = number;
    return number >= 1 && number <= uint64_t{1} << 40;
  }
  if (key.Is("guard")) {
    options->guard = static_cast<uint32_t>(number);
    return number <= 1u << 30;
  }
  if (key.Is("seed")) {
    options->seed = number;
    return true;
  }
  if (key.Is("ring_bytes")) {
    options->ring_bytes = number;
    return number >= 64 << 10 && number <= uint64_t{1} << 30;
  }
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
