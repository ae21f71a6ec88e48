"""Measurements beside the workload tables: cost per event as something grows, cost per sample as threads are added, a
report on ten million events, and a collector that is stopped for some seconds.

A series is {"name", "title", "x", "y", "lines": {line: [[x, y], ...]}, "gap"}; plots.py draws it, budgets.py judges
it. Must not: depend on what the workload tables measured.
"""
import contextlib
import os
import signal
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peers
from measure import fresh_folder, progress
from peers import Peer, Tidemark
from runs import Failed, Run, cost_of, run_once
from workloads import Command, Machine

SAMPLE_BYTES = 4096  # so small that sampling is what is measured: one in 64 blocks of 64 bytes
RING_BYTES = "64M"  # and so much room that nothing is dropped: a sample that is dropped costs less


def mimalloc_peer() -> Peer | None:
    path = peers.library("libmimalloc.so.2", "libmimalloc.so")
    return Peer("mimalloc", "", peers.preloaded(path)) if path else None


def medians(machine: Machine, command: Command, these: list[Peer], rounds: int,
            seen: Callable[[str, Path], None] | None = None) -> dict[str, dict[str, float]]:
    """{peer: {"cpu": s, "other": s}}, medians of interleaved rounds. Raises Failed."""
    runs: dict[str, list[Run]] = {peer.name: [] for peer in these}
    for number in range(rounds):
        for peer in these:
            folder = fresh_folder(machine, f"part-{peer.name}")
            progress(f"{' '.join(command.argv[:4])}: round {number + 1}, {peer.name}")
            runs[peer.name].append(run_once(machine, peer.invoke(command, folder), command, folder).run)
            if seen and number + 1 == rounds:
                seen(peer.name, folder)
    return {name: {"cpu": statistics.median(run.cpu_s for run in some),
                   "other": statistics.median(run.other_s for run in some)} for name, some in runs.items()}


# --- Scale ------------------------------------------------------------------------------------------------------------

def cost_per_event(machine: Machine, tidemark: Tidemark, title: str, x_name: str, points: list[tuple[int, list, int]],
                   idle: list, rounds: int) -> dict[str, Any]:
    """points: (x, command, events). What full recording adds to mimalloc, less what it adds to a program that does
    nothing, per event."""
    series: dict[str, Any] = {"name": f"scale-{x_name.replace(' ', '-')}", "title": title, "x": x_name,
                              "y": "ns of CPU added per event", "lines": {}, "gap": ""}
    mimalloc = mimalloc_peer()
    if mimalloc is None:
        series["gap"] = "mimalloc, the baseline, is not installed"
        return series
    these = [mimalloc, Peer("full", "", tidemark.invoke("full"))]
    try:
        start = medians(machine, machine.own(*idle), these, rounds)
        everybody, program = [], []
        for x, command, events in points:
            cost = medians(machine, machine.own(*command), these, rounds)
            added = cost["full"]["cpu"] - cost["mimalloc"]["cpu"] - (start["full"]["cpu"] - start["mimalloc"]["cpu"])
            collector = cost["full"]["other"] - start["full"]["other"]
            everybody.append([x, added / events * 1e9])
            program.append([x, (added - collector) / events * 1e9])
        series["lines"] = {"all processes": everybody, "in the program": program}
    except Failed as error:
        series["gap"] = str(error)
    return series


def scale(machine: Machine, tidemark: Tidemark, quick: bool) -> list[dict[str, Any]]:
    rounds = 1 if quick else 3
    million = 1_000_000
    events = 2 * million if quick else 20 * million
    numbers = [million, 4 * million] if quick else [million, 10 * million, 100 * million]
    threads = [1, 1000] if quick else [1, 10, 100, 1000]
    stacks = [10, 1_000, 100_000] if quick else [10, 100, 1_000, 10_000, 100_000]
    return [
        cost_per_event(machine, tidemark, "Cost per event by number of events (slots)", "events",
                       [(n, ["slots", n], n) for n in numbers], ["slots", 2], rounds),
        cost_per_event(machine, tidemark, f"Cost per event by number of threads ({events:,} events in all)", "threads",
                       [(n, ["threads", "concurrent", n, events], events) for n in threads],
                       ["threads", "concurrent", 1, 2], rounds),
        cost_per_event(machine, tidemark, f"Cost per event by number of different stacks ({events:,} events)",
                       "stacks", [(n, ["stacks", n, events], events) for n in stacks], ["stacks", 1, 2], rounds),
    ]


