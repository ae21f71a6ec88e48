"""Who holds the peak, what dies young, what crosses threads: a first look at a trace, as one would take in a notebook.

    python who_lives_how_long.py TRACE.tmk [FOLDER]     pictures go to FOLDER, the current one unless told

Each step asks one question and answers it with a few lines of pandas. Works on full and on sampled traces alike:
`weight_bytes` is what a block stands for, and its own size where every block was seen.
"""
import sys
from pathlib import Path

import tidemark_analysis
from tidemark_analysis import plots

MIB = 1 << 20


def main() -> None:
    trace = tidemark_analysis.open(sys.argv[1])
    folder = Path(sys.argv[2] if len(sys.argv) > 2 else ".")
    for problem in trace.problems():  # a damaged trace is read as far as it goes: say how far
        print(f"note: {problem}")

    # 1. How large did it get, and who held it then? `sites` is one row for each stack that allocated.
    totals = trace.totals()
    peak = totals["peak"]
    print(f"{peak['bytes'] / MIB:.1f} MiB live at the peak, {peak['time_ns'] / 1e9:.2f} s after the start; "
          f"{totals['allocated']['bytes'] / MIB:.1f} MiB allocated in all")
    sites = trace.sites().to_pandas().nlargest(5, "peak_bytes")
    for site in sites.itertuples():
        # The innermost frames are malloc's callers; three levels up one usually recognizes the code.
        frames = " < ".join(trace.frames.label(node) for node in trace.file.stack_of(site.node)[:3])
        print(f"  {site.peak_bytes / MIB:8.2f} MiB  {frames or '[no stack]'}")

    # 2. How much dies young? Age is counted in bytes allocated since birth, which does not depend on the machine: what
    # a nursery of N bytes would catch before its first collection, or a pool that is reset every N bytes.
    curve = trace.survival(clock="bytes", weighted_by="bytes")
    for nursery in (64 << 10, MIB, 16 * MIB):
        print(f"{1 - curve.at(nursery):6.1%} of the bytes die before {nursery >> 10:,} KiB more are allocated")
    median = curve.median()
    print("more than half of the bytes outlive the trace" if median is None
          else f"half of the bytes are dead after {median / 1024:,.1f} KiB")

    # 3. What never dies? Survivors are no leaks yet, for nobody looked whether something points to them.
    blocks = trace.blocks().to_pandas()
    survivors = blocks[blocks["died_ns"].isna()]
    by_size = survivors.groupby("size")["weight_bytes"].sum().nlargest(3)
    print(f"{survivors['weight_bytes'].sum() / 1024:,.0f} KiB were never freed; most of them in blocks of "
          + ", ".join(f"{size:,} bytes ({held / 1024:,.0f} KiB)" for size, held in by_size.items()))

    # 4. Who frees other threads' blocks? Such hand-overs cost an allocator its fast path.
    freed = blocks.dropna(subset=["freed_by"])
    foreign = freed[freed["freed_by"] != freed["thread"]]
    share = foreign["weight_blocks"].sum() / max(freed["weight_blocks"].sum(), 1)
    print(f"{share:.1%} of the freed blocks died by hand-over to another thread")

    # 5. Three pictures to look at for longer.
    axes = plots.survival(curve, label="bytes")
    plots.survival(trace.survival(clock="bytes", weighted_by="blocks"), axes=axes, label="blocks")
    plots.save(axes, str(folder / "survival.svg"))
    plots.save(plots.timeline(trace), str(folder / "timeline.svg"))
    plots.save(plots.size_lifetime_map(trace), str(folder / "sizes_lifetimes.svg"))


if __name__ == "__main__":
    main()
