"""Runs commands and takes their cost: interleaved rounds, so that a machine that grows slower slows all alike.

A run that fails becomes a text in the result (a "gap"), never an exception. Must not: judge numbers.
"""
import os
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from peers import Peer
from runs import Failed, Run, run_once
from workloads import Machine, Unavailable, Workload


@dataclass
class Series:
    """The runs of one peer on one workload, or why there are none."""
    size: str
    runs: list[Run] = field(default_factory=list)
    gap: str = ""
    facts: dict[str, Any] = field(default_factory=dict)  # of the last run: events, unwinding, analysis

    def as_json(self) -> dict[str, Any]:
        return {"size": self.size, "gap": self.gap, "runs": [asdict(run) for run in self.runs], "facts": self.facts}


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text[:118]}", end="", file=sys.stderr, flush=True)


def fresh_folder(machine: Machine, name: str) -> Path:
    folder = machine.scratch / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def measure_workload(machine: Machine, workload: Workload, peers: Iterable[Peer], size: str, rounds: int,
                     seconds: float = float("inf"), quick: bool = False) -> dict[str, Series]:
    """Interleaved rounds of all peers. Stops early, after a whole round, when `seconds` would be exceeded."""
    peers = list(peers)
    results = {peer.name: Series(size) for peer in peers}
    digest = ""
    begin = time.monotonic()
    for number in range(rounds):
        round_begin = time.monotonic()
        for peer in peers:
            series = results[peer.name]
            if series.gap or quick and number >= max(1, peer.quick_rounds):
                continue
            progress(f"{workload.name} ({size}): round {number + 1} of {rounds}, {peer.name}")
            folder = fresh_folder(machine, f"{workload.name}-{peer.name}")
            try:
                command = workload.build(machine, size)
                invocation = peer.invoke(command, folder)
                outcome = run_once(machine, invocation, command, folder)
            except (Failed, Unavailable) as error:
                series.gap = str(error)
                continue
            series.runs.append(outcome.run)
            if invocation.plain_stdout and not command.client:
                digest = digest or outcome.digest
                if outcome.digest != digest:
                    series.facts["output_differs"] = True
        now = time.monotonic()
        if number + 1 < rounds and now - begin + (now - round_begin) > seconds:
            break
    for peer in peers:
        folder = machine.scratch / f"{workload.name}-{peer.name}"
        if results[peer.name].runs and not results[peer.name].gap:
            progress(f"{workload.name} ({size}): looking at what {peer.name} wrote")
            results[peer.name].facts.update(peer.examine(machine, folder))
        shutil.rmtree(folder, ignore_errors=True)
    return results


def machine_facts() -> dict[str, Any]:
    model = ""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    name = os.uname()
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "kernel": f"{name.sysname} {name.release}",
            "load_1min": os.getloadavg()[0]}
