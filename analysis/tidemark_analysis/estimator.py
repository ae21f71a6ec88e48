"""What a sampled block stands for, and how sure a sum of such blocks is (docs/metrics.md, "Sampled traces").

Everything works on arrays, one element a sum. Must not: know blocks, sites or traces.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .columns import Numbers

Floats = NDArray[np.float64]
_LARGE_SHAPE = 1e4  # beyond, the cube of Wilson and Hilferty is exact to more digits than anybody prints


class Weights(NamedTuple):
    """What each sampled block stands for beyond itself; all 0 where every block was seen."""
    unseen_bytes: Floats
    bytes_variance: Floats
    unseen_blocks: Floats
    blocks_variance: Floats
    bytes: Floats  # s/p
    blocks: Floats  # 1/p


def weights(sizes: Numbers, sample_bytes: int) -> Weights:
    s = np.maximum(sizes, np.uint64(1)).astype(np.float64)
    if not sample_bytes:
        nothing = np.zeros(len(s))
        return Weights(nothing, nothing, nothing, nothing, s, np.ones(len(s)))
    p, q = -np.expm1(-s / sample_bytes), np.exp(-s / sample_bytes)
    unseen, variance = q / p, q / (p * p)
    return Weights(s * unseen, s * s * variance, unseen, variance, s / p, 1 / p)


@dataclass
class Amount:
    """Sums of bytes or of blocks: what was seen, the estimate of the rest, and its uncertainty."""
    seen: Numbers
    unseen: Floats
    variance: Floats
    heaviest: Floats  # the largest weight that ever went into the sum

    def __getitem__(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Amount:
        return Amount(self.seen[rows], self.unseen[rows], self.variance[rows], self.heaviest[rows])

    def with_heaviest(self, heaviest: Floats) -> Amount:
        """Of the whole life of a sum, also of what has left it."""
        return replace(self, heaviest=np.where(self.seen != 0, heaviest, 0.0))

    def rounded(self) -> Numbers:
        return self.seen + _whole(np.floor(self.unseen + 0.5))

    def interval_95(self) -> tuple[Numbers, Numbers]:
        """Low and high ends; equal where nothing was left to chance."""
        certain = self.seen.astype(np.float64)
        low, high = certain.copy(), certain.copy()
        rows = np.flatnonzero((self.unseen > 0) & (self.variance > 0))
        if len(rows):
            seen, unseen, variance = certain[rows], self.unseen[rows], self.variance[rows]
            average = variance / unseen
            heavy = np.maximum(self.heaviest[rows], average)
            low[rows] = seen + _gamma_at(unseen + average / 2, variance + average * average / 2, 0.025)
            high[rows] = seen + _gamma_at(unseen + heavy / 2, variance + heavy * heavy / 2, 0.975)
            # Large blocks: when it is likely that none went unseen, "seen" is inside, which a gamma cannot say.
            p = seen / (seen + unseen)
            with np.errstate(divide="ignore", invalid="ignore"):
                slope = np.where(p < 1, np.log(p) / (1 - p), -1.0)  # its limit: the rest is below rounding
            none_unseen = unseen * unseen / variance * slope
            low[rows] = np.where(none_unseen > math.log(0.025), seen, low[rows])
        exact = low == certain
        return np.where(exact, self.seen, _whole(np.floor(low))), np.where(high == certain, self.seen,
                                                                           _whole(np.ceil(high)))


def _whole(values: Floats) -> Numbers:
    """Saturated: numbers that are made of a hostile trace may be anything."""
    inside = np.where(values >= 0.5, values, 0.0)
    beyond = inside >= 2.0**64
    return np.where(beyond, np.uint64((1 << 64) - 1), np.where(beyond, 0.0, inside).astype(np.uint64))


def _gamma_at(mean: Floats, variance: Floats, probability: float) -> Floats:
    scale = variance / mean
    return scale * gamma_quantile(mean / scale, probability)


def gamma_quantile(shape: Floats, probability: float) -> Floats:
    """Quantile of the gamma distribution with scale 1."""
    z = _normal_quantile(probability)
    root = 1 - 1 / (9 * shape) + z / (3 * np.sqrt(shape))
    guess: Floats = shape * root**3
    rows = np.flatnonzero(~(shape > _LARGE_SHAPE) & np.isfinite(shape))
    if not len(rows):
        return guess
    a = shape[rows]
    low, high = np.zeros(len(rows)), np.maximum(a, 1.0)
    while (short := _gamma_cdf(a, high) < probability).any():
        high[short] *= 2
    x = np.where((guess[rows] > low) & (guess[rows] < high), guess[rows], (low + high) / 2)
    log_gamma = _log_gamma(a)
    for _ in range(200):
        # Newton's step, and half the bracket where that leads out of it.
        miss = _gamma_cdf(a, x) - probability
        low, high = np.where(miss < 0, x, low), np.where(miss < 0, high, x)
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            better = x - miss / np.exp((a - 1) * np.log(x) - x - log_gamma)
        inside = (better >= low) & (better <= high)
        better = np.where(inside, better, (low + high) / 2)
        done = np.abs(better - x) <= 1e-12 * x
        x = better
        if done.all():
            break
    guess[rows] = x
    return guess


def _log_gamma(a: Floats) -> Floats:
    return np.array([math.lgamma(value) for value in a.tolist()])


@cache
def _normal_quantile(probability: float) -> float:
    low, high = -40.0, 40.0
    for _ in range(100):
        middle = (low + high) / 2
        if 0.5 * math.erfc(-middle / math.sqrt(2)) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _gamma_cdf(a: Floats, x: Floats) -> Floats:
    """Lower regularized incomplete gamma function: series for x < a + 1, continued fraction (Lentz) beyond."""
    result = np.zeros(len(a))
    log_gamma = _log_gamma(a)
    for rows, part in ((np.flatnonzero((x > 0) & (x < a + 1)), _series), (np.flatnonzero(x >= a + 1), _fraction)):
        if len(rows):
            front = np.exp(a[rows] * np.log(x[rows]) - x[rows] - log_gamma[rows])
            result[rows] = part(a[rows], x[rows], front)
    return result


def _series(a: Floats, x: Floats, front: Floats) -> Floats:
    term = 1 / a
    total = term.copy()
    i = 1
    while i < 200 + 20 * math.sqrt(a.max()) and (term > total * 1e-15).any():
        term = term * x / (a + i)
        total += term
        i += 1
    return np.minimum(1.0, total * front)


def _fraction(a: Floats, x: Floats, front: Floats) -> Floats:
    tiny = 1e-300
    b = x + 1 - a
    c, d = np.full(len(a), 1 / tiny), 1 / b
    h = d.copy()
    i = 1
    while i < 200 + 20 * math.sqrt(a.max()):
        step = -i * (i - a)
        b = b + 2
        d = step * d + b
        d[np.abs(d) < tiny] = tiny
        c = b + step / c
        c[np.abs(c) < tiny] = tiny
        d = 1 / d
        h *= d * c
        if (np.abs(d * c - 1) < 1e-15).all():
            break
        i += 1
    return 1 - front * h
