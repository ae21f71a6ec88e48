"""The table of workloads: what runs, at which sizes, under which load, on how many threads.

A workload is one command. Its sizes are "full" (half a second of glibc's time, of real programs one: start-up is a
percent), "quick" (a tenth of a second), and "small" for peers that are a hundred times slower. Must not: know of
profilers; peers.py does.
"""
import hashlib
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from inputs import Inputs

SOURCES = Path(__file__).resolve().parent / "workloads"
COMPILER_OPTIONS = ("-std=c++20", "-O2", "-g", "-fomit-frame-pointer", "-pthread")
SIZES = ("small", "quick", "full")
# Some programs come from version managers as shell wrappers; the system's own are meant.
PYTHON = "/usr/bin/python3"


@dataclass
class Command:
    """What is run, and around what."""
    argv: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    # A process of its own that uses the program and ends it; its CPU is nobody's.
    client: Callable[[], None] | None = None
    # The allocator that is meant by "glibc" has to be said: the program brings another one as a library.
    baseline_preload: str = ""

    @property
    def host(self) -> str:
        return Path(self.argv[0]).name


class Unavailable(Exception):
    """A program that this machine does not have; the text says which, and what to install."""


@dataclass(frozen=True)
class Workload:
    name: str
    what: str
    build: Callable[["Machine", str], Command]  # (machine, size)
    real: bool = False
    load: str = "constant"
    threads: int = 1
    quick: bool = True  # part of --quick
    valgrind: bool = True  # makes sense in a machine that runs one thread at a time


@dataclass
class Machine:
    """What the workloads find here: compiled programs, inputs, a folder to work in."""
    programs: Path
    inputs: Inputs
    scratch: Path

    def remove_scratch(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)

    def own(self, name: str, *arguments: object) -> Command:
        return Command([str(self.programs / name), *map(str, arguments)])


