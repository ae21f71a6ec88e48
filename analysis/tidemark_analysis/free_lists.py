"""Follows the free lists of the allocator, which is how a trace stores addresses (docs/trace-format.md, "Address").

The one part of a trace that is a chain: every address depends on the blocks before it, so no array operation gets at
it. `addresses` is that loop in plain Python with everything else moved out of it; when the package was installed where
a C compiler is, the same loop from `_free_lists.c` runs instead.

Must not: know what an event is beyond obtaining and releasing blocks.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import compiled
from .columns import Numbers

FREE, MOVE, STAY, ALLOC = range(4)  # what an event does: release; obtain, then release; keep its block; obtain
_MASK = (1 << 60) - 1  # addresses are in units of 16 bytes, modulo 2^60
_PAGE_SHIFT = 12
_SEARCHED = 4


class Walk(NamedTuple):
    """What one section's events do with blocks. Each array has a value where its kind of event needs one."""
    kinds: NDArray[np.uint8]  # of every event that has a block
    classes: NDArray[np.uint8]  # size class, of ALLOC and MOVE
    steps: Numbers  # block size of that class
    origins: Numbers  # of FREE, MOVE and STAY
    far: Numbers  # of those with origin 0
    surprises: NDArray[np.int64]  # ordinals, among the obtained blocks of ALLOC and MOVE, that are not as expected
    differences: Numbers  # of those: found - expected


class Found(NamedTuple):
    events: int  # how many were sound: an origin before the section's first block ends it
    obtained: Numbers  # of ALLOC, MOVE and STAY
    released: Numbers  # of FREE, MOVE and STAY


def size_classes(sizes: Numbers) -> tuple[NDArray[np.uint8], Numbers]:
    """Size class and block size (in units of 16 bytes) of every size."""
    words = (sizes >> np.uint64(3)) + ((sizes & np.uint64(7)) != 0).astype(np.uint64)
    small = (words + np.uint64(1)) >> np.uint64(1)
    below = np.maximum(words, np.uint64(9)) - np.uint64(1)
    top = np.zeros(len(sizes), np.uint64)  # the number of the highest bit
    rest = below.copy()
    for shift in (32, 16, 8, 4, 2, 1):
        more = rest >= np.uint64(1 << shift)
        top[more] += np.uint64(shift)
        rest[more] >>= np.uint64(shift)
    quarter = (below >> (top - np.uint64(2))) & np.uint64(3)
    large_steps = (((np.uint64(5) + quarter) << (top - np.uint64(2))) + np.uint64(1)) >> np.uint64(1)
    is_small = words <= 8
    classes = np.where(is_small, small, np.uint64(4) * top + quarter).astype(np.uint8)
    return classes, np.where(is_small, np.maximum(small, np.uint64(1)), large_steps)


def addresses(walk: Walk) -> Found:
    """The address / 16 of every block that is obtained or released."""
    if compiled.library is not None:
        return _by_compiled_loop(walk)
    return _by_python(walk)


def _by_compiled_loop(walk: Walk) -> Found:
    releases = len(walk.origins)
    obtained = np.zeros(int(np.count_nonzero(walk.kinds != FREE)), np.uint64)
    released = np.zeros(releases, np.uint64)
    events = compiled.follow(walk.kinds, walk.classes, walk.steps, walk.origins, walk.far, walk.surprises,
                             walk.differences, obtained, released)
    kinds = walk.kinds[:events]
    return Found(events, obtained[:int(np.count_nonzero(kinds != FREE))],
                 released[:int(np.count_nonzero(kinds != ALLOC))])


def _by_python(walk: Walk) -> Found:
    pages: dict[int, list[list[int]]] = {}  # page -> [ready, freed], the heads at the ends
    last_block = [0] * 256  # by class
    last_pages: list[list[list[int]] | None] = [None] * 256
    last = 0
    obtained: list[int] = []
    released: list[int] = []
    classes, steps, origins = iter(walk.classes.tolist()), iter(walk.steps.tolist()), iter(walk.origins.tolist())
    far, differences = iter(walk.far.tolist()), iter(walk.differences.tolist())
    ordinals = iter(walk.surprises.tolist())
    surprise = next(ordinals, -1)
    ordinal = 0
    events = 0
    for kind in walk.kinds.tolist():
        block = 0
        if kind != ALLOC:
            origin = next(origins)
            if origin > len(obtained):
                break
            block = obtained[-origin] if origin else next(far)
            released.append(block)
        events += 1
        if kind == STAY:
            obtained.append(block)
            continue
        if kind != FREE:
            size_class = next(classes)
            step = next(steps)
            page = last_pages[size_class]
            if page is None:
                found = last
            elif page[0]:
                found = page[0][-1]
            elif page[1]:
                found = page[1][-1]
            else:
                found = (last_block[size_class] + step) & _MASK
            if ordinal == surprise:
                found = (found + next(differences)) & _MASK
                surprise = next(ordinals, -1)
            ordinal += 1
            page = pages.get(found >> _PAGE_SHIFT)
            if page is None:
                page = pages[found >> _PAGE_SHIFT] = [[], []]
            ready, freed = page
            if ready:
                if found in (searched := ready[-_SEARCHED:]):
                    del ready[len(ready) - len(searched) + _last_index(searched, found):]
                elif freed and freed[-1] == found:
                    freed.pop()
                    page[0], page[1] = freed, []
            elif freed and found in (searched := freed[-_SEARCHED:]):
                del freed[len(freed) - len(searched) + _last_index(searched, found):]
                page[0], page[1] = freed, []
            last = last_block[size_class] = found
            last_pages[size_class] = page
            obtained.append(found)
        if kind != ALLOC:
            page = pages.get(block >> _PAGE_SHIFT)
            if page is None:
                pages[block >> _PAGE_SHIFT] = [[], [block]]
            else:
                page[1].append(block)
    return Found(events, np.array(obtained, np.uint64), np.array(released, np.uint64))


def _last_index(items: list[int], item: int) -> int:
    for i in range(len(items) - 1, -1, -1):
        if items[i] == item:
            return i
    raise ValueError(item)
