"""Tables of a trace: columns of variable-length integers, decoded as arrays (docs/trace-format.md, "Tables").

Numbers are arrays of uint64 and wrap as the format says (modulo 2^64). Must not: know what a column means.
"""
from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Numbers = NDArray[np.uint64]

_MAX_VARINT_BYTES = 10
_MAX_TEXT_BYTES = 65_535
NO_NUMBERS = np.zeros(0, np.uint64)


class UnsoundError(Exception):
    """A table or column that contradicts the format: its section cannot be used."""


def varints(column: Bytes) -> Numbers:
    """All LEB128 numbers of a column, which must end behind the last one."""
    if not len(column):
        return NO_NUMBERS
    last = column < 0x80
    if last.all():
        return column.astype(np.uint64)
    if not last[-1]:
        raise UnsoundError("a number is cut off at the end of its column")
    ends = np.flatnonzero(last)
    starts = np.empty_like(ends)
    starts[0] = 0
    starts[1:] = ends[:-1] + 1
    longest = int((ends - starts).max()) + 1
    if longest > _MAX_VARINT_BYTES:
        raise UnsoundError("a number of more than ten bytes")
    values = (column[starts] & 0x7F).astype(np.uint64)
    rows = np.flatnonzero(ends > starts)
    for i in range(1, longest):
        pieces = column[starts[rows] + i]
        if i == _MAX_VARINT_BYTES - 1 and (pieces > 1).any():
            raise UnsoundError("a number of more than 64 bits")
        values[rows] |= (pieces & 0x7F).astype(np.uint64) << np.uint64(7 * i)
        rows = rows[ends[rows] > starts[rows] + i]
    return values


def varints_before_damage(column: Bytes) -> tuple[Numbers, bool]:
    """The numbers before the first that is not sound, and whether all are."""
    try:
        return varints(column), True
    except UnsoundError:
        data = column.tobytes()
        values = []
        at = 0
        while at < len(data):
            try:
                value, at = one_varint(data, at)
            except UnsoundError:
                break
            values.append(value)
        return np.array(values, np.uint64), False


def zigzag(values: Numbers) -> Numbers:
    """Signed numbers as they are stored -> the same modulo 2^64."""
    return (values >> np.uint64(1)) ^ (np.uint64(0) - (values & np.uint64(1)))


def signed(value: int) -> int:
    """The zigzag number that `value` stores."""
    return (value >> 1) ^ -(value & 1)


def running(values: Numbers) -> Numbers:
    """Differences as they are stored (zd) -> values."""
    return np.cumsum(zigzag(values), dtype=np.uint64)


def texts_before_damage(column: Bytes, count: int) -> tuple[list[bytes], bool]:
    """At most `count` byte strings, each behind its length; and whether there are so many, and nothing behind them."""
    data = column.tobytes()
    found: list[bytes] = []
    at = 0
    while len(found) < count:
        try:
            length, at = one_varint(data, at)
        except UnsoundError:
            return found, False
        if length > _MAX_TEXT_BYTES or length > len(data) - at:
            return found, False
        found.append(data[at:at + length])
        at += length
    return found, at == len(data)


def one_varint(data: bytes | memoryview, at: int) -> tuple[int, int]:
    """The number at offset `at`, and the offset behind it."""
    value = 0
    for i in range(_MAX_VARINT_BYTES):
        if at + i >= len(data):
            break
        byte = data[at + i]
        if i == _MAX_VARINT_BYTES - 1 and byte > 1:
            break
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise UnsoundError("a number is cut off or has more than 64 bits")


def first_numbers(column: Bytes, count: int) -> list[int]:
    """The first numbers of a header column; later versions may add more behind them."""
    data = column.tobytes()
    values = []
    at = 0
    for _ in range(count):
        value, at = one_varint(data, at)
        values.append(value)
    return values


class TableView:
    """A decoded payload: the number of rows, and columns by their id. Columns nobody asks for are skipped."""

    def __init__(self, payload: bytes):
        self.rows, at = one_varint(payload, 0)
        if self.rows > len(payload):
            raise UnsoundError("more rows than bytes")
        self.columns: dict[int, Bytes] = {}
        data = np.frombuffer(payload, np.uint8)
        while at < len(payload):
            column, at = one_varint(payload, at)
            size, at = one_varint(payload, at)
            if size > len(payload) - at:
                raise UnsoundError("a column reaches beyond its section")
            if column in self.columns:
                raise UnsoundError("a column is there twice")
            self.columns[column] = data[at:at + size]
            at += size

    def bytes_of(self, column: int) -> Bytes:
        if column not in self.columns:
            raise UnsoundError(f"column {column} is missing")
        return self.columns[column]

    def numbers(self, column: int, *, optional: bool = False, delta: bool = False, count: int | None = None) -> Numbers:
        """One number for each row (or `count`); an optional column that is left out is all 0."""
        count = self.rows if count is None else count
        if column not in self.columns and optional:
            return np.zeros(count, np.uint64)
        values = varints(self.bytes_of(column))
        if len(values) != count:
            raise UnsoundError(f"column {column} has {len(values)} values where there are {count} rows")
        return running(values) if delta else values

    def texts(self, column: int) -> list[bytes]:
        found, sound = texts_before_damage(self.bytes_of(column), self.rows)
        if not sound:
            raise UnsoundError("a text is cut off, too long, or not the last thing in its column")
        return found
