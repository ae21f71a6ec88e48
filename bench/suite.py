"""Runs what was asked for and puts the report together; the order of a benchmark is read here.

Must not: render, judge, or know how a number is taken.
"""
import argparse
import json
import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import budgets
import instructions
import measure
import parts
import peers as peer_table
import plots
import profiles
import report_markdown
import trend
import workloads as workload_table
from inputs import Inputs
from peers import Peer, Tidemark
from workloads import Machine, Workload

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("workloads", "instructions", "scale", "contention", "report", "stopped")
QUICK_WORKLOADS_S = 105  # of the three minutes
SLOW_ROUNDS = 3


def say(text: str) -> None:
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    print(f"bench: {text}", file=sys.stderr, flush=True)


def chosen(options: argparse.Namespace, every: tuple[Workload, ...]) -> tuple[list[Workload], set[str]]:
    """The workloads and the parts that --only names, or all of them. Raises ValueError for a name unknown."""
    if not options.only:
        listed = [workload for workload in every if workload.quick or not options.quick]
        return listed, set(PARTS)
    names = [name for name in options.only.split(",") if name]
    known = {workload.name: workload for workload in every}
    for name in names:
        if name not in known and name not in PARTS:
            raise ValueError(f"--only {name}: there is no such workload or part. Workloads: {', '.join(known)}. "
                             f"Parts: {', '.join(PARTS)}.")
    picked = [known[name] for name in names if name in known]
    wanted = {name for name in names if name in PARTS}
    if "workloads" in wanted and not picked:
        picked = [workload for workload in every if workload.quick or not options.quick]
    return picked, wanted | ({"workloads"} if picked else set())


def chosen_peers(options: argparse.Namespace, every: list[Peer]) -> list[Peer]:
    names = {name for name in options.peers.split(",") if name}
    unknown = names - {peer.name for peer in every}
    if unknown:
        raise ValueError(f"--peers {', '.join(sorted(unknown))}: there is no such peer. Peers: "
                         f"{', '.join(peer.name for peer in every)}.")
    if not names:
        return [peer for peer in every if peer.quick_rounds or not options.quick]
    return [peer for peer in every if peer.name in names or peer.name == "glibc"]


def peers_for(workload: Workload, every: list[Peer], slow: bool) -> list[Peer]:
    return [peer for peer in every if not peer.gap and (peer.slow == slow or slow and peer.name == "glibc")
            and (peer.only is None or workload.name in peer.only) and (workload.valgrind or not peer.valgrind)]


def revision() -> str:
    found = subprocess.run(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--tags"], capture_output=True,
                           text=True)
    return found.stdout.strip() if found.returncode == 0 else ""


def measure_workloads(machine: Machine, picked: list[Workload], every: list[Peer], quick: bool,
                      rounds: int) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    deadline = time.monotonic() + QUICK_WORKLOADS_S
    for number, workload in enumerate(picked):
        size = "quick" if quick else "full"
        # What an earlier workload left of its share goes to the later ones.
        share = (deadline - time.monotonic()) / (len(picked) - number) if quick else float("inf")
        usual = peers_for(workload, every, False)
        series = measure.measure_workload(machine, workload, usual, size, rounds, share, quick)
        slow = peers_for(workload, every, True) if not quick else []
        small = measure.measure_workload(machine, workload, slow, "small", min(rounds, SLOW_ROUNDS)) \
            if len(slow) > 1 else {}
        measured[workload.name] = {
            "what": workload.what, "real": workload.real, "load": workload.load, "threads": workload.threads,
            "size": size, "definition": workload_table.definition(machine, workload, size),
            "peers": {name: one.as_json() for name, one in series.items()},
            "small": {name: one.as_json() for name, one in small.items()}}
        glibc = series["glibc"]
        say(f"{workload.name}: " + (f"not run: {glibc.gap}" if glibc.gap else report_markdown.short(series)))
    return measured


def run(options: argparse.Namespace, build: Path) -> int:
    every_workload = workload_table.ALL + ((workload_table.LONG,) if options.long else ())
    tidemark = Tidemark(build / "tools" / "tidemark")
    if not tidemark.program.exists():
        say(f"{tidemark.program} is not built; run ./dev build, or ./dev bench, which does both")
        return 2
    work = build / "bench" / "programs"
    try:
        every_peer = peer_table.all_peers(tidemark, build / "bench", options.quick or options.list)
        picked, wanted = chosen(options, every_workload)
        some_peers = chosen_peers(options, every_peer)
    except ValueError as error:
        say(str(error))
        return 2
    if options.list:
        list_everything(every_workload, every_peer)
        return 0
    begin = time.monotonic()
    workload_table.compile_programs(work)
    machine = Machine(work, Inputs(build / "bench" / "inputs"), build / "bench" / f"scratch-{os.getpid()}")
    rounds = options.runs or (3 if options.quick else 9)
    report: dict[str, Any] = {
        "schema": "tidemark.bench/1", "date": datetime.now().isoformat(timespec="seconds"), "revision": revision(),
        "quick": options.quick, "rounds": rounds, "machine": measure.machine_facts(),
        "peers": {peer.name: {"what": peer.what, "gap": peer.gap} for peer in some_peers},
        "workloads": {}, "instructions": {}, "series": [], "report_10m": {}, "stopped": {}, "profiles": {}}
    try:
        if "workloads" in wanted:
            report["workloads"] = measure_workloads(machine, picked, some_peers, options.quick, rounds)
        if "instructions" in wanted:
            report["instructions"] = instructions.measure(machine.programs, build)
        if "scale" in wanted:
            report["series"] += parts.scale(machine, tidemark, options.quick)
        if "contention" in wanted:
            report["series"] += parts.contention(machine, tidemark, options.quick)
        if "report" in wanted:
            report["report_10m"] = parts.report_on_ten_million(machine, tidemark)
        if "stopped" in wanted:
            report["stopped"] = parts.stopped_collector(machine, tidemark, 2.0 if options.quick else 10.0)
        report["budgets"] = [verdict.as_json() for verdict in budgets.judge(report)]
        if not options.quick:
            report["profiles"] = profiles.of_missed(report, machine, tidemark)
    finally:
        machine.remove_scratch()
    report["seconds"] = time.monotonic() - begin
    folder = store(report, options.output or build / "bench" / "reports")
    text = (folder / "report.md").read_text(encoding="utf-8")
    print(report_markdown.beginning(text))
    say(f"{time.monotonic() - begin:.0f} s; the whole report: {folder / 'report.md'}")
    return 0


def store(report: dict[str, Any], reports: Path) -> Path:
    """Writes report.json, report.md and the plots into a folder of their own."""
    earlier = trend.last_report(reports, report)
    report["trend"] = trend.against(earlier, report)
    folder = reports / report["date"].replace(":", "")
    folder.mkdir(parents=True, exist_ok=True)
    drawn = plots.write_all(report, folder)
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (folder / "report.md").write_text(report_markdown.render(report, drawn), encoding="utf-8")
    return folder


def list_everything(every_workload: tuple[Workload, ...], every_peer: list[Peer]) -> None:
    for workload in every_workload:
        print(f"workload  {workload.name:24} {workload.what}")
    for peer in every_peer:
        print(f"peer      {peer.name:24} {peer.what}{' - gap: ' + peer.gap if peer.gap else ''}")
    for part in PARTS:
        print(f"part      {part}")
