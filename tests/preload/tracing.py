"""What the preload tests share: where the built tool is, compiling test programs, recording, reading results back.

Results are read through the tool's own --json and folded output, as a user would. Must not: know the trace format.
"""
import atexit
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ.get("TIDEMARK_BUILD_DIR", ROOT / "build"))
TOOL = BUILD / "tools" / "tidemark"
LIBRARY = BUILD / "interpose" / "libtidemark.so"
PROGRAMS = Path(__file__).resolve().parent / "programs"

# Programs under test start with the signals of a terminal as a terminal leaves them, also where the tests run in the
# background or under nohup, which ignore some.
for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)

SCRATCH = Path(tempfile.mkdtemp(prefix="tidemark-test-"))
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)


def clean_environment(**extra):
    """The environment without anything that steers loaders, locales or tidemark itself."""
    keep = {k: v for k, v in os.environ.items()
            if not k.startswith(("LD_", "TIDEMARK", "MALLOC_", "GLIBC_TUNABLES"))}
    keep.update(LC_ALL="C", XDG_CACHE_HOME=str(SCRATCH / "cache"), **extra)
    return keep


def compile_program(name, *flags, sources=None, output=None, compiler=None):
    """Compiles programs/NAME (or `sources`) and returns the path of the result."""
    sources = sources or [PROGRAMS / name]
    output = output or SCRATCH / (Path(name).stem + "-" + str(abs(hash(flags)) % 10**8))
    if not output.exists():
        compiler = compiler or ("g++" if str(sources[0]).endswith(".cc") else "gcc")
        subprocess.run([compiler, "-O2", "-fno-builtin", *map(str, sources), *flags, "-o", str(output)], check=True)
    return output


def collector_of(path):
    """The pid of the collector that `tidemark record -o PATH` has started: it leads a session of its own."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            if str(path).encode() in (folder / "cmdline").read_bytes() and fields[3] == folder.name:
                return int(folder.name)
        except OSError:
            continue  # it has just ended
    raise AssertionError(f"no collector of {path} found")


class Trace:
    """One trace file, and what the tools say of it."""

    def __init__(self, path):
        self.path = Path(path)

    def tool(self, *arguments):
        done = subprocess.run([TOOL, *map(str, arguments)], capture_output=True, text=True, errors="replace",
                              env=clean_environment(), timeout=300)
        if done.returncode != 0:
            raise AssertionError(f"tidemark {arguments}: exit {done.returncode}: {done.stderr}")
        return done.stdout

    def info(self):
        return json.loads(self.tool("info", self.path, "--json"))

    def report(self, *arguments):
        return json.loads(self.tool("report", self.path, "--json", *arguments))

    def folded(self, metric="count"):
        """{("root", ..., "leaf"): value}"""
        stacks = {}
        for line in self.tool("export", self.path, "--format", "folded", "--metric", metric, "-o", "-").splitlines():
            stack, _, value = line.rpartition(" ")
            stacks[tuple(stack.split(";"))] = int(value)
        return stacks


def record(command, *options, mode="full", environment=None, stdin=None, check=True, timeout=300, cwd=None):
    """Runs `command` under `tidemark record`; returns (finished process, trace of the command itself)."""
    path = Path(tempfile.mkdtemp(dir=SCRATCH)) / "trace.tmk"
    done = subprocess.run([TOOL, "record", "--mode", mode, "-o", path, *options, "--", *map(str, command)],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment or clean_environment(),
                          timeout=timeout, cwd=cwd,
                          **({"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}))
    if check and done.returncode != 0:
        raise AssertionError(f"record {command}: exit {done.returncode}: {done.stderr.decode(errors='replace')}")
    return done, Trace(path)


def preload(command, path, mode="full", options="", environment=None, **keywords):
    """Runs `command` with the bare preload; the trace goes to `path`."""
    environment = dict(environment or clean_environment())
    environment["LD_PRELOAD"] = str(LIBRARY)
    environment["TIDEMARK_OPTIONS"] = f"mode={mode},out={path}" + ("," + options if options else "")
    return subprocess.run([str(c) for c in command], capture_output=True, env=environment, timeout=300, **keywords)


def wait_for_trace(path, deadline_s=120):
    """A bare preload's collector finishes the trace on its own, as nobody's child; waits until it has."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        if Path(path).exists():
            done = subprocess.run([TOOL, "info", path, "--json"], capture_output=True, text=True,
                                  env=clean_environment())
            if done.returncode == 0 and json.loads(done.stdout)["run"]["complete"]:
                return Trace(path)
        time.sleep(0.05)
    raise AssertionError(f"{path} was not finished within {deadline_s} s")
