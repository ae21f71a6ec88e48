"""The budgets: what was promised, each with how it is read out of a report, and a verdict.

A verdict is "met", "missed" or "not measured". The median decides; where the range reaches over the limit the
reader is told ("within noise"), because a shared machine cannot decide such a case. Must not: measure or render.
"""
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import instructions
import ratios

Report = dict[str, Any]
MET, MISSED, UNKNOWN = "met", "missed", "not measured"
# Below this much added CPU a share of it is noise.
SMALLEST_ADDED_S = 0.05
SMALLEST_PAIRS = 100_000  # a trace holds modules and names, too: with fewer pairs those are what is counted
MIB = 1 << 20
# Where 8 threads share two cores, caches alone make a sample dearer by a quarter; a shared lock would multiply it.
EQUAL_LIMIT = 1.5
FLAT_LIMIT = 2.0  # "flat": tables that outgrow a cache are allowed, anything that grows with its input is not
REPORT_LIMIT_S, REPORT_LIMIT_BYTES = 3.0, 300_000_000


@dataclass
class Verdict:
    budget: str
    scope: str  # which workload or part
    limit: str
    measured: str
    verdict: str
    note: str = ""
    excess: float = 0.0  # measured over limit: to find the worst

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def runs_of(report: Report, workload: str, peer: str) -> list[dict[str, Any]]:
    return report["workloads"].get(workload, {}).get("peers", {}).get(peer, {}).get("runs", [])


def facts_of(report: Report, workload: str, peer: str) -> dict[str, Any]:
    return report["workloads"].get(workload, {}).get("peers", {}).get(peer, {}).get("facts", {})


def at_most(budget: str, scope: str, limit: float, found: ratios.Spread | None, unit: str = "",
            digits: int = 2, why_not: str = "") -> Verdict:
    limit_text = f"<= {limit:g}{unit}"
    if found is None:
        return Verdict(budget, scope, limit_text, "", UNKNOWN, why_not)
    note = "within noise: the range has both" if found.low <= limit < found.high or \
        found.low <= limit and found.median > limit else ""
    return Verdict(budget, scope, limit_text, found.text(digits) + unit, MET if found.median <= limit else MISSED, note,
                   found.median / limit)


def sampled_over_mimalloc(report: Report) -> Iterator[Verdict]:
    """Judged by user CPU, as promised. The kernel tells user from system by ticks, so that the sum is told, too."""
    for verdict in of_workloads(report, "sampled: user CPU over mimalloc's", 1.02,
                                ratio_to(report, "mimalloc", "tidemark-sampled", "user"), only_real=True):
        whole = ratios.ratio(runs_of(report, verdict.scope, "tidemark-sampled"),
                             runs_of(report, verdict.scope, "mimalloc"), "cpu")
        if whole is not None:
            verdict.note = "; ".join(filter(None, [verdict.note, f"with system and collector {whole.text()}"]))
        yield verdict


def of_workloads(report: Report, budget: str, limit: float, take: Callable[[str], ratios.Spread | None],
                 unit: str = "", only_real: bool = False, names: tuple[str, ...] = ()) -> Iterator[Verdict]:
    some = False
    for name, workload in report["workloads"].items():
        if only_real and not workload["real"] or names and name not in names:
            continue
        found = take(name)
        if found is not None:
            some = True
            yield at_most(budget, name, limit, found, unit)
    if not some:
        yield Verdict(budget, "", f"<= {limit:g}{unit}", "", UNKNOWN, "no workload of it ran")


def ratio_to(report: Report, base: str, peer: str, metric: str) -> Callable[[str], ratios.Spread | None]:
    return lambda name: ratios.ratio(runs_of(report, name, peer), runs_of(report, name, base), metric)


def pair_instructions(report: Report) -> Iterator[Verdict]:
    budget, limit = "fast path: instructions added to mimalloc by malloc + free", instructions.BUDGET_PAIR
    counts = report["instructions"].get("counts", {})
    if "tidemark" not in counts or "mimalloc" not in counts:
        gaps = report["instructions"].get("gaps", {})
        yield Verdict(budget, "callgrind", f"<= +{limit:g}", "", UNKNOWN,
                      report["instructions"].get("gap") or "; ".join(gaps.values()) or "this part did not run")
        return
    added = counts["tidemark"]["pair"] - counts["mimalloc"]["pair"]
    yield Verdict(budget, "callgrind", f"<= +{limit:g}", f"{added:+.1f}", MET if added <= limit else MISSED)


