"""Complete mode observes as many events as an independent counter counts, to the call and to the byte.

The counter is programs/neutral_counter.c, in front of glibc's allocator. Both runs have the same number of variables of
the same lengths in their environment, so that a program that copies it does the same in both. What the loader allocates
before the first constructor is in neither count. DHAT is a third opinion,
on fewer programs: totals_test.py. Must not: hold programs with threads, or whose two counted runs differ.
"""
import json
import struct
import subprocess
import tempfile
import unittest
from pathlib import Path

from neutral_data_test import GAWK, LINES, PERL, SQL, TCL, VIM
from neutral_workload import check_traces, missing
from tracing import LIBRARY, SCRATCH, TOOL, clean_environment, compile_program

C = "#include <stdio.h>\n" + "".join(f"int f{i}(int x) {{ return x * {i} + printf(\"%d\", x); }}\n" for i in range(40))
PYTHON = "import json; d = [{'k': i, 't': 'x' * (i % 90)} for i in range(2000)]; print(len(json.dumps(d)))"

# name: (command, Debian package, stdin)
PROGRAMS = {
    "sqlite3": (["sqlite3", "data.db"], "sqlite3", SQL),
    "gawk": (["gawk", GAWK], "gawk", b""),
    "perl": (["perl", "-e", PERL], "perl", b""),
    "tclsh": (["tclsh"], "tcl", TCL.encode()),
    "jq": (["jq", "-n", "[range(2000) | {k: (. * 7 % 1000 | tostring)}] | group_by(.k) | length"], "jq", b""),
    "bc": (["bc", "-q"], "bc", b"x = 1; for (i = 1; i < 300; i++) { x = x * i % (10^60 + 7); }; x; sqrt(2^500)\n"),
    "xmllint": (["xmllint", "--format", "-"], "libxml2-utils",
                ("<r>" + "".join(f"<item id='{i}'><name>n{i}</name></item>" for i in range(800)) + "</r>").encode()),
    # With its own small blocks: id() makes an integer of an address, whose size is 28 bytes for the low addresses of
    # glibc's heap behind a program linked to a fixed address, and 32 for higher ones.
    "python3": (["/usr/bin/python3", "-c", PYTHON], "python3", b""),
    "sort": (["sort", "--parallel=1", "-S", "200k", "-k2n", "data"], "coreutils", b""),
    "grep": (["grep", "-cE", "(line|x) [0-9]+7 (a|b)*", "data"], "grep", b""),
    "sed": (["sed", "-E", "s/([0-9]+) (a*)/\\2\\1/;$!N;P;D", "data"], "sed", b""),
    "xz": (["xz", "-3", "-T1", "-c", "data"], "xz-utils", b""),
    "as": (["as", "a.s", "-o", "a.o"], "binutils", b""),
    "ld_bfd": (["ld.bfd", "-r", "a.o", "-o", "b.o"], "binutils", b""),
    "readelf": (["readelf", "-aW", "a.o"], "binutils", b""),
    # The driver only: cc1 hashes addresses, and with glibc alone one run in some has another block of 32 KiB.
    "gcc": (["gcc", "-dumpspecs"], "gcc", b""),
    "openssl": (["openssl", "dgst", "-sha256", "data"], "openssl", b""),
    "git": (["git", "hash-object", "data", "a.c"], "git", b""),
    "vim": (["vim", "-es", "-u", "NONE", "-i", "NONE", *VIM, "data"], "vim", b""),
    "bash": (["bash", "-c", "for i in {1..300}; do a[i]=$i$i; done; echo ${a[@]: -2} $(echo sub) | cat; exit 3"],
             "bash", b""),
    "find": (["find", ".", "-name", "*a*", "-printf", "%f %s\\n"], "findutils", b""),
    "make": (["make", "-n", "-f", "/dev/stdin"], "make", b"".join(b"t%d: t%d\n\techo %d\n" % (i, i + 1, i)
                                                                  for i in range(200)) + b"t200:\n"),
}


def counted(folder):
    """Sums over the counter's pages of one run: (allocations, releases, reallocs, bytes)."""
    pages = [struct.unpack_from("<4Q", page.read_bytes()) for page in folder.glob("counts.*")]
    return tuple(map(sum, zip(*pages)))


