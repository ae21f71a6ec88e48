"""Where the time goes when a budget is missed: perf's samples by function, of the program and the collector together.

perf samples by timer here (cpu-clock), so that it works in virtual machines without counters. Must not: run for
budgets that are met; a profile nobody needs is time nobody has.
"""
import re
import shutil
import subprocess
from typing import Any

import budgets
import workloads
from measure import fresh_folder, progress
from peers import Tidemark
from workloads import Machine

MOST = 8  # workloads: the worst ones say it all
TOP = 15  # functions of each


def functions_of(text: str) -> list[dict[str, Any]]:
    """From `perf report --sort comm,dso,symbol -F overhead,comm,dso,symbol` lines."""
    found = []
    for line in text.splitlines():
        match = re.match(r"\s*([0-9.]+)%\s+(\S.*?)\s{2,}(\S+)\s+\[(.)\] (.*\S)", line)
        if match:
            function = re.sub(r"(\s+-)+$", "", match[5])  # perf prints columns that it was not asked for
            found.append({"percent": float(match[1]), "process": match[2], "module": match[3], "function": function})
    return sorted(found, key=lambda one: -one["percent"])[:TOP]


def profile(machine: Machine, tidemark: Tidemark, name: str, size: str, mode: str) -> dict[str, Any]:
    if shutil.which("perf") is None:
        return {"gap": "perf is not installed; install the package linux-perf (Debian) or linux-tools (Ubuntu)"}
    table = {workload.name: workload for workload in (*workloads.ALL, workloads.LONG)}
    folder = fresh_folder(machine, "profile")
    try:
        command = table[name].build(machine, size)
    except workloads.Unavailable as error:
        return {"gap": str(error)}
    if command.client:
        return {"gap": "a server with a client is not profiled"}
    environment = [f"{key}={value}" for key, value in command.environment.items()]
    data = folder / "perf.data"
    argv = ["env", *environment, "perf", "record", "-q", "-e", "cpu-clock", "-F", "997", "-o", str(data), "--",
            *tidemark.invoke(mode)(command, folder).argv]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    if result.returncode != 0:
        return {"gap": f"perf record failed: {(result.stderr.strip().splitlines() or ['no message'])[-1][:160]}"}
    shown = subprocess.run(["perf", "report", "-i", str(data), "--stdio", "--no-children", "-g", "none", "--sort",
                            "comm,dso,symbol", "-F", "overhead,comm,dso,symbol"], capture_output=True, text=True,
                           timeout=300)
    return {"mode": mode, "functions": functions_of(shown.stdout)}


def of_missed(report: dict[str, Any], machine: Machine, tidemark: Tidemark) -> dict[str, Any]:
    """{workload: profile} for CPU budgets that were missed, the MOST that missed them by most."""
    found: dict[str, Any] = {}
    for verdict in sorted(report["budgets"], key=lambda one: -one["excess"]):
        name = verdict["scope"]
        if verdict["verdict"] != budgets.MISSED or name not in report["workloads"] or "CPU" not in verdict["budget"]:
            continue
        if name in found or len(found) == MOST:
            continue
        mode = "full" if verdict["budget"].startswith("complete") else "sampled"
        progress(f"profile of {name}, {mode}")
        found[name] = profile(machine, tidemark, name, report["workloads"][name]["size"], mode)
    return found
