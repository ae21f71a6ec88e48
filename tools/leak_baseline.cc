// See leak_baseline.h.
#include "tools/leak_baseline.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "tools/trace_tables.h"

namespace tidemark {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kSchema = "tidemark.leak-baseline/1";
constexpr size_t kFramesShown = 8;

std::string TextOf(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

uint64_t NumberOf(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && found->is_number_unsigned() ? found->get<uint64_t>() : 0;
}

// "2026-11-21"; such dates compare as text.
bool IsDate(const std::string& text) {
  constexpr const char* kForm = "dddd-dd-dd";
  if (text.size() != std::strlen(kForm)) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (kForm[i] == 'd' ? text[i] < '0' || text[i] > '9' : text[i] != '-') return false;
  }
  return true;
}

bool Concerns(const Leak& leak, uint32_t kinds) { return (leak.kind & kinds) != 0 && leak.suppressed_by.empty(); }

// Grown beyond what is allowed, and not by chance.
bool IsMore(const Amount& now, uint64_t before, double growth_percent) {
  return now.Interval95().low > static_cast<double>(before) * (1 + growth_percent / 100);
}

}  // namespace

Result<LeakBaseline> LeakBaseline::Parse(const std::string& text, const std::string& file_name,
                                         const std::string& today) {
  const auto refuse = [&](const std::string& what) {
    return Error{ExitStatus::kUnreadable, "the baseline " + file_name + " " + what};
  };
  // Depth is bounded there, and the order of the keys is kept here.
  if (ParseJsonObject(text).is_discarded()) {
    return refuse("is not a JSON object; write it with --update-baseline");
  }
  const Json file = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (TextOf(file, "schema") != kSchema) {
    return refuse(std::string("has another \"schema\" than \"") + kSchema + "\"; write it with --update-baseline");
  }
  const auto leaks = file.find("leaks");
  if (leaks == file.end() || !leaks->is_array()) return refuse("has no list \"leaks\"");
  LeakBaseline baseline;
  for (const Json& json : *leaks) {
    const auto number = baseline.entries_.size() + 1;
    if (!json.is_object()) return refuse(fmt::format("has an entry, number {}, that is no object", number));
    Entry entry;
    entry.json = json;
    entry.fingerprint = TextOf(json, "fingerprint");
    entry.fuzzy = TextOf(json, "fuzzy");
    entry.kind = TextOf(json, "class");
    entry.bytes = NumberOf(json, "bytes");
    entry.blocks = NumberOf(json, "blocks");
    if (entry.fingerprint.empty() || entry.kind.empty()) {
      return refuse(fmt::format("has an entry, number {}, without \"fingerprint\" or \"class\"", number));
    }
    if (const auto stack = json.find("stack"); stack != json.end() && stack->is_array() && !stack->empty()) {
      if (stack->front().is_string()) entry.site = stack->front().get<std::string>();
    }
    if (json.contains("expires")) {
      const std::string date = TextOf(json, "expires");
      if (!IsDate(date)) {
        return refuse(
            fmt::format("has an entry, number {}, whose \"expires\" is no date such as \"2027-01-31\"", number));
      }
      entry.expired = date < today;
    }
    baseline.entries_.push_back(std::move(entry));
  }
  return baseline;
}

const LeakBaseline::Entry* LeakBaseline::Find(const Leak& leak) const {
  for (const std::string LeakBaseline::Entry::*print : {&Entry::fingerprint, &Entry::fuzzy}) {
    const std::string& own = print == &Entry::fingerprint ? leak.fingerprint : leak.fuzzy;
    for (const Entry& entry : entries_) {
      if (entry.*print == own && !own.empty() && entry.kind == WordOf(leak.kind)) return &entry;
    }
  }
  return nullptr;
}

void LeakBaseline::Compare(uint32_t kinds, double growth_percent, LeakVerdict* verdict) {
  // Several leaks may have one entry, by its fuzzy fingerprint: together they are as large as it says.
  std::vector<Usage> sums(entries_.size());
  std::vector<size_t> entry_of(verdict->leaks.size(), SIZE_MAX);
  for (size_t i = 0; i < verdict->leaks.size(); ++i) {
    Leak& leak = verdict->leaks[i];
    if (!Concerns(leak, kinds)) continue;
    leak.baseline = BaselineState::kNew;
    const Entry* entry = Find(leak);
    if (entry == nullptr) continue;
    entry_of[i] = static_cast<size_t>(entry - entries_.data());
    entries_[entry_of[i]].seen = true;
    Usage amount = leak.whole();
    amount.blocks = leak.direct.blocks;
    sums[entry_of[i]] += amount;
  }
  for (size_t i = 0; i < verdict->leaks.size(); ++i) {
    if (entry_of[i] == SIZE_MAX) continue;
    const Entry& entry = entries_[entry_of[i]];
    if (entry.expired) continue;
    const Usage& now = sums[entry_of[i]];
    const bool more =
        IsMore(now.bytes, entry.bytes, growth_percent) || IsMore(now.blocks, entry.blocks, growth_percent);
    verdict->leaks[i].baseline = more ? BaselineState::kGrown : BaselineState::kKnown;
  }
}

std::string LeakBaseline::Updated(uint32_t kinds, const LeakVerdict& verdict) const {
  Json file = {{"schema", kSchema}, {"leaks", Json::array()}};
  std::vector<bool> used(entries_.size());
  for (const Leak& leak : verdict.leaks) {
    if (!Concerns(leak, kinds)) continue;
    Json json = Json::object();
    if (const Entry* entry = Find(leak)) {
      const auto index = static_cast<size_t>(entry - entries_.data());
      // Its words go to the first leak that has it; an expiry that has passed was an agreement that is over.
      if (!used[index]) json = entry->json;
      used[index] = true;
      if (entry->expired) json.erase("expires");
    }
    json["fingerprint"] = leak.fingerprint;
    json["fuzzy"] = leak.fuzzy;
    json["class"] = WordOf(leak.kind);
    json["bytes"] = leak.whole().bytes.Rounded();
    json["blocks"] = leak.direct.blocks.Rounded();
    Json stack = Json::array();
    for (const LeakFrame& frame : leak.stack) {
      if (stack.size() == kFramesShown) break;
      stack.push_back(frame.function);
    }
    json["stack"] = std::move(stack);
    file["leaks"].push_back(std::move(json));
  }
  return file.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace tidemark
