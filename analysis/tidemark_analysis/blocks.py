"""From events to blocks: which release ends which allocation (docs/metrics.md).

Allocations and releases of one address alternate, nearly always, so sorting by address pairs them. Where two live
blocks share an address, because stamps of threads are off or a release was lost, the address is played through event by
event.

Must not: sum anything up.
"""
from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .clock import ClockMap
from .columns import Numbers
from .events import ALLOC, FREE, GAP, REALLOC, EventArrays
from .merge import BlockTokens, block_tokens, obtained_and_released

Rows = NDArray[np.int64]
ADDRESS_LIMIT = 1 << 48
_SKEW_NS = 1000  # stamps of threads on different cores agree within some 100 ns
_STAMP_TICKS = 1 << 16  # how coarse stamps may be
NEVER = -1


@dataclass
class Blocks:
    """One row a block, in the order of the events that obtained them."""
    born: Rows  # number of the event
    died: Rows  # number of the event that released it; NEVER: none did
    implied: NDArray[np.bool_]  # its own release was lost: it is dead from `died` on (or, NEVER, at the end)
    temporary: NDArray[np.bool_]  # released by the very next event of its thread
    size: Numbers  # charged bytes: 1 for a request of 0
    node: NDArray[np.uint32]
    thread: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.born)

    @property
    def alive(self) -> NDArray[np.bool_]:
        alive: NDArray[np.bool_] = (self.died == NEVER) & ~self.implied
        return alive


@dataclass
class Pairing:
    blocks: Blocks
    zero_sized: int
    unknown_releases: int
    unusable: int
    releases: Rows  # numbers of the events that released a known block, and
    released_block: Rows  # which


def pair(events: EventArrays, owners: NDArray[np.uint32], clock: ClockMap) -> Pairing:
    obtained, released = obtained_and_released(events)
    obtains = (events.kind == ALLOC) | (events.kind == REALLOC)
    usable = obtains & (obtained != 0) & (events.address < np.uint64(ADDRESS_LIMIT))
    # realloc that ended without a block is a release; without an old block it is an allocation.
    unusable = obtains & ~usable & ~((events.kind == REALLOC) & (events.address == 0))
    obtained[~usable] = 0
    tokens = block_tokens(obtained, released)

    born = np.flatnonzero(usable)
    block_of_event = np.full(len(events), NEVER, np.int64)
    block_of_event[born] = np.arange(len(born))
    died = np.full(len(born), NEVER, np.int64)
    implied = np.zeros(len(born), bool)

    same = tokens.blocks[1:] == tokens.blocks[:-1]
    overlap = np.flatnonzero(same & tokens.obtains[1:] & tokens.obtains[:-1])
    odd = np.isin(tokens.blocks, np.unique(tokens.blocks[overlap])) if len(overlap) else np.zeros(len(same) + 1, bool)
    ends = np.flatnonzero(same & tokens.obtains[:-1] & ~tokens.obtains[1:] & ~odd[1:]) if len(same) else overlap
    died[block_of_event[tokens.rows[ends]]] = tokens.rows[ends + 1]
    if len(overlap):
        _play_overlaps(tokens, np.flatnonzero(odd), events, owners, clock, born, block_of_event, died, implied)

    blocks = Blocks(born, died, implied, np.zeros(len(born), bool), np.maximum(events.size[born], np.uint64(1)),
                    events.node[born], owners[born])
    known = np.flatnonzero((died != NEVER) & ~implied)
    release_events = died[known]
    order = np.argsort(release_events, kind="stable")
    wanted = int(np.count_nonzero(events.kind == FREE)) + int(np.count_nonzero((events.kind == REALLOC)
                                                                               & (events.old_address != 0)))
    _mark_temporary(blocks, known, events, owners, unusable & (events.kind == ALLOC), released)
    return Pairing(blocks, int(np.count_nonzero(events.size[born] == 0)), wanted - len(known),
                   int(np.count_nonzero(unusable)), release_events[order], known[order])


def _play_overlaps(tokens: BlockTokens, odd: Rows, events: EventArrays, owners: NDArray[np.uint32], clock: ClockMap,
                   born: Rows, block_of_event: Rows, died: Rows, implied: NDArray[np.bool_]) -> None:
    """The older of two blocks at an address dies first; a release that comes late belongs to the younger."""
    heard = np.flatnonzero(np.isin(events.kind, (ALLOC, FREE, REALLOC, GAP)))
    others = heard[owners[heard] != owners[heard[0]]] if len(heard) else heard
    ordered_until = int(others[0]) if len(others) else len(events)  # one thread only: stamps cannot be off
    slack = _ticks_in(clock, int(events.tsc[0]), _SKEW_NS) + _STAMP_TICKS
    address = NEVER
    live: deque[int] = deque()  # blocks, oldest first

    def end_address() -> None:
        for older in list(live)[:-1]:
            implied[older] = True

    for token in odd.tolist():
        if int(tokens.blocks[token]) != address:
            end_address()
            address = int(tokens.blocks[token])
            live.clear()
        event = int(tokens.rows[token])
        if tokens.obtains[token]:
            if live and event < ordered_until:
                dead = live.popleft()
                died[dead], implied[dead] = event, True
                live.appendleft(int(block_of_event[event]))
            else:
                live.append(int(block_of_event[event]))
            continue
        if not live:
            continue
        oldest = live.popleft()
        tsc = int(events.tsc[event])
        tsc -= min(int(events.elapsed[event]), tsc)
        if live and tsc > int(events.tsc[born[live[0]]]) + slack:
            died[oldest], implied[oldest] = event, True
            oldest = live.popleft()
        died[oldest] = event
    end_address()


def _ticks_in(clock: ClockMap, from_tsc: int, ns: int) -> int:
    span = 1 << 30
    span_ns = clock.time_ns(from_tsc + span) - clock.time_ns(from_tsc)
    return int(span / span_ns * ns) if span_ns > 0 else span


def _mark_temporary(blocks: Blocks, known: Rows, events: EventArrays, owners: NDArray[np.uint32],
                    passed_over: NDArray[np.bool_], released: Numbers) -> None:
    """A block is temporary when its release is the event behind its allocation, gaps included, in its own thread."""
    chain = np.flatnonzero(np.isin(events.kind, (ALLOC, FREE, REALLOC, GAP)) & ~passed_over)
    chain = chain[np.argsort(owners[chain], kind="stable")]
    before = np.full(len(events), NEVER, np.int64)
    same = owners[chain[1:]] == owners[chain[:-1]]
    before[chain[1:][same]] = chain[:-1][same]
    previous = before[blocks.died[known]]
    there = previous != NEVER
    kind = events.kind[previous]
    obtains = there & ((kind == ALLOC) | (kind == REALLOC))
    address = (events.address[previous] >> np.uint64(4)) == released[blocks.died[known]]
    blocks.temporary[known] = obtains & address
