// See reclamation_text.h.
#include "tools/reclamation_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace tidemark {
namespace {

std::string Who(const SiteLife& site) {
  if (!site.place.empty()) return fmt::format("{} ({})", site.name, site.place);
  return site.module.empty() ? site.name : fmt::format("{} [{}]", site.name, site.module);
}

std::string Percent(double share) { return HumanPercent(share, 1); }
std::string PercentWithin(double share, const Interval& interval) {
  if (interval.low == interval.high) return Percent(share);
  return fmt::format("{} ({} to {})", Percent(share), Percent(interval.low), Percent(interval.high));
}
std::string Seconds(double seconds) { return HumanDuration(static_cast<int64_t>(Saturated(seconds * 1e9))); }

// The site with most of something, and how much; null when nobody has any.
template <typename Of>
const SiteLife* Most(const std::vector<SiteLife>& sites, Of of) {
  const auto most =
      std::max_element(sites.begin(), sites.end(), [&](const SiteLife& a, const SiteLife& b) { return of(a) < of(b); });
  return most == sites.end() || !(of(*most) > 0) ? nullptr : &*most;
}

// Wraps at 78 columns, with a dash before and two columns left free.
std::string Bullet(const std::string& sentence) {
  std::string out = "  - ", line;
  size_t column = 4;
  for (size_t at = 0; at < sentence.size();) {
    const size_t end = std::min(sentence.find(' ', at), sentence.size());
    const std::string word = sentence.substr(at, end - at);
    if (column > 4 && column + 1 + DisplayWidth(word) > 78) {
      out += "\n    ";
      column = 4;
    } else if (column > 4) {
      out += " ";
      ++column;
    }
    out += word;
    column += DisplayWidth(word);
    at = end + 1;
  }
  return out + "\n";
}

}  // namespace

