// See reclamation_json.h.
#include "tools/reclamation_json.h"

#include <cmath>

namespace tidemark {
namespace {

// Finite, with six digits behind the point: shares and rates have no more in them, and runs stay comparable.
Json Number(double value) { return std::isfinite(value) ? Json(std::round(value * 1e6) / 1e6) : Json(); }
Json Count(double value) { return Saturated(value); }
Json QuantityJson(const Quantity& it) { return {{"bytes", Count(it.bytes)}, {"blocks", Count(it.blocks)}}; }
Json IntervalJson(const Interval& it) { return Json::array({Number(it.low), Number(it.high)}); }

}  // namespace

Json ReclamationJson(const LoadedTrace& trace, const Reclamation& life, size_t top) {
  const HeapHistory& history = *trace.history;
  const bool sampled = trace.model->sampled();
  Json nurseries = Json::array(), by_time = Json::array(), quantiles = Json::array(), sites = Json::array();
  for (const Nursery& it : life.nurseries) {
    Json row = {{"bytes", it.bytes},
                {"resolved", it.resolved},
                {"died_bytes", Number(it.died_bytes)},
                {"died_blocks", Number(it.died_blocks)},
                {"survives_doubling", Number(it.survives_doubling)},
                {"promoted_bytes_per_s", Count(it.promoted_per_s)}};
    if (sampled) {
      row["died_bytes_95"] = IntervalJson(it.died_bytes_95);
      row["died_blocks_95"] = IntervalJson(it.died_blocks_95);
    }
    nurseries.push_back(row);
  }
  for (const AgeShare& it : life.by_time) {
    Json row = {{"age_ns", it.age_ns}, {"died_bytes", Number(it.died_bytes)}};
    if (sampled) row["died_bytes_95"] = IntervalJson(it.died_bytes_95);
    by_time.push_back(row);
  }
  for (size_t i = 0; i < life.clock_quantiles.size(); ++i) {
    const auto& [dead, age] = life.clock_quantiles[i];
    const std::optional<double>& seconds = life.time_quantiles[i].second;
    quantiles.push_back({{"dead", dead},
                         {"age_bytes", age ? Json(*age) : Json()},
                         {"age_ns", seconds ? Count(*seconds * 1e9) : Json()}});
  }
  for (size_t i = 0; i < std::min(top, life.sites.size()); ++i) {
    const SiteLife& it = life.sites[i];
    sites.push_back({{"function", it.name},
                     {"module", it.module},
                     {"place", it.place},
                     {"allocated_bytes", Count(it.allocated_bytes)},
                     {"died_young_bytes", Count(it.died_young_bytes)},
                     {"live_bytes", Count(it.live_bytes)},
                     {"old_live_bytes", Count(it.old_live_bytes)},
                     {"oldest_age_bytes", it.oldest_clock},
                     {"cross_thread_bytes", Count(it.cross_thread_bytes)},
                     {"copied_bytes", history.knows_chains() ? Json(it.copied_bytes) : Json()},
                     {"reallocs", history.knows_chains() ? Json(it.reallocs) : Json()},
                     {"pinned_bytes", history.knows_pages() ? Count(it.pinned_bytes) : Json()}});
  }
  Json chains, pages, hand_overs = Json::array();
  if (history.knows_chains()) {
    const ReallocChains& it = history.chains();
    chains = {{"chains", it.chains},
              {"steps", it.steps},
              {"longest", it.longest},
              {"copied_bytes", it.copied_bytes},
              {"by_log2_steps", it.by_log2_length}};
  }
  if (history.knows_pages()) {
    const SparsePages& it = history.sparse_pages();
    pages = {{"used_bytes_at_peak", history.used_pages_at_peak()},
             {"used_bytes_at_end", history.used_pages_at_end()},
             {"pages", it.pages},
             {"sparse_pages", it.sparse_pages},
             {"by_quarter", it.by_quarter}};
  }
  constexpr size_t kMostPairs = 20;
  for (size_t i = 0; i < std::min(kMostPairs, history.hand_overs().size()); ++i) {
    const HandOver& it = history.hand_overs()[i];
    Json row = QuantityJson(it.amount);
    row["from_thread"] = trace.model->threads()[it.from].serial;
    row["to_thread"] = trace.model->threads()[it.to].serial;
    hand_overs.push_back(row);
  }
  Json accounts = Json::array();
  const auto signed_bytes = [](double bytes) {
    return bytes < 0 ? Json(-static_cast<double>(Saturated(-bytes))) : Json(Saturated(bytes));
  };
  for (const RssAccount& it : life.accounts) {
    accounts.push_back({{"time_ns", it.time_ns},
                        {"rss", Count(it.rss)},
                        {"files", Count(it.files)},
                        {"requested", Count(it.requested)},
                        {"rounding", Count(it.rounding)},
                        {"page_holes", history.knows_pages() ? Count(it.page_holes) : Json()},
                        {"rest", signed_bytes(it.rest)}});
  }
  Json points = Json::array();
  for (const SeriesPoint& it : history.series().points()) {
    points.push_back({{"allocated_bytes", it.clock},
                      {"time_ns", trace.reader->TimeNs(it.tsc)},
                      {"live_bytes", Count(it.live_bytes)}});
  }
  return {{"seconds", Number(life.seconds)},
          {"flow",
           {{"allocated", QuantityJson(life.allocated)},
            {"released", QuantityJson(life.released)},
            {"released_by_realloc", QuantityJson(history.released_by_realloc())},
            {"released_by_another_thread", QuantityJson(history.cross_thread())},
            {"allocated_bytes_per_s", Count(life.allocated_per_s)},
            {"released_bytes_per_s", Count(life.released_per_s)},
            {"reclaimed", Number(life.reclaimed)},
            {"live_bytes_at_begin", Count(history.live_at_begin())},
            {"live_bytes_mean", Count(life.mean_live)},
            {"live_bytes_peak", Count(life.live_peak)},
            {"live_bytes_end", Count(life.live_end)},
            {"old_live_bytes", Count(life.old_live)},
            {"churn", Number(life.churn)},
            {"residence_ns", Count(life.residence_s * 1e9)},
            {"mean_age_at_death_ns", Count(life.mean_age_at_death_s * 1e9)}}},
          {"lifetimes", {{"by_allocation", nurseries}, {"by_time", by_time}, {"quantiles", quantiles}}},
          {"realloc", chains},
          {"hand_overs", hand_overs},
          {"fragmentation",
           {{"usable_bytes_at_peak", Count(history.usable_at_peak())},
            {"usable_bytes_at_end", Count(history.usable_at_end())},
            {"rounding_at_peak", Number(life.rounding_peak)},
            {"rounding_at_end", Number(life.rounding_end)},
            {"pages", pages}}},
          {"resident", accounts},
          {"drag", nullptr},
          {"pauses", nullptr},
          {"live_series", points},
          {"all_sites", life.sites.size()},
          {"sites", sites}};
}

}  // namespace tidemark
