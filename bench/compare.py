"""What changed between two reports: ./dev bench compare OLD.json NEW.json.

A change is told only if the ranges of the two do not touch and the medians differ by more than a least share; the
rest is noise. CPU is compared as a ratio to glibc in the same round, so that reports of a busier machine compare, too;
workloads that were changed in between are left out. Must not: measure.

Exit status: 0 no metric of tidemark grew worse, 1 one did, 2 usage, 3 a report that cannot be read.
"""
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ratios
from ratios import Spread

SCHEMA = "tidemark.bench/1"
SMALLEST_SHARE = {"cpu": 0.03, "host_peak": 0.05, "trace bytes per pair": 0.02, "instructions": 0.005,
                  "cost": 0.15}


@dataclass
class Change:
    scope: str
    peer: str
    metric: str
    old: str
    new: str
    verdict: str  # "worse" or "better": every metric here is one that ought to be small

    def as_json(self) -> dict[str, str]:
        return asdict(self)


def one(value: float) -> Spread:
    return Spread(value, value, value, 2)  # exact: its range is itself


def metrics_of(report: dict[str, Any]) -> Iterator[tuple[tuple[str, str, str], str, Spread]]:
    """((scope, peer, metric), kind, value) of everything that two reports can be compared by."""
    for name, workload in report["workloads"].items():
        glibc = workload["peers"].get("glibc", {}).get("runs", [])
        for peer, series in workload["peers"].items():
            found = ratios.ratio(series["runs"], glibc, "cpu")
            if found and peer != "glibc":
                yield (f"{name} ({workload['size']})", peer, "cpu over glibc"), "cpu", found
            peak = ratios.spread(ratios.values(series["runs"], "host_peak"))
            if peak and peak.median > 0:
                yield (f"{name} ({workload['size']})", peer, "peak memory, bytes"), "host_peak", peak
            events = series["facts"].get("events")
            if events and peer == "tidemark-full" and events["alloc"] > 0:
                pairs = events["alloc"] + events["realloc"]
                yield ((f"{name} ({workload['size']})", peer, "trace bytes per pair"), "trace bytes per pair",
                       one(series["facts"]["trace_bytes"] / pairs))
    for configuration, hooks in report["instructions"].get("counts", {}).items():
        for hook, value in hooks.items():
            yield ("instructions", configuration, hook), "instructions", one(value)
    for series in report["series"]:
        for line, points in series["lines"].items():
            for x, y in points:
                if y > 0:
                    yield (series["title"], line, f"{series['y']} at {x:,}"), "cost", Spread(y, y, y, 1)


def same_work(old: dict[str, Any], new: dict[str, Any], workload: str) -> bool:
    definitions = [report["workloads"].get(workload, {}).get("definition") for report in (old, new)]
    return definitions[0] == definitions[1]


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    before = {key: value for key, _, value in metrics_of(old)}
    found = []
    for key, kind, value in metrics_of(new):
        if key not in before or not same_work(old, new, key[0].split(" (")[0]):
            continue
        verdict = ratios.change(before[key], value, SMALLEST_SHARE[kind])
        if verdict:
            digits = 0 if kind == "host_peak" else 2
            found.append(Change(*key, before[key].text(digits), value.text(digits),
                                "worse" if verdict == "higher" else "better"))
    return found


def load(path: Path) -> dict[str, Any]:
    """Raises ValueError with what is wrong with the file, and what to do."""
    try:
        report = json.loads((path / "report.json" if path.is_dir() else path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: {error}; name a report.json that ./dev bench wrote") from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise ValueError(f"{path}: not a report of this version ({SCHEMA}); write it anew with ./dev bench")
    return report


def render(old: dict[str, Any], new: dict[str, Any]) -> str:
    lines = [f"old: {old['date']} {old['revision']}, new: {new['date']} {new['revision']}"]
    if old["machine"]["cpu"] != new["machine"]["cpu"] or old["quick"] != new["quick"]:
        lines.append("not alike: another processor or another size; what is told below may be the machine's")
    found = changes(old, new)
    both = {key for key, _, _ in metrics_of(old)} & {key for key, _, _ in metrics_of(new)}
    compared = [key for key in both if same_work(old, new, key[0].split(" (")[0])]
    other = [name for name in old["workloads"] if name in new["workloads"] and not same_work(old, new, name)]
    if other:
        lines.append(f"not compared, because what they do has changed: {', '.join(other)}")
    for change in sorted(found, key=lambda change: (not change.peer.startswith("tidemark"), change.verdict != "worse")):
        lines.append(f"{change.verdict:7} {change.scope}: {change.peer}, {change.metric}: {change.old} -> {change.new}")
    lines.append(f"{len(found)} of {len(compared)} metrics changed beyond noise")
    return "\n".join(lines)


def main(words: list[str]) -> int:
    if len(words) != 2:
        print("Usage: ./dev bench compare OLD.json NEW.json", file=sys.stderr)
        return 2
    try:
        old, new = (load(Path(word)) for word in words)
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 3
    print(render(old, new))
    worse = any(change.verdict == "worse" and change.peer.startswith(("tidemark", "in the", "all"))
                for change in changes(old, new))
    return 1 if worse else 0