def most_programs(report: Report) -> Iterator[Verdict]:
    budget = "sampled: user CPU <= glibc's on most real programs"
    found = {name: ratios.ratio(runs_of(report, name, "tidemark-sampled"), runs_of(report, name, "glibc"), "user")
             for name, workload in report["workloads"].items() if workload["real"]}
    known = {name: spread.median for name, spread in found.items() if spread}
    if not known:
        yield Verdict(budget, "real programs", "> half", "", UNKNOWN, "no real program ran")
        return
    good = sum(value <= 1.0 for value in known.values())
    yield Verdict(budget, "real programs", "> half", f"{good} of {len(known)}",
                  MET if good * 2 > len(known) else MISSED,
                  ", ".join(f"{name} {value:.2f}" for name, value in known.items()))


def memory(report: Report) -> Iterator[Verdict]:
    budget = "sampled: peak memory of the program over mimalloc's"
    some = False
    for name in report["workloads"]:
        ours = ratios.spread(ratios.values(runs_of(report, name, "tidemark-sampled"), "host_peak"))
        plain = ratios.spread(ratios.values(runs_of(report, name, "mimalloc"), "host_peak"))
        if ours is None or plain is None:
            continue
        some = True
        limit = plain.median * 1.05 + 4 * MIB
        # The lowest run decides whether it is the profiler: allocators' peaks vary with thread timing.
        note = "within noise: the range has both" if ours.low <= limit < ours.high else ""
        yield Verdict(budget, name, f"<= {limit / MIB:.1f} MiB", f"{ours.median / MIB:.1f} MiB (mimalloc "
                      f"{plain.median / MIB:.1f})", MET if ours.median <= limit else MISSED, note,
                      ours.median / limit)
    if not some:
        yield Verdict(budget, "", "<= 5 % + 4 MiB", "", UNKNOWN, "no workload of it ran")


def trace_size(report: Report) -> Iterator[Verdict]:
    budget = "complete: trace bytes per malloc/free pair"
    some = False
    for name in report["workloads"]:
        facts = facts_of(report, name, "tidemark-full")
        pairs = pairs_of(facts)
        if not pairs or pairs < SMALLEST_PAIRS or facts.get("dropped"):
            continue
        some = True
        size = facts["trace_bytes"] / pairs
        yield at_most(budget, name, 2.0, ratios.Spread(size, size, size, 1), " B")
    if not some:
        yield Verdict(budget, "", "<= 2 B", "", UNKNOWN, "no workload of it ran")


def pairs_of(facts: dict[str, Any]) -> int:
    """Blocks that were made: allocations, and reallocations, which end one block and make another."""
    events = facts.get("events")
    return events["alloc"] + events["realloc"] if events else 0


def report_cost(report: Report) -> Iterator[Verdict]:
    budget = "report on a trace of 10 million events"
    limit = f"<= {REPORT_LIMIT_S:g} s, <= {REPORT_LIMIT_BYTES // 1_000_000} MB"
    if not report["report_10m"]:
        yield Verdict(budget, "", limit, "", UNKNOWN, "this part did not run")
    for name, cost in report["report_10m"].items():
        if "gap" in cost:
            yield Verdict(budget, name, limit, "", UNKNOWN, cost["gap"])
            continue
        good = cost["wall_s"] <= REPORT_LIMIT_S and cost["peak_bytes"] <= REPORT_LIMIT_BYTES
        yield Verdict(budget, name, limit, f"{cost['wall_s']:.2f} s, {cost['peak_bytes'] / 1e6:.0f} MB",
                      MET if good else MISSED)


def series_of(report: Report, name: str) -> dict[str, Any]:
    return next((series for series in report["series"] if series["name"] == name), {})


