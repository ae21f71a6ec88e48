"""Suffix reuse and rule cache are exact: the checked library takes every stack a second time, by call frame
information alone, and counts what differs. Random call trees over all shapes of frames, and real programs."""
import os
import shutil
import unittest

from tracing import BUILD, clean_environment, compile_program, record

CHECKED = BUILD / "interpose" / "libtidemark_checked.so"


class UnwindCheck(unittest.TestCase):
    def check(self, command, least_stacks, environment=None):
        environment = {**clean_environment(), "TIDEMARK_LIBRARY": str(CHECKED), **(environment or {})}
        done, trace = record(command, environment=environment)
        unwinding = trace.info()["run"]["unwinding"]
        self.assertEqual(unwinding["wrong"], 0, unwinding)
        self.assertGreater(unwinding["checked"], least_stacks, unwinding)
        self.assertGreater(unwinding["frames_reused"], unwinding["checked"], "nothing was reused: nothing was proved")
        return done, unwinding

    def test_random_call_trees(self):
        program = compile_program("call_trees.cc", "-O2", "-fomit-frame-pointer", "-pthread")
        for seed in range(1, 5):
            with self.subTest(seed=seed):
                done, unwinding = self.check([program, str(seed), "120"], 30000)
                self.assertGreater(int(done.stdout), 0)

    def test_random_call_trees_with_frame_pointers_and_unoptimised(self):
        for flags in (("-O2", "-fno-omit-frame-pointer"), ("-O0",), ("-O3", "-march=x86-64-v3")):
            if flags[-1].startswith("-march") and "avx2" not in open("/proc/cpuinfo", encoding="utf-8").read():
                continue  # the program would not run here
            with self.subTest(flags=flags):
                self.check([compile_program("call_trees.cc", *flags, "-pthread"), "7", "120"], 30000)

    def test_real_programs(self):
        python = ("import json; d = [{'a': i, 'b': [str(i)]} for i in range(1500)]; "
                  "json.loads(json.dumps(d)); sorted(map(str, d))")
        perl = 'my %h; for (1..20000) { $h{$_ % 977} .= "x$_"; my @a = split /1/, "a1b1c$_"; } print scalar keys %h'
        sql = ("create table t(a integer primary key, b text); with recursive n(i) as (select 1 union all "
               "select i+1 from n where i < 5000) insert into t select i, 'row' || i from n; "
               "select count(*), max(b) from t where b like '%7';")
        for command, environment in (
            (["/usr/bin/python3", "-c", python], {"PYTHONMALLOC": "malloc"}),
            (["perl", "-e", perl], None),
            (["bash", "-c", 'for i in $(seq 2000); do x="a$i"; y=${x//a/b}; done; echo $y'], None),
            (["sqlite3", ":memory:", sql], None),
            (["gcc", "-fsyntax-only", "-x", "c", "/usr/include/stdlib.h"], None),
        ):
            if shutil.which(command[0]) is None:
                continue
            with self.subTest(program=os.path.basename(command[0])):
                self.check(command, 1000 if command[0] != "gcc" else 50, environment)


if __name__ == "__main__":
    unittest.main()
