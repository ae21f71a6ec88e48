"""Reads a trace file: everything but what is computed from it.

Written from docs/trace-format.md alone. Any prefix of a trace and any damaged byte yields the sections that are whole,
and `problems` says what is missing. Must not: compute statistics, know pandas or pyarrow.
"""
from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import sections
from .clock import ClockMap
from .columns import Numbers, TableView, UnsoundError, zigzag
from .events import ARRAYS, SIDES, EventArrays, EventsKey, decode, header_of
from .leaks import LeakParts
from .merge import merged_order
from .sections import Section, TraceError

_MAX_NODE = (1 << 28) - 1
_MAX_DEPTH = 64
_MODES = ("sampled", "full")
_MAX_PROBLEMS = 200


@dataclass(frozen=True)
class Module:
    start: int
    end: int
    load_bias: int
    first_tsc: int
    build_id: bytes
    path: bytes
    first_node: int = 0


@dataclass(frozen=True)
class Thread:
    serial: int
    tid: int
    first_tsc: int
    name: bytes


@dataclass
class StackNodes:
    """The stack tree, by node number; node 0 is the root and holes are its children."""
    parent: NDArray[np.uint32]
    ip: Numbers
    flags: Numbers
    defined: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.parent)


MEMORY_COLUMNS = ("monotonic_ns", "rss", "pss", "anonymous", "file", "shmem", "swap", "virtual_size")


