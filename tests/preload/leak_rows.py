"""LEAKS sections of a trace, as docs/trace-format.md describes them: for tests of the check itself.

Reads the bytes with nothing of ours in between, so that a mistake which writer and reader share would show. Must not:
know what the rows mean.
"""
import ctypes
import ctypes.util
import struct
from dataclasses import dataclass, field
from pathlib import Path

REACHABLE, POSSIBLE, INDIRECT, DEFINITE = range(4)
REGISTERS, STACK, THREAD_LOCAL, GLOBAL, MAPPING = range(1, 6)
EXIT_BEFORE, EXIT_AFTER, UNDERSCORE_EXIT, QUICK_EXIT, ABORT, EXEC, SIGNAL = range(1, 8)
DONE, NO_MEMORY, TIMED_OUT, NO_MAPS, NO_SNAPSHOT, UNFINISHED = range(6)
INHERITED, HEAP_SIZE = 1, 2
LEAKS_SECTION, ZSTD = 10, 1
HEADER = ("number", "part", "last", "trigger", "method", "outcome", "flags", "tsc", "pause_us", "scan_us", "threads",
          "not_stopped", "root_bytes", "live_blocks", "live_bytes")

zstd = ctypes.CDLL(ctypes.util.find_library("zstd") or "libzstd.so.1")
zstd.ZSTD_decompress.restype = ctypes.c_size_t
zstd.ZSTD_decompress.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t)


@dataclass
class Row:
    leak_class: int
    root: int
    node: int
    blocks: int
    bytes: int
    address: int
    leader: int
    flags: int


@dataclass
class Check:
    head: dict
    rows: list = field(default_factory=list)

    def __getattr__(self, name):
        return self.head[name]


def numbers(data):
    values, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            values.append(value)
            value = shift = 0
    return values


def signed(value):
    return value >> 1 ^ -(value & 1)


def sums(data):
    total, found = 0, []
    for value in numbers(data):
        total += signed(value)
        found.append(total)
    return found


def columns_of(payload):
    """(rows, {column id: bytes})"""
    at = 0

    def one():
        nonlocal at
        end = at
        while payload[end] & 128:
            end += 1
        value = numbers(payload[at:end + 1])[0]
        at = end + 1
        return value

    rows, columns = one(), {}
    while at < len(payload):
        name, length = one(), one()
        columns[name] = payload[at:at + length]
        at += length
    return rows, columns


def leak_checks(path):
    """All checks of the trace, in order."""
    data, at, checks = Path(path).read_bytes(), 16, {}
    while at + 32 <= len(data):
        _, kind, encoding, stored, raw = struct.unpack_from("<IHHII", data, at)
        payload = data[at + 32:at + 32 + stored]
        at += 32 + stored
        if kind != LEAKS_SECTION:
            continue
        if encoding == ZSTD:
            out = ctypes.create_string_buffer(raw)
            assert zstd.ZSTD_decompress(out, raw, payload, len(payload)) == raw
            payload = out.raw
        rows, columns = columns_of(payload)
        head = dict(zip(HEADER, numbers(columns[1]), strict=True))
        check = checks.setdefault(head["number"], Check(head))
        check.head = head
        addresses = sums(columns[7])
        leaders = [own + signed(value) for own, value in zip(addresses, numbers(columns[8]), strict=True)]
        flags = numbers(columns[9]) if 9 in columns else [0] * rows
        check.rows += [Row(*row) for row in zip(columns[2], columns[3], sums(columns[4]), numbers(columns[5]),
                                                numbers(columns[6]), [16 * a for a in addresses],
                                                [16 * a for a in leaders], flags, strict=True)]
    return [checks[number] for number in sorted(checks)]
