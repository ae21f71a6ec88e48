"""Many traces at once: sums by stack identity, which is the same on every host (stacks.py).

Everything added is a sum over blocks, and estimates add with their variances, so the sum over a thousand sampled
processes is sharper than each of them. Peaks are not added: processes do not peak together.

Must not: keep traces; each is read, summed up and let go.
"""
from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from .estimator import Amount
from .reader import number_in
from .sections import TraceError
from .table import Codes, Column, Table
from .trace import Trace

_METRICS = ("allocated", "live")
_UNITS = ("bytes", "blocks")


@dataclass
class _Site:
    leaf: str
    frames: list[str]
    processes: int = 0
    # metric and unit -> seen, unseen, variance, heaviest
    amounts: dict[tuple[str, str], list[float]] = field(default_factory=dict)


class Fleet:
    """`add` traces, then ask for `sites` and `processes`."""

    def __init__(self, paths: Iterable[str | Path] = ()):
        self._sites: dict[int, _Site] = {}
        self._processes: list[dict[str, object]] = []
        self.unreadable: dict[str, str] = {}  # path -> why
        for path in paths:
            try:
                self.add(Trace.open(path))
            except TraceError as error:
                self.unreadable[str(path)] = str(error)

    def add(self, trace: Trace) -> None:
        nodes, groups = np.unique(trace.model.blocks.node, return_inverse=True)
        metrics = trace.model.metrics(groups.astype(np.intp), len(nodes))
        here: set[int] = set()
        for row, (node, stack) in enumerate(zip(nodes.tolist(), trace.frames.stack_id[nodes].tolist(), strict=True)):
            site = self._sites.get(stack)
            if site is None:
                frames = [trace.frames.label(frame) for frame in trace.file.stack_of(node)]
                site = self._sites[stack] = _Site(trace.frames.label(node), frames)
            if stack not in here:
                here.add(stack)
                site.processes += 1
            for metric in _METRICS:
                for unit in _UNITS:
                    _add(site.amounts.setdefault((metric, unit), [0, 0.0, 0.0, 0.0]),
                         getattr(getattr(metrics, metric), unit), row)
        totals = trace.totals()
        self._processes.append({
            "trace": trace.file.name, "pid": number_in(trace.info, "pid"), "mode": trace.mode,
            "command": _command(trace),
            **{f"{metric}_{unit}": totals["live_at_end" if metric == "live" else metric][unit]
               for metric in (*_METRICS, "peak") for unit in _UNITS},
            "problems": len(trace.problems())})

    def sites(self) -> Table:
        """One row for each stack that any process allocated from, the largest first."""
        ids = sorted(self._sites, key=lambda stack: -sum(self._sites[stack].amounts["allocated", "bytes"][:2]))
        sites = [self._sites[stack] for stack in ids]
        columns: dict[str, Column | Codes] = {
            "stack_id": np.array(ids, np.uint64), "leaf": [site.leaf for site in sites],
            "frames": [";".join(reversed(site.frames)) for site in sites],
            "processes": np.array([site.processes for site in sites], np.int64)}
        for metric in _METRICS:
            for unit in _UNITS:
                rows = [site.amounts[metric, unit] for site in sites]
                amount = Amount(np.array([int(row[0]) for row in rows], np.uint64),
                                *(np.array([row[i] for row in rows]) for i in (1, 2, 3)))
                columns[f"{metric}_{unit}"] = amount.rounded()
                columns[f"{metric}_{unit}_low"], columns[f"{metric}_{unit}_high"] = amount.interval_95()
        return Table("fleet_sites", columns)

    def processes(self) -> Table:
        """One row a trace."""
        names = self._processes[0].keys() if self._processes else ()
        return Table("fleet_processes", {name: [process[name] for process in self._processes] for name in names})


def _command(trace: Trace) -> str:
    words = trace.info.get("command")
    return " ".join(map(str, words)) if isinstance(words, list) else ""


def _add(sums: list[float], amount: Amount, row: int) -> None:
    sums[0] += int(amount.seen[row])
    sums[1] += float(amount.unseen[row])
    sums[2] += float(amount.variance[row])
    sums[3] = max(sums[3], float(amount.heaviest[row]))
