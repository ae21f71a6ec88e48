"""How long blocks live: weighted Kaplan-Meier, and the table behind the size and lifetime map (docs/analysis.md).

A block that was alive at the end, or whose release was lost, is not known to have died at any age: it is censored, it
counts among those at risk until then and never as a death. Must not: know events.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .estimator import Floats


@dataclass(frozen=True)
class Survival:
    """S(age): the share that lives longer than `age`, a step function. One row for each age at which something died."""
    clock: str  # "time": ages in nanoseconds; "bytes": in bytes allocated meanwhile
    weighted_by: str  # "bytes" or "blocks"
    age: Floats
    share: Floats
    low: Floats  # 95 %, Greenwood's variance on the log-log scale
    high: Floats

    def at(self, age: float) -> float:
        row = int(np.searchsorted(self.age, age, side="right")) - 1
        return float(self.share[row]) if row >= 0 else 1.0

    def median(self) -> float | None:
        """The age that half of them reach; None when more than half outlive the trace."""
        below = np.flatnonzero(self.share <= 0.5)
        return float(self.age[below[0]]) if len(below) else None


def kaplan_meier(ages: Floats, dead: NDArray[np.bool_], weights: Floats, clock: str, weighted_by: str) -> Survival:
    """`dead` is False for the censored."""
    order = np.argsort(ages, kind="stable")
    ages, dead, weights = ages[order], dead[order], weights[order]
    new = np.concatenate((np.ones(min(1, len(ages)), bool), ages[1:] != ages[:-1]))
    starts = np.flatnonzero(new)
    if not len(starts):
        nothing = np.zeros(0)
        return Survival(clock, weighted_by, nothing, nothing, nothing, nothing)
    deaths = np.add.reduceat(np.where(dead, weights, 0.0), starts)
    # Summed from the oldest: a difference of large sums would leave the last ones with rounding errors.
    at_risk = np.cumsum(weights[::-1])[::-1][starts]
    squares = np.cumsum((weights * weights)[::-1])[::-1][starts]
    rows = np.flatnonzero(deaths > 0)
    deaths, at_risk, squares = deaths[rows], at_risk[rows], squares[rows]
    hazard = np.minimum(deaths / at_risk, 1.0)
    share = np.cumprod(1 - hazard)
    # A weighted sample is worth (sum w)^2 / sum w^2 blocks of equal weight.
    effective = at_risk * at_risk / squares
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(np.cumsum(hazard / (effective * (1 - hazard)))) / np.abs(np.log(share))
        low, high = share ** np.exp(1.96 * spread), share ** np.exp(-1.96 * spread)
    known = (share > 0) & (share < 1) & np.isfinite(spread)
    return Survival(clock, weighted_by, ages[starts][rows], share, np.where(known, low, share),
                    np.where(known, high, share))