def contention(machine: Machine, tidemark: Tidemark, quick: bool) -> list[dict[str, Any]]:
    """Equal work for every thread: if the sampled path shared anything that is written, a sample would cost more."""
    pairs = 1_000_000 if quick else 8_000_000
    rounds = 2 if quick else 5
    series: dict[str, Any] = {"name": "contention", "title": "Cost of a sample by number of threads (sampled mode, one "
                              f"sample per {SAMPLE_BYTES} bytes, blocks of 64 bytes)", "x": "threads",
                              "y": "us of CPU per sample", "lines": {}, "gap": ""}
    mimalloc = mimalloc_peer()
    if mimalloc is None:
        series["gap"] = "mimalloc, the baseline, is not installed"
        return [series]
    options = ("--sample-bytes", str(SAMPLE_BYTES), "--ring-bytes", RING_BYTES)
    these = [mimalloc, Peer("sampled", "", tidemark.invoke("sampled", *options))]
    samples = {"alloc": 0, "dropped": 0}

    def count_samples(name: str, folder: Path) -> None:
        if name == "sampled":
            info = tidemark.info(folder / "trace.tmk")
            if not info:
                raise Failed("the trace is not readable")
            events = info["run"]["events"]
            samples.update(alloc=events["alloc"]["observed"], dropped=sum(e["dropped"] for e in events.values()))

    try:
        start = medians(machine, machine.own("pairs", 1, 64, 1), these, rounds)
        line, program = [], []
        for threads in (1, 2, 4, 8):
            cost = medians(machine, machine.own("pairs", pairs, 64, threads), these, rounds, count_samples)
            added = cost["sampled"]["cpu"] - cost["mimalloc"]["cpu"] - (start["sampled"]["cpu"]
                                                                        - start["mimalloc"]["cpu"])
            count = max(1, samples["alloc"])
            line.append([threads, added / count * 1e6])
            program.append([threads, (added - cost["sampled"]["other"] + start["sampled"]["other"]) / count * 1e6])
        series["lines"] = {"all processes": line, "in the program": program}
        series["dropped"] = samples["dropped"]
    except Failed as error:
        series["gap"] = str(error)
    return [series]


# --- A report on ten million events -----------------------------------------------------------------------------------

def report_on_ten_million(machine: Machine, tidemark: Tidemark) -> dict[str, Any]:
    found: dict[str, Any] = {}
    programs = {"few stacks": ("slots", 10_000_000), "10,000 stacks": ("stacks", 10_000, 10_000_000)}
    for name, arguments in programs.items():
        progress(f"a report on 10 million events, {name}")
        command = machine.own(*arguments)
        folder = fresh_folder(machine, "part-report")
        try:
            run_once(machine, tidemark.invoke("full")(command, folder), command, folder)
            trace = folder / "trace.tmk"
            found[name] = {"trace_bytes": trace.stat().st_size,
                           **cost_of(machine, [str(tidemark.program), "report", str(trace)], folder)}
        except (Failed, OSError) as error:
            found[name] = {"gap": str(error)}
    return found


# --- A collector that stands still ------------------------------------------------------------------------------------

def collectors(trace: Path, program: Path) -> Iterator[int]:
    """Processes of the program that lead a session of their own and have this trace in their command line."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            session = int((entry / "stat").read_text().rpartition(")")[2].split()[3])
            same = os.path.samefile(entry / "exe", program)
            if same and session == int(entry.name) and str(trace).encode() in words:
                yield int(entry.name)


def stop_one(machine: Machine, tidemark: Tidemark, mode: str, seconds: float) -> dict[str, Any]:
    """Stops the collector of a running program for some seconds. Tells what the program felt and what was lost."""
    command = machine.own("slots", 20_000_000)
    folder = fresh_folder(machine, "part-stopped")
    undisturbed = run_once(machine, tidemark.invoke(mode)(command, folder), command, folder).run.wall_s
    folder = fresh_folder(machine, "part-stopped")
    invocation = tidemark.invoke(mode)(command, folder)
    begin = time.monotonic()
    process = subprocess.Popen(invocation.argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder)
    stopped: list[int] = []
    try:
        while not stopped and time.monotonic() - begin < 5 and process.poll() is None:
            stopped = list(collectors(folder / "trace.tmk", tidemark.program))
            time.sleep(0.002)
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        if not stopped:
            raise Failed("its collector was not found")
        program_end = None
        while time.monotonic() - begin < seconds:
            if program_end is None and not running_below(process.pid, command.host):
                program_end = time.monotonic() - begin
            time.sleep(0.01)
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    process.wait(60)
    all_s = time.monotonic() - begin
    info = tidemark.info(folder / "trace.tmk")
    events = info["run"]["events"].values() if info else []
    return {"stopped_s": seconds, "undisturbed_s": undisturbed, "program_s": program_end, "all_s": all_s,
            "status": process.returncode, "readable": bool(info), "observed": sum(e["observed"] for e in events),
            "dropped": sum(e["dropped"] for e in events)}


def running_below(pid: int, name: str) -> bool:
    """Whether a child of this process has this name and has not ended."""
    with contextlib.suppress(OSError):
        for child in (Path(f"/proc/{pid}/task/{pid}/children")).read_text().split():
            stat = Path(f"/proc/{child}/stat").read_text()
            if f"({name[:15]})" in stat and stat.rpartition(")")[2].split()[0] != "Z":
                return True
    return False


def stopped_collector(machine: Machine, tidemark: Tidemark, seconds: float) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for mode in ("sampled", "full"):
        progress(f"a collector stopped for {seconds:.0f} s, {mode}")
        try:
            found[mode] = stop_one(machine, tidemark, mode, seconds)
        except (Failed, OSError, subprocess.TimeoutExpired) as error:
            found[mode] = {"gap": str(error)}
    return found