class TraceFile:
    """The parts of one trace. `events` is decoded when it is first asked for, and may add to `problems`."""

    def __init__(self, data: bytes, name: str = "trace"):
        self.name = name
        self._data = data
        scan = sections.scan(data)
        if not scan.sections:
            raise TraceError("the trace has no whole section: nothing can be told")
        self.problems: list[str] = []
        self._more_problems = 0
        for problem in scan.problems(self._index(scan)):
            self._complain(problem)
        self.info: dict[str, Any] = {}
        self._has_info = False
        self._impossible_parents = 0
        self._leaks = LeakParts()
        self.end: dict[str, Any] | None = None
        self.modules: list[Module] = []
        self._threads: dict[int, Thread] = {}
        self._clock: list[tuple[int, int]] = []
        self._memory: list[Numbers] = []
        self._node_rows: list[tuple[Numbers, Numbers, Numbers, Numbers]] = []
        self._event_sections: list[tuple[EventsKey, Section]] = []
        self._events: EventArrays | None = None
        self._event_threads: NDArray[np.uint32] | None = None
        self._limit = 65_536 + 64 * len(data)
        for section in scan.sections:
            self._read(section)
        self.nodes = self._make_nodes()
        self.clock = self._make_clock()
        self.leak_checks = self._leaks.checks()
        self._stackless_leaks = 0
        for check in self.leak_checks:
            lost = ~self._are_defined(check.rows.node)
            self._stackless_leaks += int(np.count_nonzero(lost))
            check.rows.node[lost] = 0
        self._complain_about_the_end(scan)

    @classmethod
    def open(cls, path: str | Path) -> TraceFile:
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise TraceError(f"{path}: cannot be read: {error.strerror}") from error
        try:
            return cls(data, str(path))
        except TraceError as error:
            raise TraceError(f"{path}: {error}") from None

    # --- What is there ----------------------------------------------------------------------------------------------

    @property
    def mode(self) -> str:
        """"sampled" or "full". A trace that does not say has a mean distance between samples, or not."""
        mode = self.info.get("mode")
        if mode not in _MODES:
            mode = "sampled" if number_in(self.info, "sample_bytes") else "full"
        return str(mode)

    @property
    def sample_bytes(self) -> int:
        return number_in(self.info, "sample_bytes") if self.mode == "sampled" else 0

    @property
    def threads(self) -> list[Thread]:
        return [self._threads[serial] for serial in sorted(self._threads)]

    @property
    def memory(self) -> NDArray[np.uint64]:
        """One row a sample, by time; the columns are MEMORY_COLUMNS."""
        if not self._memory:
            return np.zeros((0, len(MEMORY_COLUMNS)), np.uint64)
        rows = np.concatenate(self._memory)
        return rows[np.argsort(rows[:, 0], kind="stable")]

    @property
    def events(self) -> EventArrays:
        """All events, merged over threads by time, each thread in its own order."""
        if self._events is None:
            self._events, self._event_threads = self._read_events()
        return self._events

    @property
    def event_threads(self) -> NDArray[np.uint32]:
        """The thread serial of every event."""
        assert self.events is not None and self._event_threads is not None
        return self._event_threads

    # --- Sections ---------------------------------------------------------------------------------------------------

    def _complain(self, problem: str) -> None:
        if len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(problem)
            return
        self._more_problems += 1
        rest = f"and {sections.counted(self._more_problems, 'further problem')}"
        self.problems[_MAX_PROBLEMS:] = [rest]

    def _read(self, section: Section) -> None:
        readers: dict[int, Callable[[bytes], object]] = {
            sections.INFO: self._read_info, sections.END: self._read_end, sections.MODULES: self._read_modules,
            sections.STACKS: self._read_stacks, sections.THREADS: self._read_threads,
            sections.CLOCK: self._read_clock, sections.MEMORY: self._read_memory, sections.INDEX: _index_entries,
            sections.LEAKS: lambda payload: self._leaks.add(self._rows(payload)),
            sections.EVENTS: lambda payload: self._read_events_header(section, payload)}
        reader = readers.get(section.type)
        if reader is None:
            return
        payload = sections.payload_of(self._data, section)
        if payload is None:
            self._complain(f"{section} does not decode: skipped")
            return
        try:
            reader(payload)
        except UnsoundError as error:
            self._complain(f"{section} is not sound: {error}")

    def _read_info(self, payload: bytes) -> None:
        if not self._has_info:
            self.info, self._has_info = _json_object(payload), True

    def _read_end(self, payload: bytes) -> None:
        if self.end is None:
            self.end = _json_object(payload)

    def _rows(self, payload: bytes) -> TableView:
        table = TableView(payload)
        self._limit -= table.rows
        if self._limit < 0:
            raise UnsoundError("more rows than a file of this size may have")
        return table

    def _read_modules(self, payload: bytes) -> None:
        table = self._rows(payload)
        start, length = table.numbers(1, delta=True), table.numbers(2)
        bias = start - zigzag(table.numbers(3))
        columns = (start.tolist(), (start + length).tolist(), bias.tolist(), table.numbers(4, delta=True).tolist(),
                   table.texts(5), table.texts(6), table.numbers(7, optional=True).tolist())
        self.modules += [Module(*row) for row in zip(*columns, strict=True)]

    def _read_stacks(self, payload: bytes) -> None:
        table = self._rows(payload)
        node = table.numbers(1, delta=True)
        parent = node - zigzag(table.numbers(2))
        ip, flags = table.numbers(3, delta=True), table.numbers(4, optional=True)
        if ((node == 0) | (node > _MAX_NODE) | (node > 65_536 + 64 * len(self._data))).any():
            raise UnsoundError("a stack node's number is out of range")
        self._impossible_parents += int(np.count_nonzero(parent >= node))
        parent[parent >= node] = 0
        self._node_rows.append((node, parent, ip, flags))

    def _read_threads(self, payload: bytes) -> None:
        table = self._rows(payload)
        columns = (table.numbers(1, delta=True).tolist(), table.numbers(2, delta=True).tolist(),
                   table.numbers(3, delta=True).tolist(), table.texts(4))
        for serial, tid, first_tsc, name in zip(*columns, strict=True):
            self._threads[serial] = Thread(serial, tid, first_tsc, name)

    def _read_clock(self, payload: bytes) -> None:
        table = self._rows(payload)
        tsc, monotonic_ns, _ = (table.numbers(column, delta=True).tolist() for column in (1, 2, 3))
        self._clock += zip(tsc, monotonic_ns, strict=True)

    def _read_memory(self, payload: bytes) -> None:
        table = self._rows(payload)
        self._memory.append(np.stack([table.numbers(column, delta=True, optional=column > 1)
                                      for column in range(1, len(MEMORY_COLUMNS) + 1)], axis=1))

    def _read_events_header(self, section: Section, payload: bytes) -> None:
        key = header_of(TableView(payload)).key
        if key.thread != section.subject:
            raise UnsoundError("the thread in its header column is not that of its section header")
        self._event_sections.append((key, section))

    def _make_nodes(self) -> StackNodes:
        count = 1 + max((int(node.max()) for node, *_ in self._node_rows if len(node)), default=0)
        nodes = StackNodes(np.zeros(count, np.uint32), np.zeros(count, np.uint64), np.zeros(count, np.uint64),
                           np.zeros(count, bool))
        nodes.defined[0] = True
        for node, parent, ip, flags in self._node_rows:
            at = node.astype(np.intp)
            nodes.parent[at], nodes.ip[at], nodes.flags[at], nodes.defined[at] = parent, ip, flags, True
        self._node_rows = []
        return nodes

    def _are_defined(self, nodes: NDArray[np.uint32]) -> NDArray[np.bool_]:
        defined: NDArray[np.bool_] = nodes < len(self.nodes)
        defined[defined] = self.nodes.defined[nodes[defined]]
        return defined

    def _make_clock(self) -> ClockMap:
        clock = ClockMap(self._clock)
        if not clock.knows_rate:
            ends = [(number_in(self.info, "start_tsc"), number_in(self.info, "start_monotonic_ns")),
                    (number_in(self.end or {}, "end_tsc"), number_in(self.end or {}, "end_monotonic_ns"))]
            clock = ClockMap(self._clock + [sample for sample in ends if all(sample)])
        return clock

    def _index(self, scan: sections.Scan) -> dict[int, tuple[int, int]]:
        """What the INDEX says of sections, by offset. Only to word problems: damage takes headers along."""
        index: dict[int, tuple[int, int]] = {}
        for section in scan.sections:
            payload = sections.payload_of(self._data, section) if section.type == sections.INDEX else None
            if payload is not None:
                with contextlib.suppress(UnsoundError):  # _read says so
                    index.update(_index_entries(payload))
        return index

    def _complain_about_the_end(self, scan: sections.Scan) -> None:
        missing = int(np.count_nonzero(self.nodes.defined & ~self.nodes.defined[self.nodes.parent]))
        for what, count in (("missing", missing), ("impossible", self._impossible_parents)):
            if count:
                self._complain(f"{what} parents in {sections.counted(count, 'stack node')}: those stacks are "
                               "incomplete")
        for check in self.leak_checks:
            if not check.whole:
                self._complain(f"leak check {check.number} is not whole: parts of it are missing")
        if self._stackless_leaks:
            self._complain(f"missing stacks in {sections.counted(self._stackless_leaks, 'row')} of leak checks: shown "
                           "without a stack")
        if self.info.get("mode") not in _MODES:
            assumed = "complete" if self.mode == "full" else "sampled"
            self._complain("the trace does not say how it was recorded (its info section is missing): "
                           f"{assumed} recording is assumed")
        if self._event_sections and not self.clock.knows_rate:
            self._complain("the trace has fewer than two clock samples: times are in processor ticks, not in "
                           "nanoseconds")
        if self.end is None:
            damaged = any(not damage.at_end for damage in scan.damages)
            self._complain("the trace has no end record: the recording was interrupted; everything up to byte "
                           f"{scan.whole_bytes} is here{', but for what is damaged' if damaged else ''}")

    # --- Events -----------------------------------------------------------------------------------------------------

    def _read_events(self) -> tuple[EventArrays, NDArray[np.uint32]]:
        parts: list[EventArrays] = []
        serials: list[int] = []
        used: set[EventsKey] = set()
        for key, section in sorted(self._event_sections, key=lambda entry: entry[0]):
            if key in used:  # the sort keeps the order of the file: this is a copy
                continue
            used.add(key)
            payload = sections.payload_of(self._data, section)
            if payload is None:
                self._complain(f"{section} does not decode: skipped")
                continue
            try:
                _, events = decode(TableView(payload))
            except UnsoundError as error:
                self._complain(f"{section} is not sound: {error}")
                continue
            if events.unsound:
                self._complain(f"{section} contradicts itself after {sections.counted(len(events), 'event')}: the rest "
                               f"is skipped")
            parts.append(events)
            serials.append(key.thread)
        owners = np.repeat(np.array(serials, np.uint32), [len(part) for part in parts])
        events = concatenated(parts)
        if len(set(serials)) > 1:
            order = merged_order(owners, events)
            owners = owners[order]
            reorder(events, order)
        asked = events.node != 0
        events.node[~self._are_defined(events.node)] = 0
        if missing := int(np.count_nonzero(asked & (events.node == 0))):
            self._complain(f"missing stacks in {sections.counted(missing, 'event')}: they are shown without a stack")
        return events, owners

    # --- Stacks -----------------------------------------------------------------------------------------------------

    def stack_of(self, node: int) -> list[int]:
        """The nodes of a stack, leaf first."""
        nodes = []
        while node:
            nodes.append(node)
            node = int(self.nodes.parent[node])
        return nodes


