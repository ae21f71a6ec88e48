"""EVENTS sections -> arrays, one value an event (docs/trace-format.md, "EVENTS").

Must not: compare sections with each other, or use an event behind one that contradicts itself.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import free_lists
from .columns import (
    NO_NUMBERS,
    Numbers,
    TableView,
    UnsoundError,
    first_numbers,
    running,
    signed,
    texts_before_damage,
    varints_before_damage,
    zigzag,
)

ALLOC, FREE, REALLOC, GAP, HEAP_ERROR, MARK, GUARD_REPORT = 1, 2, 3, 7, 8, 9, 10  # kinds, as golden dumps have them
KIND_NAMES = {ALLOC: "alloc", FREE: "free", REALLOC: "realloc", GAP: "gap", HEAP_ERROR: "heap error", MARK: "mark",
              GUARD_REPORT: "guard report"}
API_NAMES = ("malloc", "calloc", "realloc", "reallocarray", "memalign", "aligned_alloc", "posix_memalign", "valloc",
             "pvalloc", "free", "free_sized", "free_aligned_sized", "cfree")
MAX_EVENTS = 65_536
_MAX_NODE = (1 << 28) - 1
_FIRST_SHAPE, _UNKNOWN_OP = 8, 6
_LOST_KINDS = 3
_KIND_OF_OP = np.array([FREE, REALLOC, REALLOC, GAP, HEAP_ERROR, MARK, 0, GUARD_REPORT, ALLOC], np.uint8)
_WALK_OF_OP = np.array([free_lists.FREE, free_lists.MOVE, free_lists.STAY, 0, 0, 0, 0, 0, free_lists.ALLOC], np.uint8)


@dataclass(frozen=True)
class GuardReport:
    error: int
    access: int
    offset: int
    allocated_node: int
    allocated_thread: int
    released_node: int
    released_thread: int


@dataclass
class EventArrays:
    """Events in one order. What few events have lies beside the arrays, by the number of the event."""
    kind: NDArray[np.uint8]
    api: NDArray[np.uint8]
    node: NDArray[np.uint32]
    tsc: Numbers
    size: Numbers
    address: Numbers
    old_address: Numbers
    elapsed: Numbers
    counts: dict[int, int] = field(default_factory=dict)  # of gaps: lost events; of heap errors: which error
    gap_kinds: dict[int, int] = field(default_factory=dict)
    marks: dict[int, bytes] = field(default_factory=dict)
    guards: dict[int, GuardReport] = field(default_factory=dict)
    unsound: bool = False  # an event contradicted itself and is missing with those behind it; or columns go on behind

    def __len__(self) -> int:
        return len(self.kind)


# Fields of EventArrays.
ARRAYS = ("kind", "api", "node", "tsc", "size", "address", "old_address", "elapsed")
SIDES = ("counts", "gap_kinds", "marks", "guards")


@dataclass(frozen=True, order=True)
class EventsKey:
    """Where a section belongs in its thread; no two sections are equal in it."""
    thread: int
    chunk: int
    fragment: int
    part: int


@dataclass
class EventsHeader:
    key: EventsKey
    first_tsc: int
    tsc_shift: int


def header_of(table: TableView) -> EventsHeader:
    values = first_numbers(table.bytes_of(1), 6)
    *key, first_tsc, tsc_shift = values
    if any(value >= 1 << 32 for value in key) or tsc_shift > 20:
        raise UnsoundError("a number in the header column is out of range")
    if not 0 < table.rows <= MAX_EVENTS:
        raise UnsoundError("an events section without events, or with more than the format allows")
    return EventsHeader(EventsKey(*key), first_tsc >> tsc_shift << tsc_shift, tsc_shift)


class _Columns:
    """The columns of a section. Each has its say about how many events can be used."""

    def __init__(self, table: TableView):
        self._table = table
        self.events = table.rows
        self.sound = True

    def cut_before(self, event: int) -> None:
        self.events = min(self.events, int(event))
        self.sound = False

    def used_by(self, users: NDArray[np.int64], values: int) -> None:
        """`users`: the events that take a value each from a column that has `values`."""
        if values < len(users):
            self.cut_before(users[values])
        elif values > len(users):
            self.sound = False

    def numbers(self, column: int) -> Numbers:
        if column not in self._table.columns:
            return NO_NUMBERS
        values, sound = varints_before_damage(self._table.columns[column])
        self.sound &= sound
        return values

    def numbers_or_zeros(self, column: int, users: NDArray[np.int64]) -> Numbers:
        """Of a column that may be left out."""
        if column not in self._table.columns:
            return np.zeros(len(users), np.uint64)
        return self.numbers(column)

    def pairs(self, column: int) -> tuple[Numbers, Numbers]:
        values = self.numbers(column)
        if len(values) % 2:
            self.sound = False
            values = values[:-1]
        return values[0::2], values[1::2]

    def texts(self, column: int, count: int) -> list[bytes]:
        if column not in self._table.columns:
            return []
        found, sound = texts_before_damage(self._table.columns[column], count)
        self.sound &= sound
        return found


def decode(table: TableView) -> tuple[EventsHeader, EventArrays]:
    """The events of a section. Raises UnsoundError when none can be used."""
    header = header_of(table)
    columns = _Columns(table)
    ops = columns.numbers(2)
    columns.used_by(np.arange(table.rows), len(ops))
    ops = np.concatenate((ops[:table.rows], np.full(max(0, table.rows - len(ops)), _UNKNOWN_OP, np.uint64)))

    sizes = columns.numbers(4)
    shapes = len(sizes)
    nodes = table.numbers(5, delta=True, count=shapes) if shapes else NO_NUMBERS
    apis = table.columns.get(6, np.zeros(shapes, np.uint8))
    if len(apis) != shapes:
        raise UnsoundError("column 6 has not one value a shape")
    apis = np.where(apis < len(API_NAMES), apis, 0).astype(np.uint8)
    nodes = np.where(nodes <= _MAX_NODE, nodes, 0).astype(np.uint32)

    op = np.minimum(ops, _FIRST_SHAPE).astype(np.intp)
    kind = _KIND_OF_OP[op]
    is_alloc, is_realloc = kind == ALLOC, kind == REALLOC
    is_release = is_realloc | (kind == FREE)
    realloc_events, release_events = np.flatnonzero(is_realloc), np.flatnonzero(is_release)

    realloc_shapes = columns.numbers(7)
    columns.used_by(realloc_events, len(realloc_shapes))
    shape = np.where(is_alloc, ops - np.uint64(_FIRST_SHAPE), np.uint64(0))
    taken = min(len(realloc_events), len(realloc_shapes))
    shape[realloc_events[:taken]] = realloc_shapes[:taken]
    shape[realloc_events[taken:]] = 0
    has_shape = is_alloc | is_realloc
    bad = np.flatnonzero(has_shape & (shape >= shapes))
    if len(bad):
        columns.cut_before(bad[0])

    origins = columns.numbers(9)
    columns.used_by(release_events, len(origins))
    origins = origins[:len(release_events)]
    far_events = release_events[:len(origins)][origins == 0]
    far = running(columns.numbers_or_zeros(10, far_events))
    columns.used_by(far_events, len(far))
    elapsed = columns.numbers_or_zeros(11, realloc_events)
    columns.used_by(realloc_events, len(elapsed))

    zeros = np.zeros(table.rows, np.uint64)
    result = EventArrays(kind, np.zeros(table.rows, np.uint8), np.zeros(table.rows, np.uint32),
                         _times(columns, table.rows, header), zeros, zeros.copy(), zeros.copy(), zeros.copy())
    _decode_rare(columns, kind, result)

    count = columns.events
    has_shape[count:] = is_release[count:] = False
    users = np.flatnonzero(has_shape)
    used_shapes = shape[users].astype(np.intp)
    result.size[users] = sizes[used_shapes]
    result.node[users] = nodes[used_shapes]
    result.api[users] = apis[used_shapes]
    taken = int(np.searchsorted(realloc_events, count))
    result.elapsed[realloc_events[:taken]] = elapsed[:taken] << np.uint64(header.tsc_shift)

    walked = np.flatnonzero(has_shape | is_release)
    kinds = _WALK_OF_OP[op[walked]]
    obtaining = walked[(kinds == free_lists.ALLOC) | (kinds == free_lists.MOVE)]
    all_classes, all_steps = free_lists.size_classes(sizes)
    obtained_shapes = shape[obtaining].astype(np.intp)
    surprises, differences = _surprises(columns, len(obtaining))
    found = free_lists.addresses(free_lists.Walk(
        kinds, all_classes[obtained_shapes], all_steps[obtained_shapes],
        origins[:int(np.searchsorted(release_events, count))], far, surprises, differences))
    if found.events < len(walked):
        columns.cut_before(walked[found.events])
        kinds = kinds[:found.events]
        walked = walked[:found.events]
    holding, releasing = walked[kinds != free_lists.FREE], walked[kinds != free_lists.ALLOC]
    result.address[holding] = found.obtained << np.uint64(4)
    moved = kind[releasing] == REALLOC
    result.old_address[releasing[moved]] = found.released[moved] << np.uint64(4)
    result.address[releasing[~moved]] = found.released[~moved] << np.uint64(4)
    result.unsound = not columns.sound
    return header, _shortened(result, columns.events)


def _times(columns: _Columns, rows: int, header: EventsHeader) -> Numbers:
    steps = np.zeros(rows, np.uint64)
    skipped, changes = columns.pairs(3)
    beyond = np.flatnonzero(skipped >= rows)
    skipped = skipped[:beyond[0]] if len(beyond) else skipped
    at = np.cumsum(skipped + np.uint64(1), dtype=np.uint64) - np.uint64(1)
    at = at[:int(np.searchsorted(at, rows))].astype(np.intp)
    if len(at) < len(changes):  # a change behind the last event
        columns.sound = False
    steps[at] = zigzag(changes[:len(at)])
    return np.uint64(header.first_tsc) + (np.cumsum(steps, dtype=np.uint64) << np.uint64(header.tsc_shift))


def _surprises(columns: _Columns, obtained: int) -> tuple[NDArray[np.int64], Numbers]:
    """Which of the obtained blocks are not where they are expected, and by how much."""
    skipped, differences = columns.pairs(8)
    beyond = np.flatnonzero(skipped >= obtained)
    skipped = skipped[:beyond[0]] if len(beyond) else skipped
    ordinals = np.cumsum(skipped.astype(np.int64) + 1) - 1
    inside = int(np.searchsorted(ordinals, obtained))
    if inside < len(differences) and columns.sound:  # of a section that was cut, the rest was not asked for
        columns.sound = False
    return ordinals[:inside], zigzag(differences[:inside])


def _decode_rare(columns: _Columns, kind: NDArray[np.uint8], result: EventArrays) -> None:
    """Gaps, heap errors, marks and guard reports: few, so a loop will do."""
    for rare, column, width in ((GAP, 12, 3), (HEAP_ERROR, 13, 3), (GUARD_REPORT, 15, 10)):
        events = np.flatnonzero(kind == rare)
        values = columns.numbers(column).tolist()
        columns.used_by(events, len(values) // width)
        columns.sound &= len(values) % width == 0
        if rare == GAP:
            for event, lost in zip(events.tolist(), values[0::width], strict=False):
                if lost >= _LOST_KINDS:
                    columns.cut_before(event)
        for event, at in zip(events.tolist(), range(0, len(values) - width + 1, width), strict=False):
            _set_rare(result, event, values[at:at + width])
    marks = np.flatnonzero(kind == MARK)
    texts = columns.texts(14, len(marks))
    columns.used_by(marks, len(texts))
    result.marks.update(zip(marks.tolist(), texts, strict=False))


def _set_rare(result: EventArrays, event: int, values: list[int]) -> None:
    kind = result.kind[event]
    if kind == GAP:
        result.gap_kinds[event], result.counts[event], size = values
        result.size[event] = size
        return
    if kind == HEAP_ERROR:
        result.counts[event], node, address = values
    else:
        error, access, node, address, offset, size, *stacks = values
        result.size[event] = size
        stacks = [number if number <= _MAX_NODE or i % 2 else 0 for i, number in enumerate(stacks)]
        result.guards[event] = GuardReport(error, access, signed(offset), *stacks)
    result.node[event] = node if node <= _MAX_NODE else 0
    result.address[event] = (address << 4) % (1 << 64)


def _shortened(events: EventArrays, count: int) -> EventArrays:
    """The first `count` events, without those of a kind that nobody knows."""
    early = count < len(events)
    keep = events.kind[:count] != 0
    if not early and keep.all():
        return events
    numbers = np.cumsum(keep) - 1

    arrays: dict[str, Any] = {name: getattr(events, name)[:count][keep] for name in ARRAYS}
    shortened = EventArrays(**arrays, unsound=early or events.unsound)
    for side in SIDES:
        setattr(shortened, side, {int(numbers[event]): value for event, value in getattr(events, side).items()
                                  if event < count})
    return shortened
