"""TSC ticks -> nanoseconds, by interpolation between the clock samples of a trace.

Must not: overflow on samples that a damaged trace invents; results saturate.
"""
from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from .columns import Numbers

_LOW, _HIGH = -(1 << 63), (1 << 63) - 1


class ClockMap:
    """Time 0 is the first sample; samples that would let time stand still or run backwards are left out."""

    def __init__(self, samples: Iterable[tuple[int, int]]):
        self.samples: list[tuple[int, int]] = []  # (tsc, CLOCK_MONOTONIC in ns)
        for tsc, monotonic_ns in sorted(samples):
            if not self.samples or (tsc > self.samples[-1][0] and monotonic_ns > self.samples[-1][1]):
                self.samples.append((tsc, monotonic_ns))

    @property
    def knows_rate(self) -> bool:
        """With one sample or none a tick counts as a nanosecond."""
        return len(self.samples) >= 2

    @property
    def origin_monotonic_ns(self) -> int:
        return self.samples[0][1] if self.samples else 0

    def time_ns(self, tsc: int) -> int:
        if not self.samples:
            return min(tsc, _HIGH)
        if not self.knows_rate:
            return min(max(tsc - self.samples[0][0], _LOW), _HIGH)
        low, high = 0, len(self.samples) - 1
        while high - low > 1:
            middle = (low + high) // 2
            if self.samples[middle][0] <= tsc:
                low = middle
            else:
                high = middle
        return self._between(low, tsc)

    def _between(self, segment: int, tsc: int) -> int:
        (tsc_0, ns_0), (tsc_1, ns_1) = self.samples[segment], self.samples[segment + 1]
        product = (tsc - tsc_0) * (ns_1 - ns_0)
        rate = tsc_1 - tsc_0
        ns = product // rate if product >= 0 else -(-product // rate)
        return min(max(ns_0 - self.origin_monotonic_ns + ns, _LOW), _HIGH)

    def times_ns(self, tsc: Numbers) -> NDArray[np.int64]:
        """The same for an array, in 64 bits where they do and in Python's numbers where they do not."""
        if len(tsc) == 0:
            return np.zeros(0, np.int64)
        result = np.empty(len(tsc), np.int64)
        first = self.samples[0][0] if self.samples else 0
        spread = max(int(tsc.max()), first) - min(int(tsc.min()), first)
        if self.knows_rate and spread < 1 << 62:
            starts = np.array([sample[0] for sample in self.samples], np.uint64)
            segments = np.clip(np.searchsorted(starts, tsc, side="right") - 1, 0, len(self.samples) - 2)
            for segment in np.unique(segments).tolist():
                rows = slice(None) if len(self.samples) == 2 else np.flatnonzero(segments == segment)
                result[rows] = self._segment_ns(segment, tsc[rows])
            return result
        stamps, inverse = np.unique(tsc, return_inverse=True)
        return np.array([self.time_ns(stamp) for stamp in stamps.tolist()], np.int64)[inverse]

    def _segment_ns(self, segment: int, tsc: Numbers) -> NDArray[np.int64]:
        (tsc_0, ns_0), (tsc_1, ns_1) = self.samples[segment], self.samples[segment + 1]
        ticks, rate, length_ns = (tsc - np.uint64(tsc_0)).astype(np.int64), tsc_1 - tsc_0, ns_1 - ns_0
        largest = int(np.abs(ticks).max()) if len(ticks) else 0
        before = ns_0 - self.origin_monotonic_ns
        if largest * length_ns > _HIGH or rate > _HIGH or before + largest * length_ns // rate > _HIGH:
            return np.array([self._between(segment, stamp) for stamp in tsc.tolist()], np.int64)
        product = np.abs(ticks) * np.int64(length_ns) // np.int64(rate)
        return np.where(ticks >= 0, product, -product) + np.int64(before)
