"""Complete mode counts what DHAT counts, to the byte: valgrind's exact heap profiler is the oracle.

Blocks, bytes and peak bytes of unmodified, single-threaded, deterministic programs. DHAT's model of realloc is ours too
(docs/metrics.md): its new size counts as a new block's, and the peak sees the change of size.
"""
import json
import shutil
import subprocess
import unittest

from tracing import SCRATCH, clean_environment, compile_program, record

SQL = """create table t(a integer primary key, b text, c real);
with recursive n(x) as (select 1 union all select x+1 from n where x<3000)
  insert into t select x, hex(x*7919), x/3.0 from n;
create index i on t(b); select count(*), sum(length(b)) from t where b like '%A%'; delete from t where a%3=0; vacuum;
select a, b from t order by b desc limit 5;"""
XML = "<r>" + "".join(f"<item id='{i}'><name>n{i}</name></item>" for i in range(800)) + "</r>"
PERL = ("my %h; for my $i (1..3000) { $h{$i} = 'x' x ($i % 97); } my @s = sort { $h{$a} cmp $h{$b} } keys %h; "
        "print scalar(@s), ' ', length(join('', map { $h{$_} } @s)), qq(\\n);")

PROGRAMS = {
    "sqlite3": (["sqlite3", ":memory:"], SQL.encode()),
    "gawk": (["gawk", "BEGIN { for (i = 0; i < 5000; i++) a[i % 700] = a[i % 700] i; "
                      "n = asort(a); print n, length(a[1]) }"], None),
    "jq": (["jq", "-n", "[range(2000) | {k: (. * 7 % 1000 | tostring), v: [., . + 1]}] | group_by(.k) | length"], None),
    "bc": (["bc", "-q"], b"x = 1; for (i = 1; i < 300; i++) { x = x * i % (10^60 + 7); }; x; sqrt(2^500)\n"),
    "xmllint": (["xmllint", "--format", "-"], XML.encode()),
    "perl": (["perl", "-e", PERL], None),
}


def dhat(command, stdin):
    """DHAT's totals: (blocks, bytes, peak bytes)."""
    out = SCRATCH / "dhat.out"
    subprocess.run(["valgrind", "--tool=dhat", f"--dhat-out-file={out}", *map(str, command)], input=stdin,
                   capture_output=True, check=True, timeout=600, env=environment())
    points = json.loads(out.read_text())["pps"]
    return (sum(p["tbk"] for p in points), sum(p["tb"] for p in points), sum(p["gb"] for p in points))


def environment():
    return clean_environment(PERL_HASH_SEED="0", PERL_PERTURB_KEYS="0")


def tidemark(command, stdin):
    _, trace = record(command, stdin=stdin, environment=environment())
    totals = trace.report()["totals"]
    return (totals["allocated"]["blocks"], totals["allocated"]["bytes"], totals["peak"]["bytes"])


# Programs that copy their environment see another one under each tool (valgrind adds variables of its own), so what
# such a program does with nothing to do is subtracted on both sides.
IDLE = {"gawk": ["gawk", "BEGIN { }"], "perl": ["perl", "-e", "0"]}


@unittest.skipIf(shutil.which("valgrind") is None, "valgrind is not installed")
class EqualsDhat(unittest.TestCase):
    maxDiff = None

    def test_every_entry_point(self):
        program = compile_program("every_entry_point.c")
        self.assertEqual(tidemark([program, "-"], None), dhat([program, "-"], None))


class EveryEntryPoint(unittest.TestCase):
    def test_sizes_are_the_requested_ones(self):
        # malloc calloc realloc (three sizes) reallocarray memalign aligned_alloc posix_memalign valloc malloc(0) ...
        sizes = [1001, 1001, 1103, 50021, 307, 1207, 1301, 1408, 1501, 1601, 0, 3 << 20, 1709, 1801, 1907]
        _, trace = record([compile_program("every_entry_point.c")])
        report = trace.report()
        counts_as = [max(size, 1) for size in sizes]  # an empty block counts as a byte, as in DHAT
        self.assertEqual(report["totals"]["allocated"], {"blocks": len(sizes), "bytes": sum(counts_as)})
        self.assertEqual(report["totals"]["live_at_end"], {"blocks": 1, "bytes": 1907})
        events = report["run"]["events"]
        self.assertEqual([events[kind]["recorded"] for kind in ("alloc", "free", "realloc")], [13, 12, 2])


def add(name, command, stdin):
    def test(self):
        if shutil.which(command[0]) is None:
            self.skipTest(f"{command[0]} is not installed")
        ours, theirs = tidemark(command, stdin), dhat(command, stdin)
        if name in IDLE:
            ours = tuple(a - b for a, b in zip(ours, tidemark(IDLE[name], None)))
            theirs = tuple(a - b for a, b in zip(theirs, dhat(IDLE[name], None)))
        self.assertEqual(ours, theirs)
    setattr(EqualsDhat, f"test_{name}", test)


for name_, (command_, stdin_) in PROGRAMS.items():
    add(name_, command_, stdin_)

if __name__ == "__main__":
    unittest.main()