std::vector<std::string> ReclamationFindings(const LoadedTrace& trace, const Reclamation& life) {
  std::vector<std::string> found;
  const HeapHistory& history = *trace.history;
  if (life.allocated.bytes <= 0) return found;
  // The smallest nursery in which nearly everything dies says how short lives are.
  constexpr uint64_t kLargestPool = 4u << 20;
  const Nursery* nursery = nullptr;
  for (const Nursery& it : life.nurseries) {
    if (nursery == nullptr && it.resolved && it.bytes <= kLargestPool && it.died_bytes >= 0.9) nursery = &it;
  }
  const Nursery& young = life.nurseries[Reclamation::kYoung];
  const Nursery& oldest = life.nurseries.back();
  if (nursery != nullptr && life.allocated.bytes >= 4 * static_cast<double>(nursery->bytes)) {
    found.push_back(fmt::format(
        "{} of the bytes die before {} more are allocated: most of this memory is scratch. A pool or an arena that is "
        "emptied between steps of work would serve it without the general allocator.",
        Percent(nursery->died_bytes), HumanBytes(static_cast<double>(nursery->bytes))));
  } else if (oldest.resolved && life.allocated.bytes >= 2 * static_cast<double>(oldest.bytes)) {
    found.push_back(fmt::format(
        "Lives are mixed: {}{} of the bytes die before {} more are allocated, the rest lives longer. What is short "
        "(\"dies young\" in the table of sites) suits a pool, the rest does not.",
        young.resolved ? Percent(young.died_bytes) + " of the bytes die before 1.00 MiB more is allocated, " : "",
        Percent(oldest.died_bytes), HumanBytes(static_cast<double>(oldest.bytes))));
  }
  const SiteLife* scratch = Most(life.sites, [](const SiteLife& it) { return it.died_young_bytes; });
  if (scratch != nullptr && young.resolved && scratch->died_young_bytes > 0.1 * life.allocated.bytes) {
    found.push_back(fmt::format("Most of what dies young comes from {}: {}, {} of what it allocates.", Who(*scratch),
                                HumanBytes(scratch->died_young_bytes),
                                HumanPercent(scratch->died_young_bytes, scratch->allocated_bytes)));
  }
  const SiteLife* old = Most(life.sites, [](const SiteLife& it) { return it.old_live_bytes; });
  if (old != nullptr && life.old_live > 0.1 * life.live_peak) {
    found.push_back(fmt::format(
        "{} were there in the first half of the run's allocation and still are at the end ({} of the peak); most of it "
        "belongs to {} ({}).",
        HumanBytes(life.old_live), HumanPercent(life.old_live, life.live_peak), Who(*old),
        HumanBytes(old->old_live_bytes)));
  }
  if (life.live_end > 0.9 * life.live_peak && life.reclaimed < 0.5) {
    found.push_back(
        fmt::format("Little is given back: {} of what was allocated is released by the end, and live memory ends near "
                    "its peak. Either the program is short and leaves cleaning up to the system, or it grows.",
                    Percent(life.reclaimed)));
  }
  if (trace.model->knows_temporary()) {
    const Usage temporary = trace.model->total().Temporary();
    if (temporary.blocks.value() > 0.2 * life.allocated.blocks) {
      found.push_back(fmt::format(
          "{} of the blocks are released by the very next call of their thread (report --metric temporary names the "
          "places): reusing one buffer would save them.",
          HumanPercent(temporary.blocks.value(), life.allocated.blocks)));
    }
  }
  const ReallocChains& chains = history.chains();
  if (history.knows_chains() && static_cast<double>(chains.copied_bytes) > 0.05 * life.allocated.bytes) {
    const SiteLife* copier = Most(life.sites, [](const SiteLife& it) { return static_cast<double>(it.copied_bytes); });
    found.push_back(fmt::format(
        "Growing blocks with realloc has copied {} (in {} blocks of up to {} steps), most of it in {}: reserve the "
        "final size, or grow by a factor.",
        HumanBytes(static_cast<double>(chains.copied_bytes)), HumanCount(chains.chains), HumanCount(chains.longest),
        copier != nullptr ? Who(*copier) : "an unknown place"));
  }
  if (history.cross_thread().bytes > 0.1 * life.allocated.bytes) {
    found.push_back(fmt::format(
        "{} of the bytes are released by another thread than the one that allocated them: their memory goes back to "
        "the first thread's heap and waits there until that thread allocates again.",
        HumanPercent(history.cross_thread().bytes, life.allocated.bytes)));
  }
  if (life.pages_used_end && history.sparse_pages().sparse_pages * PageOccupancy::kPageBytes > (1u << 20)) {
    const SiteLife* pinner = Most(life.sites, [](const SiteLife& it) { return it.pinned_bytes; });
    const SparsePages& sparse = history.sparse_pages();
    if (sparse.sparse_pages * 5 > sparse.pages && pinner != nullptr) {
      found.push_back(fmt::format(
          "At the end {} of the {} pages in use are less than a quarter full and cannot be given back; most of that is "
          "pinned by {}.",
          HumanCount(sparse.sparse_pages), HumanCount(sparse.pages), Who(*pinner)));
    }
  }
  if (const RssAccount* highest = HighestRss(life); highest != nullptr && life.accounts.size() > 1) {
    const RssAccount& last = life.accounts.back();
    const double mib = 1 << 20;
    const double unused = last.rest + last.page_holes;
    if (unused > 2 * last.requested && unused > 16 * mib && last.requested < 0.5 * life.live_peak) {
      found.push_back(
          fmt::format("RSS stays at {} while {} are live: what was freed has not gone back to the system. That is "
                      "fragmentation and "
                      "reserve, not a leak.",
                      HumanBytes(last.rss), HumanBytes(last.requested)));
    } else if (last.rest > 0.5 * last.rss && last.rest > 16 * mib && last.rest > 2 * life.live_peak) {
      found.push_back(fmt::format(
          "{} of {} RSS are neither blocks of malloc nor files, and more than they ever took: memory that the program "
          "maps "
          "by itself (as arenas and garbage collectors do), stacks or reserve. malloc is not where to look.",
          HumanBytes(last.rest), HumanBytes(last.rss)));
    }
  }
  if (found.empty()) found.push_back("Nothing stands out: memory is released about as fast as it is allocated.");
  return found;
}

