// A file of leaks that a project has agreed to live with for now: what is in it does not fail, unless it has grown.
//
//   {"schema": "tidemark.leak-baseline/1", "leaks": [{"fingerprint": "...", "fuzzy": "...", "class": "definite",
//     "bytes": 100, "blocks": 1, "stack": ["make_list", "main"], "owner": "...", "note": "...", "expires":
//     "2027-01-31"}]}
//
// Known by its exact fingerprint, or else by the fuzzy one. owner, note, expires and whatever else people write into an
// entry are kept when the file is updated; an entry that has expired excuses nothing. Must not: know today's date.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/leak_verdict.h"
#include "tools/result.h"

namespace tidemark {

class LeakBaseline {
 public:
  // `today`: "2026-11-21".
  static Result<LeakBaseline> Parse(const std::string& text, const std::string& file_name, const std::string& today);

  // Sets Leak::baseline of what is not suppressed and of a class in `kinds`. `growth_percent`: what a leak may be
  // larger than it was. An estimate has grown when its interval lies above.
  void Compare(uint32_t kinds, double growth_percent, LeakVerdict* verdict);

  struct Entry {
    nlohmann::ordered_json json;
    std::string fingerprint, fuzzy, kind, site;
    uint64_t bytes = 0, blocks = 0;
    bool expired = false;
    bool seen = false;
  };
  const std::vector<Entry>& entries() const { return entries_; }
  // The file as it would be with the verdict's leaks of those classes and nothing else.
  std::string Updated(uint32_t kinds, const LeakVerdict& verdict) const;

 private:
  const Entry* Find(const Leak& leak) const;
  std::vector<Entry> entries_;
};

}  // namespace tidemark