def observed(folder):
    """The same of the traces of one run."""
    totals = [0, 0, 0, 0]
    for trace in folder.glob("t.*"):
        done = subprocess.run([TOOL, "info", trace, "--json"], capture_output=True, check=True, timeout=300,
                              env=clean_environment())
        info = json.loads(done.stdout)
        events = [info["run"]["events"][kind]["observed"] for kind in ("alloc", "free", "realloc")]
        totals = [a + b for a, b in zip(totals, [*events, info["totals"]["allocated"]["bytes"]])]
    return tuple(totals)


def padded(library, length):
    """The same file by a path of the given length."""
    return str(library.parent) + "/" * (1 + length - len(str(library))) + library.name

# pymalloc knows its arenas by a radix tree of addresses, whose lowest nodes have 2^14 words: one or two of them, as the
# kernel places the arenas.
NODE_BYTES = {"python3": 8 << 14}


class EqualsCounter(unittest.TestCase):
    maxDiff = None

    def run_with(self, library, command, stdin):
        """One run; returns its folder of counts or traces, and what it printed."""
        folder = self.base / "run"  # of the same name each time
        traces = self.base / "traces"
        for path in (folder, traces):
            if path.exists():
                path.rename(path.with_name(f"{path.name}-{len(list(self.base.iterdir()))}"))
            path.mkdir()
        (folder / "data").write_text(LINES)
        (folder / "a.c").write_text(C)
        for prepare in (["gcc", "-S", "-O1", "a.c"], ["gcc", "-c", "-g", "a.c"]):
            subprocess.run(prepare, check=True, cwd=folder, env=clean_environment(), timeout=300)
        length = max(len(str(LIBRARY)), len(str(self.counter)))
        environment = clean_environment(
            LD_PRELOAD=padded(library, length), TIDEMARK_OPTIONS=f"mode=full,out={traces}/t.%p", HOME=str(folder),
            PERL_HASH_SEED="0", PERL_PERTURB_KEYS="0", PYTHONHASHSEED="0")
        done = subprocess.run(command, input=stdin, capture_output=True, cwd=folder, env=environment, timeout=300)
        return traces, (done.returncode, done.stdout, done.stderr)

    def assert_equal_counts(self, one, other, node_bytes, what):
        """Equal, or one of both has a node more of a table that the program keeps of its address space."""
        allocs, frees, reallocs, size = one
        nodes = [(allocs + k, frees, reallocs, size + k * node_bytes) for k in (-1, 0, 1)]
        if node_bytes == 0 or other not in nodes:
            self.assertEqual(one, other, what)

    def check(self, command, package, stdin, node_bytes=0):
        why = missing({str(command[0]): package})
        if why:
            self.skipTest(why)
        self.base = Path(tempfile.mkdtemp(dir=SCRATCH))
        self.counter = compile_program("neutral_counter.c", "-shared", "-fPIC", "-Wl,-z,initfirst")
        # What a program does may hang on where the kernel puts things: a difference has to be there three times.
        for attempt in range(3):
            try:
                return self.compare(command, stdin, node_bytes)
            except AssertionError:
                if attempt == 2:
                    raise

    def compare(self, command, stdin, node_bytes):
        runs = [self.run_with(self.counter, command, stdin) for _ in range(2)]
        counts = [counted(traces) for traces, _ in runs]
        self.assert_equal_counts(counts[0], counts[1], node_bytes, "two counted runs differ")
        self.assertGreater(counts[0][0], 0)
        traces, result = self.run_with(LIBRARY, command, stdin)
        self.assertEqual(result, runs[0][1])
        check_traces(self, traces, "full")
        self.assert_equal_counts(observed(traces), counts[0], node_bytes, "tidemark and the counter differ")

    def test_every_entry_point(self):
        self.check([compile_program("every_entry_point.c")], "", b"")


def add(name, command, package, stdin):
    node_bytes = NODE_BYTES.get(name, 0)
    setattr(EqualsCounter, f"test_{name}", lambda self: self.check(command, package, stdin, node_bytes))


for name_, row_ in PROGRAMS.items():
    add(name_, *row_)

if __name__ == "__main__":
    unittest.main()
