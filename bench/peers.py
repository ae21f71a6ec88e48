"""The table of peers: each a way to run a command, from plain glibc to tidemark recording everything.

What is missing on a machine is a gap with a reason that the report prints. Must not: know of workloads, or measure.
"""
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from runs import Invocation, cost_of
from workloads import Command, Machine

LIBRARY_FOLDERS = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")


def nothing(_machine: Machine, _folder: Path) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Peer:
    name: str
    what: str
    invoke: Callable[[Command, Path], Invocation]
    gap: str = ""  # why it cannot run here
    slow: bool = False  # measured at size "small", with a baseline of its own, and not in --quick
    valgrind: bool = False
    only: frozenset[str] | None = None  # the workloads that it is for
    quick_rounds: int = 99  # at most so many with --quick; 0: not in it
    examine: Callable[[Machine, Path], dict[str, Any]] = nothing


@cache
def library(*names: str) -> str:
    """Path of the first of these libraries that is installed, or ''."""
    for folder in LIBRARY_FOLDERS:
        for name in names:
            if (Path(folder) / name).exists():
                return str(Path(folder) / name)
    return ""


def baseline(command: Command, _folder: Path) -> Invocation:
    preload = {"LD_PRELOAD": command.baseline_preload} if command.baseline_preload else {}
    return Invocation(command.argv, preload)


def preloaded(path: str, **environment: str) -> Callable[[Command, Path], Invocation]:
    return lambda command, folder: Invocation(
        command.argv,
        {"LD_PRELOAD": path, **{name: value.format(folder=folder) for name, value in environment.items()}})


def preload_peer(name: str, what: str, path: str, package: str, slow: bool = False, **environment: str) -> Peer:
    gap = "" if path else f"not installed; install the package {package}"
    return Peer(name, what, preloaded(path, **environment), gap=gap, slow=slow)


def jemalloc_profiling() -> Peer:
    path = library("libjemalloc.so.2")
    peer = preload_peer("jemalloc-prof", "jemalloc, prof:true, prof_active:true, one sample per 512 KiB", path,
                        "libjemalloc2", MALLOC_CONF="prof:true,prof_active:true,lg_prof_sample:19,prof_final:true,"
                        "prof_prefix:{folder}/jeprof")
    if not path:
        return peer
    probe = subprocess.run(["true"], env={**os.environ, "LD_PRELOAD": path, "MALLOC_CONF": "prof:true"},
                           capture_output=True, text=True)
    if "jemalloc" in probe.stderr:
        return Peer(peer.name, peer.what, peer.invoke, gap="this libjemalloc is built without profiling")
    return peer


# --- Profilers that are programs --------------------------------------------------------------------------------------

def heaptrack(record_only: bool) -> Callable[[Command, Path], Invocation]:
    def invoke(command: Command, folder: Path) -> Invocation:
        written = folder / "heaptrack"
        options = ["-r"] if record_only else []
        return Invocation(["heaptrack", *options, "-o", str(written), *command.argv], written=written, is_host=False,
                          plain_stdout=False)
    return invoke


def heaptrack_analysis(machine: Machine, folder: Path) -> dict[str, Any]:
    traces = sorted(folder.glob("heaptrack*.zst")) + sorted(folder.glob("heaptrack*.gz"))
    if not traces or shutil.which("heaptrack_print") is None:
        return {}
    return {"analysis": {"command": "heaptrack_print", **cost_of(machine, ["heaptrack_print", str(traces[0])], folder)}}


def valgrind(tool: str, option: str) -> Callable[[Command, Path], Invocation]:
    def invoke(command: Command, folder: Path) -> Invocation:
        written = folder / f"{tool}.out"
        argv = ["valgrind", f"--tool={tool}", f"{option}={written}", "--quiet", *command.argv]
        return Invocation(argv, written=written)
    return invoke


def program_peer(name: str, what: str, program: str, invoke: Callable[[Command, Path], Invocation],
                 **keywords: Any) -> Peer:
    gap = "" if shutil.which(program) else f"not installed; install the package {program}"
    return Peer(name, what, invoke, gap=gap, **keywords)


def memray(folder: Path, download: bool) -> Peer:
    """From the Python package index, into an environment of its own, because no distribution has it."""
    interpreter = folder / "bin" / "python"

    def invoke(command: Command, run_folder: Path) -> Invocation:
        written = run_folder / "memray.bin"
        return Invocation([str(interpreter), "-m", "memray", "run", "--native", "-q", "-f", "-o", str(written),
                           command.argv[-1]], written=written)

    gap = ""
    if not (folder / "memray-is-here").exists() and download:
        try:
            subprocess.run(["/usr/bin/python3", "-m", "venv", "--clear", str(folder)], check=True, capture_output=True,
                           text=True, timeout=120)
            subprocess.run([str(interpreter), "-m", "pip", "install", "--quiet", "memray"], check=True,
                           capture_output=True, text=True, timeout=300)
            (folder / "memray-is-here").touch()
        except (OSError, subprocess.SubprocessError) as error:
            words = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
            gap = f"pip could not install it: {words[-1][:160] if words else error}"
    elif not (folder / "memray-is-here").exists():
        gap = "not installed yet; a run without --quick installs it by pip"
    return Peer("memray", "memray run --native", invoke, gap=gap, only=frozenset({"python3"}), slow=True)


