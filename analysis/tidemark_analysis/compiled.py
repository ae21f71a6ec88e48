"""The loop of free_lists.py in C, when the installation had a compiler: ten times as fast, and nothing else.

`_free_lists.c` needs no headers of Python and is loaded by ctypes. Must not: be needed. Without it `library` is None.
"""
from __future__ import annotations

import ctypes
import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .columns import Numbers


def _load() -> ctypes.CDLL | None:
    if os.environ.get("TIDEMARK_ANALYSIS_PURE") == "1":
        return None
    for path in sorted(Path(__file__).parent.glob("_free_lists*.so")):
        try:
            loaded = ctypes.CDLL(str(path))
            loaded.tidemark_follow_free_lists.restype = ctypes.c_int64
        except (OSError, AttributeError):  # of another machine, or of an older version of this package
            continue
        return loaded
    return None


library = _load()


def follow(kinds: NDArray[np.uint8], classes: NDArray[np.uint8], steps: Numbers, origins: Numbers, far: Numbers,
           surprises: NDArray[np.int64], differences: Numbers, obtained: Numbers, released: Numbers) -> int:
    """Fills `obtained` and `released`; returns the number of sound events."""
    assert library is not None
    arrays = [np.ascontiguousarray(array) for array in (kinds, classes, steps, origins, far, surprises, differences)]
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (*arrays, obtained, released)]
    events = int(library.tidemark_follow_free_lists(ctypes.c_int64(len(kinds)), ctypes.c_int64(len(surprises)),
                                                    *pointers))
    if events < 0:
        raise MemoryError
    return events
