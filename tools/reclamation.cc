// See reclamation.h.
#include "tools/reclamation.h"

#include <algorithm>
#include <tuple>
#include <unordered_map>

#include "tools/sites.h"

namespace tidemark {
namespace {

double Share(double part, double whole) { return whole > 0 ? part / whole : 0; }

// Seconds between two ticks; the trace's own clock knows.
double SecondsBetween(const TraceReader& reader, uint64_t from_tsc, uint64_t to_tsc) {
  return to_tsc <= from_tsc
             ? 0
             : (static_cast<double>(reader.TimeNs(to_tsc)) - static_cast<double>(reader.TimeNs(from_tsc))) / 1e9;
}

// Ages in ticks have no moment, so they are measured from the beginning: clocks of processors run evenly.
struct TickRate {
  double ns_per_tick = 1;
  double Seconds(double ticks) const { return ticks * ns_per_tick / 1e9; }
  uint64_t Ticks(int64_t ns) const { return Saturated(static_cast<double>(ns) / ns_per_tick); }
};
TickRate RateOf(const TraceReader& reader, const Timeline& timeline) {
  TickRate rate;
  const auto ticks = static_cast<double>(timeline.last_tsc() - timeline.first_tsc());
  const double seconds = SecondsBetween(reader, timeline.first_tsc(), timeline.last_tsc());
  if (ticks > 0 && seconds > 0) rate.ns_per_tick = seconds * 1e9 / ticks;
  return rate;
}

constexpr uint64_t kDrawsResolved = 16;

void TellLifetimes(const HeapHistory& history, const TickRate& rate, uint64_t sample_bytes, Reclamation* out) {
  const SurvivalCurve& bytes = history.survival_by_clock(Unit::kBytes);
  const SurvivalCurve& blocks = history.survival_by_clock(Unit::kBlocks);
  for (const uint64_t size : kNurseryBytes) {
    Nursery nursery;
    nursery.bytes = size;
    nursery.resolved = size >= kDrawsResolved * sample_bytes;
    nursery.died_bytes = bytes.DiedBefore(size);
    nursery.died_blocks = blocks.DiedBefore(size);
    nursery.died_bytes_95 = bytes.DiedBefore95(size);
    nursery.died_blocks_95 = blocks.DiedBefore95(size);
    nursery.survives_doubling = Share(bytes.AtLeast(2 * size), bytes.AtLeast(size));
    nursery.promoted_per_s = out->allocated_per_s * bytes.AtLeast(size);
    out->nurseries.push_back(nursery);
  }
  const SurvivalCurve& by_time = history.survival_by_time(Unit::kBytes);
  for (int64_t ns = 1'000'000; ns <= 100'000'000'000; ns *= 10) {
    out->by_time.push_back({ns, by_time.DiedBefore(rate.Ticks(ns)), by_time.DiedBefore95(rate.Ticks(ns))});
  }
  for (const double dead : {0.5, 0.9, 0.99}) {
    const uint64_t age = bytes.Quantile(dead), ticks = by_time.Quantile(dead);
    out->clock_quantiles.emplace_back(dead, age == UINT64_MAX ? std::nullopt : std::optional<uint64_t>(age));
    out->time_quantiles.emplace_back(
        dead, ticks == UINT64_MAX ? std::nullopt : std::optional<double>(rate.Seconds(static_cast<double>(ticks))));
  }
}

void TellResident(const TraceReader& reader, const HeapHistory& history, Reclamation* out) {
  for (size_t i = 0; i < history.instants().size(); ++i) {
    const HeapInstant& heap = history.instants()[i];
    const TraceMemory& memory = reader.memory()[i];
    if (!heap.known || memory.rss == 0) continue;
    RssAccount account;
    account.time_ns = static_cast<int64_t>(memory.monotonic_ns - reader.origin_monotonic_ns());
    account.rss = static_cast<double>(memory.rss);
    account.files = static_cast<double>(std::min(memory.file, memory.rss));
    account.requested = heap.live_bytes;
    account.rounding = std::max(0.0, heap.usable_bytes - heap.live_bytes);
    if (history.knows_pages()) {
      account.page_holes = std::max(0.0, static_cast<double>(heap.used_page_bytes) - heap.usable_bytes);
    }
    account.rest = account.rss - account.files - account.requested - account.rounding - account.page_holes;
    out->accounts.push_back(account);
  }
}

void TellSites(const HeapModel& model, const HeapHistory& history, FrameNames& names, Reclamation* out) {
  std::vector<uint32_t> leaves;
  for (size_t i = 0; i < history.fates().size(); ++i) leaves.push_back(model.stacks()[i].node);
  names.Prefetch(leaves);
  Sites sites(names);
  std::unordered_map<uint32_t, size_t> row_of;
  for (size_t i = 0; i < history.fates().size(); ++i) {
    const StackFate& fate = history.fates()[i];
    if (fate.allocated_bytes <= 0 && fate.live_bytes <= 0) continue;
    const uint32_t site = sites.Of(names.StackOf(model.stacks()[i].node).front());
    auto [row, added] = row_of.try_emplace(site, out->sites.size());
    if (added) {
      SiteLife life;
      life.name = names.function_of(site).name;
      life.module = names.function_of(site).module;
      life.place = names.PlaceOf(site);
      out->sites.push_back(std::move(life));
    }
    SiteLife& life = out->sites[row->second];
    life.allocated_bytes += fate.allocated_bytes;
    life.live_bytes += fate.live_bytes;
    life.old_live_bytes += fate.old_live.bytes;
    life.died_young_bytes += fate.DiedBefore(Reclamation::kYoung);
    life.cross_thread_bytes += fate.cross_thread.bytes;
    if (i < history.sparse_pages().pinned_bytes.size()) life.pinned_bytes += history.sparse_pages().pinned_bytes[i];
    life.copied_bytes += fate.copied_bytes;
    life.reallocs += fate.reallocs;
    life.oldest_clock = std::max(life.oldest_clock, fate.oldest_clock);
    out->old_live += fate.old_live.bytes;
  }
  std::sort(out->sites.begin(), out->sites.end(), [](const SiteLife& a, const SiteLife& b) {
    if (a.allocated_bytes != b.allocated_bytes) return a.allocated_bytes > b.allocated_bytes;
    return std::tie(a.name, a.place, a.module) < std::tie(b.name, b.place, b.module);
  });
}

}  // namespace

Reclamation Reclaim(const TraceReader& reader, const HeapModel& model, const HeapHistory& history, FrameNames& names) {
  Reclamation out;
  const Timeline& timeline = history.timeline();
  const TickRate rate = RateOf(reader, timeline);
  out.seconds = SecondsBetween(reader, timeline.first_tsc(), timeline.last_tsc());
  out.allocated = history.allocated();
  out.released = history.released();
  out.allocated_per_s = Share(out.allocated.bytes, out.seconds);
  out.released_per_s = Share(out.released.bytes, out.seconds);
  out.reclaimed = Share(out.released.bytes, out.allocated.bytes);
  const double byte_seconds = rate.Seconds(history.live_byte_ticks());
  out.mean_live = Share(byte_seconds, out.seconds);
  out.churn = Share(out.allocated.bytes, out.mean_live);
  out.residence_s = Share(byte_seconds, out.allocated.bytes);
  double died = 0, died_byte_ticks = 0;
  for (const StackFate& fate : history.fates()) {
    died += fate.died.bytes;
    died_byte_ticks += fate.residence_byte_ticks;
  }
  out.mean_age_at_death_s = rate.Seconds(Share(died_byte_ticks, died));
  out.live_end = model.total().Live().bytes.value();
  out.live_peak = model.total().Peak(model.epoch()).bytes.value();
  if (history.usable_at_end() > 0) out.rounding_end = 1 - Share(out.live_end, history.usable_at_end());
  if (history.usable_at_peak() > 0) out.rounding_peak = 1 - Share(out.live_peak, history.usable_at_peak());
  if (history.knows_pages()) {
    out.pages_used_end = static_cast<double>(history.used_pages_at_end());
    out.pages_used_peak = static_cast<double>(history.used_pages_at_peak());
  }
  TellLifetimes(history, rate, model.sample_bytes(), &out);
  TellResident(reader, history, &out);
  TellSites(model, history, names, &out);
  return out;
}

const RssAccount* HighestRss(const Reclamation& life) {
  const auto highest = std::max_element(life.accounts.begin(), life.accounts.end(),
                                        [](const RssAccount& a, const RssAccount& b) { return a.rss < b.rss; });
  return highest == life.accounts.end() ? nullptr : &*highest;
}

}  // namespace tidemark