std::string ReclamationText(const LoadedTrace& trace, const Reclamation& life, size_t top, const TextStyle& style) {
  const HeapHistory& history = *trace.history;
  std::string out = "\nwhat stands out\n";
  const std::vector<std::string> found = ReclamationFindings(trace, life);
  for (const std::string& sentence : found) out += Bullet(sentence);
  if (found.empty()) return out + "  nothing was allocated\n";
  const auto line = [&](const char* label, const std::string& text) {
    out += fmt::format("  {:<22} {}\n", label, text);
  };

  out += "\nflow\n";
  line("allocated", fmt::format("{}, {}/s", HumanBytes(life.allocated.bytes), HumanBytes(life.allocated_per_s)));
  line("released", fmt::format("{}, {}/s; {} of what was allocated", HumanBytes(life.released.bytes),
                               HumanBytes(life.released_per_s), Percent(life.reclaimed)));
  line("", fmt::format("of that by realloc {}", HumanBytes(history.released_by_realloc().bytes)));
  line("live", fmt::format("mean {}, peak {}, at the end {}", HumanBytes(life.mean_live), HumanBytes(life.live_peak),
                           HumanBytes(life.live_end)));
  line("churn", fmt::format("the mean live heap is allocated anew {:.1f} times", life.churn));
  line("mean residence", fmt::format("{} (mean live / allocation rate); {} for what died", Seconds(life.residence_s),
                                     Seconds(life.mean_age_at_death_s)));
  line("another thread's", trace.model->threads().size() < 2
                               ? "there is one thread only"
                               : fmt::format("{} of the bytes are released by another thread",
                                             HumanPercent(history.cross_thread().bytes, life.released.bytes)));
  if (history.knows_chains()) {
    const ReallocChains& chains = history.chains();
    line("realloc", fmt::format("{} blocks grew in {} steps, {} at most; {} copied", HumanCount(chains.chains),
                                HumanCount(chains.steps), HumanCount(chains.longest),
                                HumanBytes(static_cast<double>(chains.copied_bytes))));
  } else {
    line("realloc", "not measured: needs a complete recording");
  }

  using Align = TextTable::Align;
  out += "\nlifetimes: how much dies before so much more is allocated, and what a nursery of that size would promote\n";
  TextTable ages({{"more allocated", Align::kRight, false},
                  {"bytes dead", Align::kRight, false},
                  {"blocks dead", Align::kRight, false},
                  {"survives doubling", Align::kRight, false},
                  {"promoted", Align::kRight, false}});
  for (const Nursery& it : life.nurseries) {
    if (!it.resolved) {
      ages.AddRow({HumanBytes(static_cast<double>(it.bytes)), "not told", "not told", "-", "-"});
      continue;
    }
    ages.AddRow({HumanBytes(static_cast<double>(it.bytes)), PercentWithin(it.died_bytes, it.died_bytes_95),
                 PercentWithin(it.died_blocks, it.died_blocks_95), Percent(it.survives_doubling),
                 HumanBytes(it.promoted_per_s) + "/s"});
  }
  out += ages.Render(style);
  if (!life.nurseries.front().resolved) {
    out += fmt::format("  not told: too few samples lie within so short an age; --sample-bytes {} or less would tell\n",
                       life.nurseries.front().bytes / 16);
  }
  std::string quantiles, times;
  for (const auto& [dead, age] : life.clock_quantiles) {
    const double told = trace.model->sampled() ? 16 * static_cast<double>(trace.model->sample_bytes()) : 0;
    std::string by = age ? HumanBytes(static_cast<double>(*age)) : "the end not";
    if (age && static_cast<double>(*age) < told) by = HumanBytes(told) + " or sooner";
    quantiles += fmt::format("{}{} by {}", quantiles.empty() ? "" : ", ", Percent(dead), by);
  }
  for (const AgeShare& it : life.by_time) {
    if (static_cast<double>(it.age_ns) > life.seconds * 2e9 && it.age_ns > 1'000'000) break;
    times += fmt::format("{}{} within {}", times.empty() ? "" : ", ", Percent(it.died_bytes), HumanDuration(it.age_ns));
  }
  line("bytes dead", quantiles);
  line("on the clock", times);

  out += "\nfragmentation\n";
  line("rounding", fmt::format("{} of the blocks' memory at the peak, {} at the end, is beyond what was requested",
                               Percent(life.rounding_peak), Percent(life.rounding_end)));
  if (life.pages_used_end && *life.pages_used_end > 0) {
    const SparsePages& sparse = history.sparse_pages();
    line("pages in use",
         fmt::format("{} at the peak ({} of it requested), {} at the end ({})", HumanBytes(*life.pages_used_peak),
                     HumanPercent(life.live_peak, *life.pages_used_peak), HumanBytes(*life.pages_used_end),
                     HumanPercent(life.live_end, *life.pages_used_end)));
    line("sparse pages", fmt::format("{} of {} at the end are less than a quarter full",
                                     HumanCount(sparse.sparse_pages), HumanCount(sparse.pages)));
  } else if (!history.knows_pages()) {
    line("pages in use", "not measured: needs a complete recording");
  }
  if (const RssAccount* highest = HighestRss(life)) {
    out += "\nresident memory (RSS), explained\n";
    TextTable parts({{"", Align::kLeft, false},
                     {"highest", Align::kRight, false},
                     {"", Align::kRight, false},
                     {"last", Align::kRight, false},
                     {"", Align::kRight, false}});
    const RssAccount& last = life.accounts.back();
    const auto row = [&](const char* label, double RssAccount::*part) {
      const auto cell = [&](const RssAccount& it) {
        return (it.*part < 0 ? "-" : "") + HumanBytes(std::abs(it.*part));
      };
      parts.AddRow({label, cell(*highest), HumanPercent(std::max(0.0, highest->*part), highest->rss), cell(last),
                    HumanPercent(std::max(0.0, last.*part), last.rss)});
    };
    row("live, as requested", &RssAccount::requested);
    row("rounding", &RssAccount::rounding);
    if (history.knows_pages()) row("free, in pages in use", &RssAccount::page_holes);
    row("files and shared memory", &RssAccount::files);
    row("allocator's reserve and the rest", &RssAccount::rest);
    row("RSS", &RssAccount::rss);
    out += parts.Render(style);
    out += fmt::format(
        "  highest at {}, last at {}. The rest: memory that the allocator keeps for later, stacks, the profiler's\n"
        "  tables, mappings of the program's own. Negative: live blocks that were never written to.\n",
        HumanDuration(highest->time_ns), HumanDuration(last.time_ns));
  }
  out += "\nnot measured\n";
  line("drag", "the time between the last use of a block and its release: accesses are not recorded");
  line("allocator pauses", "nor minimum mutator utilisation: the allocator's own time is not recorded");

  out += "\nsites by bytes allocated";
  const Nursery& young = life.nurseries[Reclamation::kYoung];
  const size_t rows = std::min(top, life.sites.size());
  out += rows < life.sites.size()
             ? fmt::format(", the first {} of {}\n", HumanCount(rows), HumanCount(life.sites.size()))
             : "\n";
  TextTable sites({{"allocated", Align::kRight, false},
                   {"dies young", Align::kRight, false},
                   {"live", Align::kRight, false},
                   {"old", Align::kRight, false},
                   {"copied", Align::kRight, false},
                   {"pinned", Align::kRight, false},
                   {"site", Align::kLeft, true}});
  for (size_t i = 0; i < rows; ++i) {
    const SiteLife& it = life.sites[i];
    sites.AddRow({HumanBytes(it.allocated_bytes),
                  young.resolved ? HumanPercent(it.died_young_bytes, it.allocated_bytes) : "-",
                  HumanBytes(it.live_bytes), HumanBytes(it.old_live_bytes),
                  history.knows_chains() ? HumanBytes(static_cast<double>(it.copied_bytes)) : "-",
                  history.knows_pages() ? HumanBytes(it.pinned_bytes) : "-", Who(it)});
  }
  out += sites.Render(style);
  out +=
      "  dies young: before 1 MiB more is allocated. old: live, from the first half of the run's allocation.\n"
      "  pinned: free, on pages that this site's few live bytes keep from being given back.\n";
  return out;
}

}  // namespace tidemark
