"""Pictures with matplotlib: survival curve, timeline, map of sizes and lifetimes.

Each function draws on axes that it is given or makes, and returns them, so that pictures can be put together. Must not:
choose a backend, show a window, or compute more than bins.
"""
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .blocks import NEVER
from .estimator import Floats
from .survival import Survival
from .table import needs
from .trace import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MIB = 1 << 20


def _axes(axes: Axes | None) -> Axes:
    if axes is not None:
        return axes
    try:
        from matplotlib.figure import Figure  # not pyplot: no global state, no window
    except ImportError as error:
        raise needs("plots", "matplotlib") from error
    return Figure(figsize=(9, 5), layout="constrained").add_subplot()


def save(axes: Axes, path: str) -> None:
    """Writes the figure of these axes; the suffix says in which format."""
    figure: Any = axes.figure
    figure.savefig(path)


def survival(curve: Survival, axes: Axes | None = None, label: str | None = None) -> Axes:
    """S(age) on a logarithmic axis of ages, with its 95 % band."""
    axes = _axes(axes)
    factor = 1e-9 if curve.clock == "time" else 1 / _MIB
    positive = curve.age > 0
    ages = curve.age[positive] * factor
    line = axes.step(ages, curve.share[positive], where="post", label=label or f"by {curve.weighted_by}")[0]
    axes.fill_between(ages, curve.low[positive], curve.high[positive], step="post", alpha=0.2, color=line.get_color())
    axes.set(xscale="log", ylim=(0, 1.02), ylabel=f"share of {curve.weighted_by} still alive",
             xlabel="age in seconds" if curve.clock == "time" else "age in MiB allocated meanwhile")
    axes.legend(loc="upper right")
    return axes


def timeline(trace: Trace, points: int = 500, axes: Axes | None = None) -> Axes:
    """Live bytes, their peak, and what the kernel counted as resident."""
    axes = _axes(axes)
    table, memory = trace.timeline(points), trace.memory()
    seconds = table["time_ns"] / 1e9
    axes.fill_between(seconds, table["live_bytes"] / _MIB, alpha=0.4, label="live, as requested")
    axes.plot(seconds, table["highest_live_bytes"] / _MIB, linewidth=0.8, label="highest in the span")
    if memory.rows and memory["rss"].any():
        axes.plot(memory["time_ns"] / 1e9, memory["rss"] / _MIB, color="black", linewidth=0.8, label="RSS")
    totals = trace.totals()
    axes.plot(totals["peak"]["time_ns"] / 1e9, totals["peak"]["bytes"] / _MIB, "v", color="red", label="peak")
    axes.set(xlabel="seconds", ylabel="MiB", ylim=(0, None))
    axes.legend(loc="upper right")
    return axes


def size_lifetime_bins(trace: Trace, lifetime_bins: int = 40) -> tuple[Floats, Floats, Floats]:
    """(bytes by size and lifetime, edges of sizes, edges of lifetimes in seconds). The last column of lifetimes holds
    what did not die."""
    blocks, weights = trace.model.blocks, trace.model.weights.bytes
    times = trace.file.clock.times_ns(trace.file.events.tsc)
    sizes = np.log2(blocks.size.astype(np.float64))
    dead = (blocks.died != NEVER) & ~blocks.implied
    lifetimes = np.zeros(len(blocks))
    lifetimes[dead] = np.maximum(times[blocks.died[dead]] - times[blocks.born[dead]], 1) / 1e9
    longest = max(float(lifetimes.max(initial=0.0)), 1e-6)
    edges = np.concatenate((np.zeros(1), np.geomspace(1e-7, longest * 1.0001, lifetime_bins)))
    size_edges = np.arange(0, np.ceil(sizes.max(initial=4.0)) + 2)
    counts, _, _ = np.histogram2d(sizes[dead], lifetimes[dead], bins=(size_edges, edges), weights=weights[dead])
    survivors, _ = np.histogram(sizes[~dead], bins=size_edges, weights=weights[~dead])
    return np.column_stack((counts, survivors)), size_edges, edges


def size_lifetime_map(trace: Trace, axes: Axes | None = None) -> Axes:
    """Where the allocated bytes are: size upwards, lifetime to the right, survivors in a column of their own."""
    axes = _axes(axes)
    bins, size_edges, edges = size_lifetime_bins(trace)
    from matplotlib.colors import LogNorm

    columns = np.arange(bins.shape[1] + 1)
    shown = np.ma.masked_equal(bins, 0)
    norm = LogNorm() if shown.count() and float(shown.min()) < float(shown.max()) else None
    mesh = axes.pcolormesh(columns, size_edges, shown, norm=norm, cmap="viridis")
    axes.figure.colorbar(mesh, ax=axes, label="bytes allocated")
    ticks = list(range(0, len(edges) - 1, 8))
    axes.set_xticks([*ticks, bins.shape[1] - 0.5], [*(f"{edges[tick]:.0e}" for tick in ticks), "alive"])
    sizes = [int(size) for size in size_edges[::4]]
    axes.set_yticks(sizes, [f"{1 << size:,}" for size in sizes])
    axes.set(xlabel="lifetime in seconds", ylabel="size in bytes")
    return axes