def concatenated(parts: list[EventArrays]) -> EventArrays:
    """Parts one behind the other; the numbers of their rare events move along. Empties the parts, to save memory."""
    if len(parts) == 1:
        return parts[0]
    bases = np.cumsum([0] + [len(part) for part in parts]).tolist()
    none = np.zeros(0, np.uint64)
    byte = np.zeros(0, np.uint8)
    joined = EventArrays(byte, byte, np.zeros(0, np.uint32), none, none, none, none, none)
    for base, part in zip(bases, parts, strict=False):
        for side in SIDES:
            getattr(joined, side).update({base + event: value for event, value in getattr(part, side).items()})
    for name in ARRAYS:
        pieces = [getattr(part, name) for part in parts]
        for part in parts:
            setattr(part, name, none)
        if pieces:
            setattr(joined, name, np.concatenate(pieces))
    return joined


def reorder(events: EventArrays, order: NDArray[np.int64]) -> None:
    for name in ARRAYS:
        setattr(events, name, getattr(events, name)[order])
    if any(getattr(events, side) for side in SIDES):
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        for side in SIDES:
            setattr(events, side, {int(place[event]): value for event, value in getattr(events, side).items()})


def _index_entries(payload: bytes) -> dict[int, tuple[int, int]]:
    table = TableView(payload)
    columns = (table.numbers(2, delta=True).tolist(), table.numbers(1).tolist(), table.numbers(3).tolist())
    return {offset: (kind, subject) for offset, kind, subject in zip(*columns, strict=True)}


def number_in(document: dict[str, Any], *path: str) -> int:
    """A number that is not negative, or 0 when the document has none at this path."""
    value: Any = document
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64 else 0


def _json_object(payload: bytes) -> dict[str, Any]:
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnsoundError(f"the JSON is not UTF-8: {error}") from None
    depth = deepest = 0
    for bracket in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', text):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(bracket[0], 0)
        deepest = max(deepest, depth)
    if deepest > _MAX_DEPTH:
        raise UnsoundError("the JSON is nested too deep")
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except ValueError as error:
        raise UnsoundError(f"the JSON is not well-formed: {error}") from None
    if not isinstance(document, dict):
        raise UnsoundError("the JSON is no object")
    return document


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
