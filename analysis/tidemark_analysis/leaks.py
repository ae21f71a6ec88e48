"""LEAKS sections: what looks for leaks in the running process have found (docs/trace-format.md, "LEAKS").

Must not: judge; which check counts, and what is suppressed, is `tidemark leaks`'s business.
"""
from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .columns import Bytes, Numbers, TableView, UnsoundError, first_numbers, zigzag

CLASS_NAMES = ("reachable", "possible", "indirect", "definite")
ROOT_NAMES = ("none", "registers", "stack", "thread-local", "global", "mapping")
TRIGGER_NAMES = ("unknown", "exit", "exit after destructors", "_exit", "quick_exit", "abort", "exec", "signal",
                 "on demand", "program")
METHOD_NAMES = ("unknown", "in place", "snapshot", "concurrent")
OUTCOME_NAMES = ("done", "no memory", "timed out", "no mappings", "no snapshot", "unfinished")
_HEADER = ("check", "part", "last", "trigger", "method", "outcome", "flags", "tsc", "pause_us", "scan_us", "threads",
           "threads_not_stopped", "root_bytes", "live_blocks", "live_bytes")


@dataclass
class LeakRows:
    """One value a row: a block, or a number of blocks that are alike (address 0)."""
    leak_class: Bytes
    root: Bytes
    node: NDArray[np.uint32]
    blocks: Numbers
    bytes: Numbers
    address: Numbers
    leader: Numbers
    flags: Numbers


@dataclass
class LeakCheck:
    """`header` has the numbers of the last part that is there."""
    number: int
    header: dict[str, int]
    whole: bool
    rows: LeakRows


@dataclass
class LeakParts:
    """The parts of all checks, in whatever order they come."""
    parts: dict[int, dict[int, tuple[dict[str, int], LeakRows]]] = field(default_factory=dict)

    def add(self, table: TableView) -> None:
        header = dict(zip(_HEADER, first_numbers(table.bytes_of(1), len(_HEADER)), strict=True))
        self.parts.setdefault(header["check"], {}).setdefault(header["part"], (header, _rows(table)))

    def checks(self) -> list[LeakCheck]:
        """By number."""
        found = []
        for number, parts in sorted(self.parts.items()):
            numbers = sorted(parts)
            header = parts[numbers[-1]][0]
            whole = numbers == list(range(len(numbers))) and header["last"] == 1
            columns = [np.concatenate([getattr(parts[part][1], name) for part in numbers])
                       for name in LeakRows.__dataclass_fields__]
            found.append(LeakCheck(number, header, whole, LeakRows(*columns)))
        return found


def _rows(table: TableView) -> LeakRows:
    leak_class, root = table.bytes_of(2), table.bytes_of(3)
    if len(leak_class) != table.rows or len(root) != table.rows:
        raise UnsoundError("column 2 or 3 has not one byte a row")
    node = table.numbers(4, delta=True)
    address = table.numbers(7, delta=True)
    leader = address + zigzag(table.numbers(8))
    return LeakRows(leak_class, root, np.where(node < 1 << 28, node, 0).astype(np.uint32), table.numbers(5),
                    table.numbers(6), address << np.uint64(4), leader << np.uint64(4), table.numbers(9, optional=True))
