// See flamegraph_page.h.
#include "tools/flamegraph_page.h"

#include <zlib.h>

#include <string_view>

namespace tidemark {

// Made of tools/page/built/page.html when building: what comes before the data, and what comes after.
extern const std::string_view kFlamegraphPageHead, kFlamegraphPageTail;

namespace {

constexpr uint32_t kFewestNodes = 100;
// Beyond this ratio nothing compresses: not worth trying.
constexpr size_t kBestCompression = 12;
constexpr uint32_t kFewSlices = 16;

std::string Gzip(std::string_view bytes) {
  constexpr int kLevel = 6, kGzipFormat = 16, kWindowBits = 15, kMemory = 8;
  z_stream stream{};
  if (deflateInit2(&stream, kLevel, Z_DEFLATED, kWindowBits + kGzipFormat, kMemory, Z_DEFAULT_STRATEGY) != Z_OK) {
    return "";
  }
  std::string out(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

void AppendBase64(std::string_view bytes, std::string* out) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t left = bytes.size() - i;
    uint32_t three = 0;
    for (size_t k = 0; k < 3; ++k) three = three << 8 | (k < left ? static_cast<uint8_t>(bytes[i + k]) : 0u);
    for (size_t k = 0; k < 4; ++k) *out += k <= left ? kDigits[three >> (18 - 6 * k) & 63] : '=';
  }
}

}  // namespace

std::string RenderFlamegraphPage(TraceReader& reader, const HeapModel& model, FrameNames& names, const RunFacts& facts,
                                 const PageFacts& page, const PageLimits& limits) {
  Activity activity = Activity::Build(reader, model);
  uint32_t most_nodes = limits.most_nodes;
  PageTree tree = PageTree::Build(model, names, most_nodes);
  const size_t fixed = kFlamegraphPageHead.size() + kFlamegraphPageTail.size();
  const size_t room = limits.most_bytes > fixed ? (limits.most_bytes - fixed) / 4 * 3 : 0;
  for (;;) {
    const std::string data = PageData(reader, model, names, facts, page, tree, activity);
    const bool last_try = most_nodes <= kFewestNodes;
    if (data.size() / kBestCompression <= room || last_try) {
      const std::string compressed = Gzip(data);
      if (compressed.size() <= room || last_try) {
        std::string html(kFlamegraphPageHead);
        html.reserve(fixed + compressed.size() / 3 * 4 + 8);
        AppendBase64(compressed, &html);
        return html.append(kFlamegraphPageTail);
      }
    }
    if (activity.bounds_ns().size() > kFewSlices && activity.Coarsen()) continue;
    most_nodes /= 2;
    tree = PageTree::Build(model, names, most_nodes);
  }
}

}  // namespace tidemark