# --- tidemark ---------------------------------------------------------------------------------------------------------

class Tidemark:
    """The program under test, from a build directory."""

    def __init__(self, program: Path) -> None:
        self.program = program

    def invoke(self, mode: str, *options: str) -> Callable[[Command, Path], Invocation]:
        def invocation(command: Command, folder: Path) -> Invocation:
            written = folder / "trace.tmk"
            argv = [str(self.program), "record", "-q", "--mode", mode, *options, "-o", str(written), "--"]
            return Invocation(argv + command.argv, written=written)
        return invocation

    def info(self, trace: Path) -> dict[str, Any]:
        result = subprocess.run([str(self.program), "info", str(trace), "--json"], capture_output=True, text=True)
        if result.returncode != 0:
            return {}
        return json.loads(result.stdout)

    def examine(self, machine: Machine, folder: Path) -> dict[str, Any]:
        """What the trace of the last run tells: events, losses, unwinding; and what a report on it costs."""
        traces = sorted(folder.glob("trace.tmk*"), key=lambda path: -path.stat().st_size)
        if not traces:
            return {"problem": "no trace was written"}
        info = self.info(traces[0])
        if not info:
            return {"problem": f"{traces[0].name} is not readable"}
        run = info["run"]
        facts = {"events": {kind: counts["recorded"] for kind, counts in run["events"].items()},
                 "observed": sum(counts["observed"] for counts in run["events"].values()),
                 "dropped": sum(counts["dropped"] for counts in run["events"].values()),
                 "trace_bytes": traces[0].stat().st_size, "stacks": info["stacks"], "nodes": info["nodes"],
                 "unwinding": run["unwinding"], "collector_cpu_us": info["collector_cpu_us"],
                 "bypassed": run["bypassed"], "problems": info["problems"][:5],
                 "own_cost": info.get("cost")}
        facts["analysis"] = {"command": "tidemark report",
                             **cost_of(machine, [str(self.program), "report", str(traces[0])], folder)}
        return facts

    def cpu_sampling_gap(self) -> str:
        probe = subprocess.run([str(self.program), "record", "-q", "--cpu", "100", "-o", "/dev/null", "--", "true"],
                               capture_output=True, text=True)
        if probe.returncode == 0:
            return ""
        return "this build cannot sample CPU: " + (probe.stderr.strip().splitlines() or ["no message"])[-1][:160]

    def peers(self) -> list[Peer]:
        missing = "" if self.program.exists() else f"there is no {self.program.name} in the build directory"
        return [
            Peer("tidemark-sampled", "record, one sample per 512 KiB", self.invoke("sampled"), gap=missing,
                 examine=self.examine),
            Peer("tidemark-full", "record --mode full", self.invoke("full"), gap=missing, examine=self.examine),
            Peer("tidemark-cpu", "record --cpu 100", self.invoke("sampled", "--cpu", "100"),
                 gap=missing or self.cpu_sampling_gap(),
                 only=frozenset({"sqlite3", "python3", "cc1plus", "bignum"}), examine=self.examine),
        ]


def all_peers(tidemark: Tidemark, environments: Path, quick: bool) -> list[Peer]:
    tcmalloc = library("libtcmalloc.so.4")
    return [
        Peer("glibc", "the program as it is", baseline),
        preload_peer("mimalloc", "preloaded", library("libmimalloc.so.2", "libmimalloc.so"), "libmimalloc2.0"),
        preload_peer("jemalloc", "preloaded", library("libjemalloc.so.2"), "libjemalloc2"),
        jemalloc_profiling(),
        preload_peer("gperftools-sampled", "tcmalloc, TCMALLOC_SAMPLE_PARAMETER=524288", tcmalloc, "google-perftools",
                     TCMALLOC_SAMPLE_PARAMETER="524288"),
        program_peer("heaptrack-record", "heaptrack -r: recording only", "heaptrack", heaptrack(True),
                     quick_rounds=0),
        program_peer("heaptrack", "heaptrack, all of it", "heaptrack", heaptrack(False), quick_rounds=1,
                     examine=heaptrack_analysis),
        *tidemark.peers(),
        preload_peer("gperftools-heapprofile", "tcmalloc, HEAPPROFILE: every allocation", tcmalloc, "google-perftools",
                     slow=True, HEAPPROFILE="{folder}/heapprofile"),
        program_peer("massif", "valgrind --tool=massif", "valgrind", valgrind("massif", "--massif-out-file"), slow=True,
                     valgrind=True),
        program_peer("dhat", "valgrind --tool=dhat", "valgrind", valgrind("dhat", "--dhat-out-file"), slow=True,
                     valgrind=True),
        memray(environments / "memray", download=not quick),
    ]

