// See leak_files.h.
#include "tools/leak_files.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>

namespace tidemark {
namespace {

uint64_t NumberOf(const nlohmann::json& info, const char* key) {
  const auto found = info.find(key);
  return found != info.end() && found->is_number_unsigned() ? found->get<uint64_t>() : 0;
}

// ".4711", ".4711.2", and "-2" behind a name that was taken.
bool IsSuffixOfSibling(std::string_view suffix) {
  if (suffix.size() < 2 || suffix[0] != '.') return false;
  size_t parts = 0;
  for (size_t at = 0; at < suffix.size();) {
    const char separator = suffix[at++];
    if (separator != '.' && separator != '-') return false;
    const size_t end = std::min(suffix.find_first_not_of("0123456789", at), suffix.size());
    if (end == at || ++parts > 3) return false;
    at = end;
  }
  return true;
}

}  // namespace

std::vector<std::string> SiblingTraces(const std::string& path) {
  namespace fs = std::filesystem;
  std::vector<std::string> found;
  const fs::path file(path);
  const std::string name = file.filename().string();
  std::error_code error;
  const fs::path folder = file.has_parent_path() ? file.parent_path() : fs::path(".");
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    const std::string other = entry->path().filename().string();
    if (other.size() <= name.size() || !other.starts_with(name)) continue;
    if (!IsSuffixOfSibling(std::string_view(other).substr(name.size()))) continue;
    if (entry->is_regular_file(error))
      found.push_back((file.has_parent_path() ? folder / other : fs::path(other)).string());
  }
  std::sort(found.begin(), found.end());
  return found;
}

RunMembership::RunMembership(const nlohmann::json& info)
    : pid_(NumberOf(info, "pid")), image_(NumberOf(info, "image")), start_ns_(NumberOf(info, "start_realtime_ns")) {}

void RunMembership::Learn(const nlohmann::json& sibling_info) {
  if (NumberOf(sibling_info, "pid") != pid_ || NumberOf(sibling_info, "image") >= image_) return;
  start_ns_ = std::min(start_ns_, NumberOf(sibling_info, "start_realtime_ns"));
}

bool RunMembership::Has(const nlohmann::json& sibling_info) const {
  return NumberOf(sibling_info, "start_realtime_ns") >= start_ns_;
}

}  // namespace tidemark
