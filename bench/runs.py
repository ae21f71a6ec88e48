"""One run: a process tree under tree_cost (see there), and what it cost everybody.

Failures are Failed with a text: a peer that cannot run a workload is something to report, not a reason to stop.
Must not: know of rounds or of peers.
"""
import hashlib
import json
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workloads import Command, Machine


@dataclass
class Invocation:
    """How a peer runs a command."""
    argv: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    written: Path | None = None  # what the profiler writes: this name, and names that begin with it
    is_host: bool = True  # the process that is started is the program itself, or becomes larger than it nowhere
    plain_stdout: bool = True  # nothing but the program's own output

    def outputs(self) -> list[Path]:
        return sorted(self.written.parent.glob(self.written.name + "*")) if self.written else []


@dataclass
class Run:
    """What one run cost. Seconds and bytes."""
    user_s: float
    system_s: float
    other_s: float  # of cpu_s, what processes took that outlived the command: daemonised collectors
    wall_s: float  # of the command; profilers' daemons may end later
    host_peak_bytes: int
    tree_peak_bytes: int
    output_bytes: int = 0  # what the profiler wrote

    @property
    def cpu_s(self) -> float:
        return self.user_s + self.system_s


class Failed(Exception):
    """A run that gave no numbers; the text says why."""


def last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1].strip()[:200] if lines else "it printed nothing"


@dataclass
class Outcome:
    run: Run
    digest: str


def run_once(machine: Machine, invocation: Invocation, command: Command, folder: Path,
             timeout_s: float = 300) -> Outcome:
    """Runs a command under tree_cost. Raises Failed."""
    result_path, stdout_path, stderr_path = folder / "cost.json", folder / "stdout", folder / "stderr"
    argv = [str(machine.programs / "tree_cost"), "--host", command.host, "--timeout-s", str(timeout_s)]
    for name, value in {**command.environment, **invocation.environment}.items():
        argv += ["--env", f"{name}={value}"]
    argv += [str(result_path), *invocation.argv]
    client_error: list[BaseException] = []

    def use() -> None:
        try:
            command.client()
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            client_error.append(error)

    with stdout_path.open("wb") as stdout, stderr_path.open("wb") as stderr:
        process = subprocess.Popen(argv, cwd=folder, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
        client = threading.Thread(target=use) if command.client else None
        if client:
            client.start()
        try:
            status = process.wait()
        except BaseException:
            process.terminate()
            raise
        if client:
            client.join()
    if status != 0 or not result_path.exists():
        raise Failed(f"tree_cost exited with status {status}: {last_line(stderr_path)}")
    cost = json.loads(result_path.read_text())
    if cost["timed_out"]:
        raise Failed(f"did not end within {timeout_s:.0f} s")
    if client_error:
        raise Failed(f"its client failed: {client_error[0]}")
    if cost["status"] != 0:
        raise Failed(f"exited with status {cost['status']}: {last_line(stderr_path)}")
    host_peak = cost["command_rss"] if invocation.is_host else cost["host_peak_rss"]
    run = Run(user_s=(cost["user_us"] + cost["other_user_us"]) / 1e6,
              system_s=(cost["system_us"] + cost["other_system_us"]) / 1e6,
              other_s=(cost["other_user_us"] + cost["other_system_us"]) / 1e6, wall_s=cost["command_s"],
              host_peak_bytes=host_peak, tree_peak_bytes=max(cost["tree_peak_rss"], host_peak),
              output_bytes=sum(path.stat().st_size for path in invocation.outputs()))
    return Outcome(run, hashlib.sha256(stdout_path.read_bytes()).hexdigest())


def cost_of(machine: Machine, argv: list[str], folder: Path, timeout_s: float = 120) -> dict[str, Any]:
    """What a command of analysis cost: {"wall_s", "cpu_s", "peak_bytes"} or {"gap"}."""
    command = Command(argv)
    try:
        run = run_once(machine, Invocation(argv), command, folder, timeout_s).run
    except Failed as error:
        return {"gap": str(error)}
    return {"wall_s": run.wall_s, "cpu_s": run.cpu_s, "peak_bytes": run.tree_peak_bytes}
