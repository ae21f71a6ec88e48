"""The numbers of a trace, as `tidemark report` has them: totals, the peak and who held it, by any grouping.

docs/metrics.md says what each number means. Tests hold the two implementations together. Must not: symbolize, print.
"""
from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .blocks import NEVER, Blocks, Pairing, pair
from .columns import Numbers
from .estimator import Amount, Floats, Weights, weights
from .events import ALLOC, REALLOC
from .reader import TraceFile, number_in

_FIRST_SIZE_BUCKET, _SIZE_BUCKETS = 4, 65


@dataclass
class Usage:
    """Bytes and blocks of the same groups."""
    bytes: Amount
    blocks: Amount

    def __getitem__(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Usage:
        return Usage(self.bytes[rows], self.blocks[rows])


@dataclass
class Metrics:
    """The four sums that every grouping has."""
    allocated: Usage
    peak: Usage
    live: Usage
    temporary: Usage


class Model:
    """Computes when asked and keeps what it has computed."""

    def __init__(self, file: TraceFile):
        self.file = file

    @cached_property
    def pairing(self) -> Pairing:
        return pair(self.file.events, self.file.event_threads, self.file.clock)

    @property
    def blocks(self) -> Blocks:
        return self.pairing.blocks

    @cached_property
    def weights(self) -> Weights:
        return weights(self.blocks.size, self.file.sample_bytes)

    # --- Live bytes over time ---------------------------------------------------------------------------------------

    @cached_property
    def live_bytes(self) -> Floats | Numbers:
        """After every event: exact in full mode, an estimate in sampled mode."""
        events = len(self.file.events)
        dead = self.blocks.died != NEVER
        if self.file.mode == "full":
            change = np.zeros(events, np.uint64)
            change[self.blocks.born] = self.blocks.size
            np.subtract.at(change, self.blocks.died[dead], self.blocks.size[dead])
            return np.cumsum(change, dtype=np.uint64)
        return self._live_estimates(events, dead)

    def _live_estimates(self, events: int, dead: NDArray[np.bool_]) -> Floats:
        """One sum after the other: where it comes back to the same height, rounding must not decide otherwise than it
        does in the tools. Sampled traces are short."""
        changes: list[list[int]] = [[] for _ in range(events)]
        for block, event in zip(np.flatnonzero(dead).tolist(), self.blocks.died[dead].tolist(), strict=True):
            changes[event].append(~block)
        for block, event in enumerate(self.blocks.born.tolist()):
            changes[event].append(block)
        sizes, unseen = self.blocks.size.tolist(), self.weights.unseen_bytes.tolist()
        live = np.zeros(events)
        seen_sum = alive = 0
        unseen_sum = 0.0
        for event, blocks in enumerate(changes):
            for block in blocks:
                if block >= 0:
                    seen_sum, alive, unseen_sum = seen_sum + sizes[block], alive + 1, unseen_sum + unseen[block]
                else:
                    seen_sum, alive = seen_sum - sizes[~block], alive - 1
                    unseen_sum = max(0.0, unseen_sum - unseen[~block]) if alive else 0.0
            live[event] = float(seen_sum) + unseen_sum
        return live

    @cached_property
    def peak_event(self) -> int:
        """The event after which most bytes were live, the last one if there are several; NEVER without any block."""
        if not len(self.blocks):
            return NEVER
        heights = self.live_bytes[self.blocks.born].astype(np.float64)
        return int(self.blocks.born[len(heights) - 1 - int(np.argmax(heights[::-1]))])

    @cached_property
    def at_peak(self) -> NDArray[np.bool_]:
        """Which blocks were live then."""
        died = np.where(self.blocks.died == NEVER, np.iinfo(np.int64).max, self.blocks.died)
        return (self.blocks.born <= self.peak_event) & (died > self.peak_event)

    # --- Sums -------------------------------------------------------------------------------------------------------

    def usage(self, groups: NDArray[np.intp], count: int, chosen: NDArray[np.bool_] | None = None) -> Usage:
        """Sums over blocks by group, of all or of the chosen ones."""
        rows = np.arange(len(self.blocks)) if chosen is None else np.flatnonzero(chosen)
        group, weight = groups[rows], self.weights
        seen_bytes = np.zeros(count, np.uint64)
        np.add.at(seen_bytes, group, self.blocks.size[rows])
        seen_blocks = np.bincount(group, minlength=count).astype(np.uint64)

        def summed(values: Floats) -> Floats:
            return np.bincount(group, weights=values[rows], minlength=count).astype(np.float64)

        none = np.zeros(count)
        if not self.file.sample_bytes:
            return Usage(Amount(seen_bytes, none, none, none), Amount(seen_blocks, none, none, none))
        heaviest_bytes, heaviest_blocks = np.zeros(count), np.zeros(count)
        np.maximum.at(heaviest_bytes, groups, weight.bytes)
        np.maximum.at(heaviest_blocks, groups, weight.blocks)
        return Usage(Amount(seen_bytes, summed(weight.unseen_bytes), summed(weight.bytes_variance), heaviest_bytes),
                     Amount(seen_blocks, summed(weight.unseen_blocks), summed(weight.blocks_variance),
                            heaviest_blocks))

    def metrics(self, groups: NDArray[np.intp], count: int) -> Metrics:
        usages = [self.usage(groups, count, chosen)
                  for chosen in (None, self.at_peak, self.blocks.alive, self.blocks.temporary)]
        for usage in usages:
            usage.bytes = usage.bytes.with_heaviest(usages[0].bytes.heaviest)
            usage.blocks = usage.blocks.with_heaviest(usages[0].blocks.heaviest)
        return Metrics(*usages)

    @cached_property
    def total(self) -> Metrics:
        return self.metrics(np.zeros(len(self.blocks), np.intp), 1)

    def size_buckets(self) -> NDArray[np.intp]:
        """Bucket of every block: i holds (2^(i-1), 2^i] bytes, and the first all up to 16."""
        bucket = np.zeros(len(self.blocks), np.intp)
        rest = self.blocks.size - np.uint64(1)
        for shift in (32, 16, 8, 4, 2, 1):
            more = rest >= np.uint64(1 << shift)
            bucket[more] += shift
            rest[more] >>= np.uint64(shift)
        bucket += rest.astype(np.intp)
        return np.maximum(bucket, _FIRST_SIZE_BUCKET)

    # --- The document -----------------------------------------------------------------------------------------------

    def totals(self) -> dict[str, Any]:
        """The `totals` of `tidemark report --json`, number for number."""
        file, sampled = self.file, self.file.mode == "sampled"
        peak = usage_json(self.total.peak, 0, sampled)
        events = file.events
        first = int(events.tsc[0]) if len(events) else 0
        peak["time_ns"] = file.clock.time_ns(int(events.tsc[self.peak_event]) if self.peak_event != NEVER else first
                                             ) if len(events) else 0
        exact = number_in(file.end or {}, "allocated_bytes")
        return {
            "allocated": usage_json(self.total.allocated, 0, sampled),
            "allocated_bytes_exact": exact if sampled and exact else None,
            "peak": peak,
            "live_at_end": usage_json(self.total.live, 0, sampled),
            "temporary": None if sampled else usage_json(self.total.temporary, 0, False),
            "realloc": self._realloc_totals(),
            "zero_sized_blocks": self.pairing.zero_sized,
            "releases_of_unknown_blocks": self.pairing.unknown_releases,
            "releases_implied": int(np.count_nonzero(self.blocks.implied)),
            "blocks_without_stack": int(np.count_nonzero(self.blocks.node == 0)),
            "unusable_events": self.pairing.unusable,
        }

    def _realloc_totals(self) -> dict[str, dict[str, int]]:
        events = self.file.events
        released, block = self.pairing.releases, self.pairing.released_block
        rows = (events.kind[released] == REALLOC) & (events.address[released] != 0)
        released, block = released[rows], block[rows]
        old, new = self.blocks.size[block], np.maximum(events.size[released], np.uint64(1))
        grown, shrunk = new > old, new < old
        moved = events.address[released] != events.old_address[released]

        def part(chosen: NDArray[np.bool_], amounts: Numbers) -> dict[str, int]:
            return {"blocks": int(np.count_nonzero(chosen)), "bytes": int(amounts[chosen].sum(dtype=np.uint64))}

        return {"grown": part(grown, new - old), "shrunk": part(shrunk, old - new),
                "same_size": {"blocks": int(np.count_nonzero(new == old))}, "moved": part(moved, np.minimum(old, new))}

    def recorded(self) -> dict[str, int]:
        """Events in the trace, by kind."""
        kinds = np.bincount(self.file.events.kind, minlength=REALLOC + 1).tolist()
        return dict(zip(("alloc", "free", "realloc"), kinds[ALLOC:REALLOC + 1], strict=True))


def usage_json(usage: Usage, row: int, sampled: bool) -> dict[str, Any]:
    one = usage[np.array([row])]
    document: dict[str, Any] = {"bytes": int(one.bytes.rounded()[0]), "blocks": int(one.blocks.rounded()[0])}
    if sampled:
        for name, amount in (("bytes_95", one.bytes), ("blocks_95", one.blocks)):
            low, high = amount.interval_95()
            document[name] = [int(low[0]), int(high[0])]
        document["samples"] = int(one.blocks.seen[0])
    return document
