"""Statistics of interleaved runs: ratios are taken round by round, then their median and range.

A round's runs see the same machine, so that its ratio holds when the machine's speed does not. The range is the range:
nine runs have no honest standard deviation. Must not: read files or know names of workloads.
"""
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

RunJson = dict[str, Any]
METRICS: dict[str, Callable[[RunJson], float]] = {
    "cpu": lambda run: run["user_s"] + run["system_s"],
    "user": lambda run: run["user_s"],
    "host_user": lambda run: run["user_s"] - min(run["user_s"], run["other_s"]),
    "other": lambda run: run["other_s"],
    "wall": lambda run: run["wall_s"],
    "host_peak": lambda run: run["host_peak_bytes"],
    "tree_peak": lambda run: run["tree_peak_bytes"],
    "output": lambda run: run["output_bytes"],
}


@dataclass(frozen=True)
class Spread:
    median: float
    low: float
    high: float
    count: int

    def text(self, digits: int = 2) -> str:
        if self.count == 1:
            return f"{self.median:.{digits}f}"
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"


def spread(values: Sequence[float]) -> Spread | None:
    """None without values."""
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values), len(values))


def values(runs: Sequence[RunJson], metric: str) -> list[float]:
    return [METRICS[metric](run) for run in runs]


def ratio(runs: Sequence[RunJson], base: Sequence[RunJson], metric: str) -> Spread | None:
    """Round by round; rounds that one side lacks do not count."""
    pairs = zip(values(runs, metric), values(base, metric))
    return spread([value / reference for value, reference in pairs if reference > 0])


def added_share(runs: Sequence[RunJson], other: Sequence[RunJson], base: Sequence[RunJson], metric: str,
                smallest: float = 0.0) -> Spread | None:
    """(runs - base) / (other - base), round by round: how much of the other's added cost. Rounds in which the other
    added no more than `smallest` say nothing."""
    rows = zip(values(runs, metric), values(other, metric), values(base, metric))
    return spread([(value - reference) / (others - reference) for value, others, reference in rows
                   if others - reference > smallest])


def change(old: Spread, new: Spread, smallest: float) -> str:
    """'higher', 'lower' or '': the ranges must not touch, and the medians differ by more than `smallest` (a share).

    With one run on either side there is no range; then four times the share is asked for."""
    if old.median == 0:
        return ""
    share = new.median / old.median - 1
    if min(old.count, new.count) < 2:
        smallest *= 4
    if share > smallest and new.low > old.high:
        return "higher"
    if share < -smallest and new.high < old.low:
        return "lower"
    return ""


def flatness(costs: Sequence[float]) -> float:
    """Largest over smallest: 1 is flat."""
    return max(costs) / min(costs) if costs and min(costs) > 0 else float("inf")
