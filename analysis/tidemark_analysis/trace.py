"""A trace as tables: the face of the package. See docs/analysis.md for every column.

Must not: compute what reader.py, model.py and stacks.py do; this file puts their arrays side by side.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .blocks import NEVER
from .estimator import Floats, weights
from .events import ALLOC, API_NAMES, KIND_NAMES, REALLOC
from .leaks import CLASS_NAMES, METHOD_NAMES, OUTCOME_NAMES, ROOT_NAMES, TRIGGER_NAMES, LeakCheck
from .model import Metrics, Model, Usage
from .reader import MEMORY_COLUMNS, TraceFile
from .stacks import NO_MODULE, StackFrames
from .survival import Survival, kaplan_meier
from .table import Codes, Column, Table

_KIND_CODES = np.zeros(max(KIND_NAMES) + 1, np.uint8)
_KIND_CODES[list(KIND_NAMES)] = np.arange(len(KIND_NAMES))


class Trace:
    """One recorded process image. Nothing but the file is read before it is asked for."""

    def __init__(self, file: TraceFile):
        self.file = file
        self.model = Model(file)

    @classmethod
    def open(cls, path: str | Path) -> Trace:
        """Raises TraceError when nothing can be told of the file; what is merely damaged is read as far as it goes."""
        return cls(TraceFile.open(path))

    def __repr__(self) -> str:
        return f"<Trace {self.file.name}: {self.mode}, pid {self.info.get('pid', '?')}>"

    @property
    def info(self) -> dict[str, Any]:
        return self.file.info

    @property
    def end(self) -> dict[str, Any] | None:
        """None when the recording was interrupted."""
        return self.file.end

    @property
    def mode(self) -> str:
        return self.file.mode

    @property
    def sample_bytes(self) -> int:
        return self.file.sample_bytes

    def problems(self) -> list[str]:
        """What is missing or damaged, a sentence each; empty for a whole trace."""
        assert self.file.events is not None  # decoding them may find more
        return list(self.file.problems)

    def totals(self) -> dict[str, Any]:
        """`totals` of `tidemark report --json`."""
        return self.model.totals()

    @cached_property
    def frames(self) -> StackFrames:
        return StackFrames(self.file.nodes, self.file.modules)

    # --- Tables -----------------------------------------------------------------------------------------------------

    def _table(self, name: str, columns: dict[str, Column | Codes]) -> Table:
        return Table(name, columns, {"tidemark.mode": self.mode, "tidemark.sample_bytes": str(self.sample_bytes)})

    def events(self) -> Table:
        """One row an event, in order of time."""
        events = self.file.events
        return self._table("events", {
            "time_ns": self.file.clock.times_ns(events.tsc), "thread": self.file.event_threads,
            "kind": Codes(_KIND_CODES[events.kind], list(KIND_NAMES.values())),
            "api": Codes(events.api, list(API_NAMES)), "size": events.size,
            "node": events.node, "address": events.address, "old_address": events.old_address})

    def blocks(self) -> Table:
        """One row a block, in the order in which they were obtained; the estimate of sampled traces as weights."""
        blocks, weight = self.model.blocks, self.model.weights
        died = blocks.died
        alive = died == NEVER
        times = self.file.clock.times_ns(self.file.events.tsc)
        allocated = self.allocated_clock()
        end = np.where(alive, 0, died)
        return self._table("blocks", {
            "born_ns": times[blocks.born], "died_ns": np.ma.array(times[end], mask=alive),
            "lifetime_ns": np.ma.array(times[end] - times[blocks.born], mask=alive),
            "lifetime_bytes": np.ma.array(allocated[end] - allocated[blocks.born], mask=alive),
            "size": blocks.size, "node": blocks.node, "thread": blocks.thread,
            "freed_by": np.ma.array(self.file.event_threads[end], mask=alive | blocks.implied),
            "implied": blocks.implied, "temporary": blocks.temporary, "at_peak": self.model.at_peak,
            "weight_bytes": weight.bytes, "weight_blocks": weight.blocks})

    def sites(self) -> Table:
        """One row for each stack that allocated."""
        nodes, groups = np.unique(self.model.blocks.node, return_inverse=True)
        metrics = self.model.metrics(groups.astype(np.intp), len(nodes))
        return self._table("sites", {
            "node": nodes, "stack_id": self.frames.stack_id[nodes],
            "leaf": [self.frames.label(node) for node in nodes.tolist()], **self._metric_columns(metrics)})

    def by_thread(self) -> Table:
        """One row for each thread that allocated."""
        serials, groups = np.unique(self.model.blocks.thread, return_inverse=True)
        return self._table("by_thread", {
            "serial": serials, **self._metric_columns(self.model.metrics(groups.astype(np.intp), len(serials)))})

    def by_size(self) -> Table:
        """One row for each class of sizes, (low - 1, high]."""
        buckets, groups = np.unique(self.model.size_buckets(), return_inverse=True)
        low = [1 if bucket <= 4 else (1 << (bucket - 1)) + 1 for bucket in buckets.tolist()]
        high = [min(1 << bucket, (1 << 64) - 1) for bucket in buckets.tolist()]
        return self._table("by_size", {
            "low": np.array(low, np.uint64), "high": np.array(high, np.uint64),
            **self._metric_columns(self.model.metrics(groups.astype(np.intp), len(buckets)))})

    def _metric_columns(self, metrics: Metrics) -> dict[str, Column | Codes]:
        columns: dict[str, Column | Codes] = {}
        for name, usage in (("allocated", metrics.allocated), ("peak", metrics.peak), ("live", metrics.live)):
            columns.update(self._usage_columns(name, usage))
        if self.mode == "full":
            columns["temporary_bytes"] = metrics.temporary.bytes.seen
            columns["temporary_blocks"] = metrics.temporary.blocks.seen
        return columns

    def _usage_columns(self, name: str, usage: Usage) -> dict[str, Column | Codes]:
        columns: dict[str, Column | Codes] = {}
        for unit, amount in (("bytes", usage.bytes), ("blocks", usage.blocks)):
            columns[f"{name}_{unit}"] = amount.rounded()
            if self.mode == "sampled":
                columns[f"{name}_{unit}_low"], columns[f"{name}_{unit}_high"] = amount.interval_95()
        if self.mode == "sampled":
            columns[f"{name}_samples"] = usage.blocks.seen
        return columns

    def stacks(self) -> Table:
        """One row a stack node: a frame, and by its parents the whole stack."""
        frames, nodes = self.frames, self.file.nodes
        rows = np.flatnonzero(nodes.defined)
        module = frames.module[rows]
        return self._table("stacks", {
            "node": rows.astype(np.uint32), "parent": nodes.parent[rows], "depth": frames.depth[rows],
            "stack_id": frames.stack_id[rows], "module": np.ma.array(module, mask=module == NO_MODULE),
            "offset": frames.offset[rows], "address": nodes.ip[rows], "flags": nodes.flags[rows]})

    def modules(self) -> Table:
        modules = self.file.modules
        return self._table("modules", {
            "module": np.arange(len(modules), dtype=np.int32),
            "path": [module.path.decode("utf-8", "replace") for module in modules],
            "build_id": [module.build_id.hex() for module in modules],
            "start": np.array([module.start for module in modules], np.uint64),
            "end": np.array([module.end for module in modules], np.uint64),
            "load_bias": np.array([module.load_bias for module in modules], np.uint64)})

    def threads(self) -> Table:
        threads = self.file.threads
        return self._table("threads", {
            "serial": np.array([thread.serial for thread in threads], np.uint64),
            "tid": np.array([thread.tid for thread in threads], np.uint64),
            "first_ns": np.array([self.file.clock.time_ns(thread.first_tsc) for thread in threads], np.int64),
            "name": [thread.name.decode("utf-8", "replace") for thread in threads]})

    def memory(self) -> Table:
        """What the kernel said of the process, sampled by the collector."""
        samples = self.file.memory
        columns: dict[str, Column | Codes] = {
            "time_ns": (samples[:, 0] - np.uint64(self.file.clock.origin_monotonic_ns)).astype(np.int64)}
        columns.update({name: samples[:, i] for i, name in enumerate(MEMORY_COLUMNS) if i > 0})
        return self._table("memory", columns)

    def leak_checks(self) -> Table:
        """One row for each look for leaks."""
        checks = self.file.leak_checks

        def numbers(name: str) -> NDArray[np.uint64]:
            return np.array([check.header[name] for check in checks], np.uint64)

        columns: dict[str, Column | Codes] = {
            "check": numbers("check"), "whole": np.array([check.whole for check in checks], bool),
            "trigger": _named(numbers("trigger"), TRIGGER_NAMES), "method": _named(numbers("method"), METHOD_NAMES),
            "outcome": _named(numbers("outcome"), OUTCOME_NAMES),
            "time_ns": self.file.clock.times_ns(numbers("tsc"))}
        for name in ("flags", "pause_us", "scan_us", "threads", "threads_not_stopped", "root_bytes", "live_blocks",
                     "live_bytes"):
            columns[name] = numbers(name)
        return self._table("leak_checks", columns)

    def leaks(self) -> Table:
        """What the checks found: a row for each block that is lost, one for each group of blocks that are not."""
        checks = self.file.leak_checks
        rows = [check.rows for check in checks]

        def joined(name: str, kind: type) -> NDArray[Any]:
            return np.concatenate([getattr(row, name) for row in rows]) if rows else np.zeros(0, kind)

        number = np.repeat(np.array([check.number for check in checks], np.uint64), [len(row.node) for row in rows])
        node = np.concatenate([self._leak_nodes(check) for check in checks]) if checks else np.zeros(0, np.uint32)
        size, blocks = joined("bytes", np.uint64), joined("blocks", np.uint64)
        weight = weights(size // np.maximum(blocks, np.uint64(1)), self.sample_bytes)
        share = blocks.astype(np.float64)
        return self._table("leaks", {
            "check": number, "class": _named(joined("leak_class", np.uint8), CLASS_NAMES),
            "root": _named(joined("root", np.uint8), ROOT_NAMES), "node": node,
            "stack_id": self.frames.stack_id[node], "blocks": blocks, "bytes": size,
            "address": joined("address", np.uint64), "leader": joined("leader", np.uint64),
            "flags": joined("flags", np.uint64),
            "weight_bytes": weight.bytes * share if self.sample_bytes else size.astype(np.float64),
            "weight_blocks": weight.blocks * share})

    def _leak_nodes(self, check: LeakCheck) -> NDArray[np.uint32]:
        """The stack of every row. Where the process did not know it, the last allocation of the address tells."""
        nodes = check.rows.node.copy()
        unknown = np.flatnonzero((nodes == 0) & (check.rows.address != 0))
        if len(unknown):
            events = self.file.events
            before = events.tsc < np.uint64(check.header["tsc"])
            obtains = before & ((events.kind == ALLOC) | (events.kind == REALLOC))
            candidates = np.flatnonzero(obtains & np.isin(events.address, check.rows.address[unknown]))
            last = dict(zip(events.address[candidates].tolist(), events.node[candidates].tolist(), strict=True))
            nodes[unknown] = [last.get(address, 0) for address in check.rows.address[unknown].tolist()]
        return nodes

    # --- Over time --------------------------------------------------------------------------------------------------

    def allocated_clock(self) -> Floats:
        """Bytes allocated until after each event: the clock that does not depend on the machine's speed."""
        blocks = self.model.blocks
        steps = np.zeros(len(self.file.events))
        steps[blocks.born] = self.model.weights.bytes if self.mode == "sampled" else blocks.size
        return np.cumsum(steps)

    def timeline(self, points: int = 500) -> Table:
        """`points` equal spans of time: live bytes at the end and at most, what was allocated and freed meanwhile."""
        blocks, events = self.model.blocks, self.file.events
        times = self.file.clock.times_ns(events.tsc)
        # Stamps of one thread may step back by a little: an event belongs where the order puts it.
        times = np.maximum.accumulate(times) if len(times) else times
        first, last = (int(times[0]), int(times[-1])) if len(times) else (0, 0)
        edges = np.linspace(first, max(last, first + 1), points + 1)
        ends = np.searchsorted(times, edges[1:], side="right")
        begins = np.concatenate((np.zeros(1, np.intp), ends[:-1]))
        live = self.model.live_bytes.astype(np.float64)
        at_end = np.where(ends > 0, live[np.maximum(ends - 1, 0)], 0.0) if len(live) else np.zeros(points)
        highest = np.array([live[begin:end].max() if end > begin else at_end[row]
                            for row, (begin, end) in enumerate(zip(begins.tolist(), ends.tolist(), strict=True))])
        dead = np.flatnonzero(blocks.died != NEVER)
        weight = self.model.weights.bytes
        return self._table("timeline", {
            "time_ns": edges[1:].astype(np.int64), "live_bytes": at_end, "highest_live_bytes": highest,
            "allocated_bytes": _by_span(ends, blocks.born, weight),
            "freed_bytes": _by_span(ends, blocks.died[dead], weight[dead])})

    def survival(self, clock: str = "time", weighted_by: str = "bytes",
                 chosen: Callable[[Table], NDArray[np.bool_]] | None = None) -> Survival:
        """Kaplan-Meier over all blocks, or over those for which `chosen`, given `blocks()`, is True."""
        if clock not in ("time", "bytes") or weighted_by not in ("bytes", "blocks"):
            raise ValueError("clock is 'time' or 'bytes', weighted_by is 'bytes' or 'blocks'")
        blocks = self.model.blocks
        position = (self.file.clock.times_ns(self.file.events.tsc).astype(np.float64) if clock == "time"
                    else self.allocated_clock())
        rows = np.flatnonzero(chosen(self.blocks())) if chosen else np.arange(len(blocks))
        born, died = blocks.born[rows], blocks.died[rows]
        end = np.where(died == NEVER, len(position) - 1, died)
        ages = np.maximum(position[end] - position[born], 0.0)
        weight = self.model.weights.bytes if weighted_by == "bytes" else self.model.weights.blocks
        return kaplan_meier(ages, (died != NEVER) & ~blocks.implied[rows], weight[rows], clock, weighted_by)

    # --- Out --------------------------------------------------------------------------------------------------------

    TABLES = ("events", "blocks", "sites", "by_thread", "by_size", "stacks", "modules", "threads", "memory", "timeline",
              "leak_checks", "leaks")

    def write_parquet(self, folder: str | Path, tables: tuple[str, ...] = TABLES) -> list[Path]:
        """A file for each table; the folder is made when it is not there."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        written = []
        for name in tables:
            if name not in self.TABLES:
                raise ValueError(f"there is no table '{name}'; there are {', '.join(self.TABLES)}")
            written.append(folder / f"{name}.parquet")
            getattr(self, name)().to_parquet(written[-1])
        return written


def _named(numbers: NDArray[Any], names: tuple[str, ...]) -> Codes:
    """Later versions may know more numbers than there are names."""
    return Codes(np.minimum(numbers, len(names)).astype(np.uint8), [*names, "other"])


def _by_span(ends: NDArray[np.intp], events: NDArray[np.int64], amounts: Floats) -> Floats:
    """Sums of amounts by the span in which their event is."""
    spans = np.searchsorted(ends, events, side="right")
    sums = np.bincount(np.minimum(spans, len(ends) - 1), weights=amounts, minlength=len(ends))
    return sums.astype(np.float64)