def samples(report: Report) -> Iterator[Verdict]:
    series = series_of(report, "contention")
    line = series.get("lines", {}).get("in the program", [])
    cost, equal = "sampled: CPU per sample in the program, hot", "sampled: cost per sample with 8 threads over 1 thread"
    if not line:
        why = series.get("gap") or "this part did not run"
        yield Verdict(cost, "1 thread", "<= 3 us", "", UNKNOWN, why)
        yield Verdict(equal, "contention", f"<= {EQUAL_LIMIT:g}", "", UNKNOWN, why)
        return
    lost = f"{series['dropped']:,} samples of the last run were dropped" if series.get("dropped") else ""
    one = line[0][1]
    yield Verdict(cost, "1 thread", "<= 3 us", f"{one:.2f} us", MET if one <= 3 else MISSED, lost)
    share = line[-1][1] / one if one > 0 else float("inf")
    yield Verdict(equal, "contention", f"<= {EQUAL_LIMIT:g}", f"{share:.2f}", MET if share <= EQUAL_LIMIT else MISSED,
                  lost)


def flat(report: Report) -> Iterator[Verdict]:
    budget = "complete: cost per event stays flat (largest over smallest)"
    limit = FLAT_LIMIT
    for name in ("scale-events", "scale-threads", "scale-stacks"):
        series = series_of(report, name)
        line = series.get("lines", {}).get("all processes", [])
        if not line:
            yield Verdict(budget, name, f"<= {limit:g}", "", UNKNOWN, series.get("gap") or "this part did not run")
            continue
        share = ratios.flatness([y for _, y in line])
        costs = ", ".join(f"{x:,}: {y:.0f} ns" for x, y in line)
        yield Verdict(budget, name, f"<= {limit:g}", f"{share:.2f}", MET if share <= limit else MISSED, costs,
                      share / limit)


def cpu_sampling(report: Report) -> Iterator[Verdict]:
    budget = "CPU sampling at 100 Hz: user CPU over the same without it"
    gap = report["peers"].get("tidemark-cpu", {}).get("gap", "")
    found = list(of_workloads(report, budget, 1.01, ratio_to(report, "tidemark-sampled", "tidemark-cpu", "user")))
    for verdict in found:
        if verdict.verdict == UNKNOWN and gap:
            verdict.note = gap
    yield from found


def heaptrack_share(report: Report) -> Iterator[Verdict]:
    yield from of_workloads(
        report, "complete: added CPU, all processes, as a share of heaptrack's", 0.25,
        lambda name: ratios.added_share(runs_of(report, name, "tidemark-full"), runs_of(report, name, "heaptrack"),
                                        runs_of(report, name, "glibc"), "cpu", SMALLEST_ADDED_S))


def losses(report: Report) -> Iterator[Verdict]:
    """Complete recording that drops is no complete recording: its other numbers would be too good."""
    budget = "complete: events dropped"
    for name in report["workloads"]:
        facts = facts_of(report, name, "tidemark-full")
        if "dropped" in facts:
            whole = facts["dropped"] == 0 and not facts.get("problems")
            yield Verdict(budget, name, "0", f"{facts['dropped']:,} of {facts['observed']:,}", MET if whole else MISSED,
                          "the trace is damaged" if facts.get("problems") else "", facts["dropped"])


def worst(verdicts: list[Verdict]) -> Verdict:
    """The one to show of a budget that many workloads have: missed ones first, then those furthest from the limit."""
    return max(verdicts, key=lambda verdict: (verdict.verdict == MISSED, verdict.excess))


def judge(report: Report) -> list[Verdict]:
    return [
        *pair_instructions(report),
        *of_workloads(report, "fast path: CPU of malloc + free over glibc's, sampled", 0.55,
                      ratio_to(report, "glibc", "tidemark-sampled", "cpu"), names=("pairs",)),
        *sampled_over_mimalloc(report),
        *most_programs(report),
        *samples(report),
        *memory(report),
        *heaptrack_share(report),
        *of_workloads(report, "complete: CPU of all processes over glibc's", 2.0,
                      ratio_to(report, "glibc", "tidemark-full", "cpu"), names=("bignum",)),
        *of_workloads(report, "complete: CPU of all processes over glibc's", 1.15,
                      ratio_to(report, "glibc", "tidemark-full", "cpu"), names=("cc1plus", "sqlite3")),
        *trace_size(report),
        *losses(report),
        *flat(report),
        *report_cost(report),
        *cpu_sampling(report),
    ]
