"""CRC-32C (Castagnoli) in numpy: no wheel of the standard kind brings it, and a loop in Python takes 100 ns a byte.

A checksum is a chain, so it looks sequential. It is also linear: that of A + B follows from that of A, that of B and
the length of B. So the data is cut into lanes of 256 bytes that are computed side by side, 8 bytes a step, and folded
pairwise afterwards. Leading zeros change nothing, which is what fills the first lane.

Must not: know what the bytes are.
"""
from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78
_LANE_BYTES = 256
_SMALL_BYTES = 512  # below this a plain loop is faster

Words = NDArray[np.uint32]


@cache
def _byte_table() -> list[int]:
    table = []
    for byte in range(256):
        state = byte
        for _ in range(8):
            state = (state >> 1) ^ (_POLYNOMIAL if state & 1 else 0)
        table.append(state)
    return table


def _after_zeros(state: Words, count: int) -> Words:
    """The state after `count` more zero bytes, for every state of an array."""
    table = np.array(_byte_table(), np.uint32)
    for _ in range(count):
        state = (state >> np.uint32(8)) ^ table[state & np.uint32(0xFF)]
    return state


@cache
def _pair_tables() -> tuple[Words, Words, Words, Words]:
    """What two bytes at the end of the data add to the checksum, and with 2, 4 and 6 more zero bytes behind them."""
    last = _after_zeros(np.arange(1 << 16, dtype=np.uint32), 2)
    return last, _after_zeros(last, 2), _after_zeros(last, 4), _after_zeros(last, 6)


@cache
def _shift_tables(level: int) -> Words:
    """Four tables of 256 words: the state after `_LANE_BYTES << level` more zero bytes, by the bytes of the state."""
    if level == 0:
        return np.stack([_after_zeros(np.arange(256, dtype=np.uint32) << np.uint32(8 * i), _LANE_BYTES)
                         for i in range(4)])
    below = _shift_tables(level - 1)
    return np.stack([_shifted(table, below) for table in below])


def _shifted(state: Words, tables: Words) -> Words:
    low = np.uint32(0xFF)
    moved: Words = (tables[0][state & low] ^ tables[1][(state >> np.uint32(8)) & low]
            ^ tables[2][(state >> np.uint32(16)) & low] ^ tables[3][state >> np.uint32(24)])
    return moved


def crc32c(data: bytes | memoryview) -> int:
    """The checksum of `data`."""
    if len(data) < _SMALL_BYTES:
        table = _byte_table()
        state = 0xFFFFFFFF
        for byte in bytes(data):
            state = (state >> 8) ^ table[(state ^ byte) & 0xFF]
        return state ^ 0xFFFFFFFF
    lanes = -(-len(data) // _LANE_BYTES)
    padded = np.zeros(lanes * _LANE_BYTES, np.uint8)
    start = len(padded) - len(data)
    padded[start:] = np.frombuffer(data, np.uint8)
    padded[start:start + 4] ^= np.uint8(0xFF)  # the initial value of the chain, moved into the data
    pairs = np.ascontiguousarray(padded.view("<u2").reshape(lanes, _LANE_BYTES // 2).T)
    last, before_2, before_4, before_6 = _pair_tables()
    states: Words = np.zeros(lanes, np.uint32)
    for step in range(0, _LANE_BYTES // 2, 4):
        states = (before_6[pairs[step] ^ (states & np.uint32(0xFFFF))]
                  ^ before_4[pairs[step + 1] ^ (states >> np.uint32(16))]
                  ^ before_2[pairs[step + 2]] ^ last[pairs[step + 3]])
    level = 0
    while len(states) > 1:
        if len(states) % 2:
            states = np.concatenate((np.zeros(1, np.uint32), states))
        states = _shifted(states[0::2], _shift_tables(level)) ^ states[1::2]
        level += 1
    return int(states[0]) ^ 0xFFFFFFFF
