"""What the checks share: golden traces, the built tool, recordings of live programs, damaged copies.

Must not: be needed to use the package; only this folder knows that there is a source tree around it.
"""
import json
import os
import random
import subprocess
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("TIDEMARK_SOURCE_DIR", Path(__file__).resolve().parents[2]))
BUILD = Path(os.environ.get("TIDEMARK_BUILD_DIR", ROOT / "build"))
TOOL = BUILD / "tools" / "tidemark"
GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.tmk"))
SOAK = os.environ.get("TIDEMARK_SOAK") == "1"


def report_of(path: Path) -> "dict | None":
    """What `tidemark report --json` says of a trace, None when it refuses it."""
    done = subprocess.run([TOOL, "report", "--json", path], capture_output=True, text=True, check=False,
                          timeout=300)
    assert done.returncode in (0, 3), done.stderr
    return json.loads(done.stdout) if done.returncode == 0 else None


def damaged(data: bytes, chance: random.Random) -> bytes:
    """A copy with a few random accidents: flipped bits, bytes lost, inserted, doubled or overwritten."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        if not changed:
            break
        at, other = chance.randrange(len(changed)), chance.randrange(len(changed))
        match chance.randrange(6):
            case 0:
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                del changed[at:]
            case 2:
                del changed[at:at + chance.choice((1, 2, 10, 100, 1000))]
            case 3:
                changed[at:at] = chance.randbytes(chance.choice((1, 2, 10, 100)))
            case 4:
                changed[at:at] = changed[other:other + chance.choice((10, 100, 3000))]
            case 5:
                changed[at:at + chance.choice((1, 4, 50))] = bytes(chance.choice((1, 4, 50)))
    return bytes(changed)


PYTHON_WORK = """
import json
keep = []
for i in range(12):
    keep = json.loads(json.dumps([{str(i): [i, i * 1.5, "x" * (i % 300)]} for i in range(800)]))
"""
SQL_WORK = """
create table t(a integer primary key, b text, c real);
with recursive n(i) as (select 1 union all select i + 1 from n where i < 6000)
  insert into t select i, printf('%d-%s', i, hex(randomblob(i % 90))), i * 0.5 from n;
create index j on t(b);
select count(*), sum(length(b)) from t where c > 100;
"""
THREADS_SOURCE = ROOT / "tests" / "analysis" / "hand_over.cc"


@pytest.fixture(scope="session")
def hand_over(tmp_path_factory):
    """A program whose threads free each other's blocks."""
    program = tmp_path_factory.mktemp("programs") / "hand_over"
    subprocess.run(["g++", "-O2", "-std=c++20", "-pthread", THREADS_SOURCE, "-o", program], check=True)
    return program


@pytest.fixture(scope="session")
def recording(tmp_path_factory, hand_over):
    """(name, mode) -> path of a fresh trace."""
    commands = {"python3": ["/usr/bin/python3", "-c", PYTHON_WORK], "sqlite3": ["sqlite3", ":memory:", SQL_WORK],
                "threads": [hand_over, "20000"]}
    made: dict = {}

    def record(name: str, mode: str) -> Path:
        if (name, mode) not in made:
            path = tmp_path_factory.mktemp(f"{name}-{mode}") / "trace.tmk"
            environment = {**os.environ, "PYTHONMALLOC": "malloc"}
            done = subprocess.run([TOOL, "record", "--mode", mode, "--sample-bytes", "4096", "-o", path, "--",
                                   *map(str, commands[name])], capture_output=True, check=False,
                                  env=environment, timeout=300)
            assert done.returncode == 0, done.stderr
            made[name, mode] = path
        return made[name, mode]

    return record