def tool(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise Unavailable(f"{name} is not installed; install the package {package}")
    return path


def compile_programs(folder: Path) -> None:
    """As an application is built: optimised and without frame pointers. Recompiles what is older than its source."""
    folder.mkdir(parents=True, exist_ok=True)
    header_time = max(path.stat().st_mtime for path in SOURCES.glob("*.h"))
    for source in [*sorted(SOURCES.glob("*.cc")), SOURCES.parent / "tree_cost.cc"]:
        program = folder / source.stem
        if program.exists() and program.stat().st_mtime > max(source.stat().st_mtime, header_time):
            continue
        command = ["g++", *COMPILER_OPTIONS, str(source), "-o", str(program)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            raise RuntimeError(f"bench: {source} does not compile: {' '.join(command)}\n{result.stderr}")


def definition(machine: Machine, workload: Workload, size: str) -> str:
    """A digest of what the workload does: reports of different work are not compared."""
    try:
        argv = workload.build(machine, size).argv
    except Unavailable:
        return ""
    source = SOURCES / f"{Path(argv[0]).name}.cc"
    made_from = source if source.exists() else SOURCES.parent / "inputs.py"
    words = [Path(word).name for word in argv]
    return hashlib.sha256(made_from.read_bytes() + repr(words).encode()).hexdigest()[:16]


def own(name: str, small: tuple, quick: tuple, full: tuple) -> Callable[[Machine, str], Command]:
    sizes = dict(zip(SIZES, (small, quick, full)))
    return lambda machine, size: machine.own(name, *sizes[size])


# --- Real programs ----------------------------------------------------------------------------------------------------

SCALES = {"small": 0.1, "quick": 0.3, "full": 2.0}


def sqlite3(machine: Machine, size: str) -> Command:
    script = machine.inputs.path("sql", SCALES[size])
    return Command([tool("sqlite3", "sqlite3"), "-init", "/dev/null", ":memory:", f".read {script}"])


def python3(machine: Machine, size: str) -> Command:
    if not Path(PYTHON).exists():
        raise Unavailable(f"{PYTHON} is not there; install the package python3")
    return Command([PYTHON, "-s", str(machine.inputs.path("py", SCALES[size]))], {"PYTHONMALLOC": "malloc"})


def cc1plus(machine: Machine, size: str) -> Command:
    found = subprocess.run([tool("g++", "g++"), "-print-prog-name=cc1plus"], capture_output=True, text=True)
    compiler = found.stdout.strip()
    if "/" not in compiler:
        raise Unavailable("g++ does not tell where its cc1plus is; is it a wrapper of another compiler?")
    unit = machine.inputs.path("ii", SCALES[size])
    return Command([compiler, "-quiet", "-fpreprocessed", "-std=c++20", "-O1", str(unit), "-o", "/dev/null"])


def perl(machine: Machine, size: str) -> Command:
    return Command([tool("perl", "perl"), str(machine.inputs.path("pl", SCALES[size]))])


def jq(machine: Machine, size: str) -> Command:
    program = ('group_by(.station) | map({s: .[0].station, n: length, m: (map(.levels | add) | max), '
               't: ([.[].note | split(" ")[]] | unique | length)})')
    return Command([tool("jq", "jq"), "-c", program, str(machine.inputs.path("json", SCALES[size]))])


def xmllint(machine: Machine, size: str) -> Command:
    return Command([tool("xmllint", "libxml2-utils"), "--huge", "--xpath",
                    "sum(//reading[@station='tide' and note/b > 3]/level) + count(//note[contains(., 'wharf')])",
                    str(machine.inputs.path("xml", SCALES[size]))])


REDIS_REQUESTS = {"small": 5_000, "quick": 30_000, "full": 150_000}


def redis(machine: Machine, size: str) -> Command:
    server, client = tool("redis-server", "redis-server"), tool("redis-benchmark", "redis-tools")
    shutdown = tool("redis-cli", "redis-tools")
    socket = machine.scratch / "redis.sock"
    socket.unlink(missing_ok=True)

    def load() -> None:
        deadline = time.monotonic() + 60
        while not socket.exists():
            if time.monotonic() > deadline:
                raise RuntimeError("redis-server made no socket within 60 s")
            time.sleep(0.01)
        requests = str(REDIS_REQUESTS[size])
        try:
            subprocess.run([client, "-s", str(socket), "-q", "-n", requests, "-P", "16", "-r", "20000", "-d", "120",
                            "-t", "set,get,lpush,lpop,sadd,hset,zadd"], check=True, capture_output=True, timeout=300)
        finally:
            subprocess.run([shutdown, "-s", str(socket), "shutdown", "nosave"], capture_output=True, timeout=60)

    return Command([server, "--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no",
                    "--daemonize", "no", "--dir", str(machine.scratch), "--ignore-warnings", "ARM64-COW-BUG"],
                   client=load, baseline_preload="libc.so.6")


# --- The table --------------------------------------------------------------------------------------------------------

ALL = (
    Workload("start-up", "a program that does nothing: what starting costs", own("pairs", (1, 64), (1, 64), (1, 64)),
             valgrind=False),
    Workload("pairs", "malloc and free of 64 bytes, nothing else",
             own("pairs", (1_000_000, 64), (10_000_000, 64), (40_000_000, 64))),
    Workload("slots", "10,000 slots, a random one replaced at a time",
             own("slots", (1_000_000,), (6_000_000,), (25_000_000,))),
    Workload("bignum", "factorises with heap-allocated bignums, 10 frames deep",
             own("bignum_factor", (15,), (80,), (300,))),
    Workload("logic", "minimises logic functions: lists of cubes, recursive, 14 frames deep",
             own("logic_minimiser", (30, 14), (100, 14), (400, 14))),
    Workload("producer-consumer", "every block is freed by another thread",
             own("producer_consumer", (100_000,), (800_000,), (3_000_000,)), threads=2, valgrind=False),
    Workload("server-1", "random lifetimes", own("server", (50_000, 1, "constant"), (250_000, 1, "constant"),
                                                 (1_000_000, 1, "constant"))),
    Workload("server-8", "random lifetimes", own("server", (50_000, 8, "constant"), (250_000, 8, "constant"),
                                                 (1_000_000, 8, "constant")), threads=8, valgrind=False, quick=False),
    Workload("server-ramp", "random lifetimes, more requests all the time",
             own("server", (50_000, 4, "ramp"), (250_000, 4, "ramp"), (1_000_000, 4, "ramp")), load="ramp", threads=4,
             valgrind=False, quick=False),
    Workload("server-burst", "random lifetimes, 17 times the requests in every 16th tick",
             own("server", (50_000, 4, "burst"), (250_000, 4, "burst"), (1_000_000, 4, "burst")), load="burst",
             threads=4, valgrind=False),
    Workload("threads-1000", "1,000 threads at one time",
             own("threads", ("concurrent", 100, 1_000_000), ("concurrent", 1000, 2_000_000),
                 ("concurrent", 1000, 20_000_000)), threads=1000, valgrind=False),
    Workload("threads-short", "10,000 threads, one batch of eight after the other",
             own("threads", ("short", 500, 50_000), ("short", 10_000, 1_000_000), ("short", 10_000, 10_000_000)),
             threads=8, valgrind=False, quick=False),
    Workload("stacks", "100,000 different call stacks, 11 frames deep",
             own("stacks", (100_000, 500_000), (100_000, 3_000_000), (100_000, 15_000_000))),
    Workload("large-heap", "64 GiB of virtual memory in blocks of 64 MiB, small blocks between",
             own("large_heap", (4, 4000), (64, 1000), (64, 8000)), valgrind=False),
    Workload("sqlite3", "an in-memory database: inserts, indexes, joins, many short statements", sqlite3, real=True),
    Workload("python3", "parses, serialises, counts; PYTHONMALLOC=malloc", python3, real=True),
    Workload("cc1plus", "the C++ compiler proper, -O1, on the heavy headers of the standard library", cc1plus,
             real=True),
    Workload("perl", "splits, matches and sorts text into nested hashes", perl, real=True),
    Workload("jq", "groups and reduces a JSON document", jq, real=True),
    Workload("xmllint", "parses an XML document and evaluates XPath", xmllint, real=True),
    Workload("redis", "redis-server under redis-benchmark (its CPU only)", redis, real=True, valgrind=False),
)
LONG = Workload("long", "100 million events in 10,000 slots",
                own("slots", (1_000_000,), (10_000_000,), (100_000_000,)), quick=False, valgrind=False)
