"""Programs behave under tidemark as they do without: same output, same exit status, same files.

Real programs that nobody here wrote, plain, sampled and complete; and what a process can see of its surroundings.
"""
import filecmp
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from tracing import LIBRARY, SCRATCH, TOOL, clean_environment, compile_program, record

MODES = ("sampled", "full")


def need(case, *programs):
    for program in programs:
        if shutil.which(program) is None:
            case.skipTest(f"{program} is not installed")


class SameOutput(unittest.TestCase):
    maxDiff = 2000

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(dir=SCRATCH))

    def compare(self, command, stdin=None, cwd=None, normalise=lambda text: text, environment=None):
        """Runs plain, sampled and complete; stdout, status, and stderr but for our own lines must be the same."""
        environment = environment or clean_environment()
        given = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
        plain = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=cwd,
                               timeout=300, **given)
        for mode in MODES:
            with self.subTest(mode=mode):
                done, _ = record(command, "-q", mode=mode, stdin=stdin, environment=environment, check=False, cwd=cwd)
                self.assertEqual(done.returncode, plain.returncode)
                self.assertEqual(normalise(done.stdout), normalise(plain.stdout))
                self.assertEqual(normalise(done.stderr), normalise(plain.stderr))
        return plain

    def test_gcc(self):
        need(self, "gcc")
        source = self.folder / "a.c"
        source.write_text("#include <stdio.h>\n#include <math.h>\n" +
                          "".join(f"double f{i}(double x) {{ return sin(x) * {i} + f{i - 1}(x); }}\n" if i else
                                  "double f0(double x) { return x; }\n" for i in range(200)) +
                          'int main(void) { printf("%f\\n", f199(0.5)); int unused; return 0; }\n')
        self.compare(["gcc", "-O2", "-Wall", "-c", str(source), "-o", "/dev/null"])
        objects = []
        for mode in (None, *MODES):
            out = self.folder / f"{mode}.o"
            command = ["gcc", "-O2", "-c", str(source), "-o", str(out)]
            if mode is None:
                subprocess.run(command, check=True, env=clean_environment())
            else:
                record(command, mode=mode)
            objects.append(out)
        for out in objects[1:]:
            self.assertTrue(filecmp.cmp(objects[0], out, shallow=False), out)

    def test_gcc_error(self):
        need(self, "gcc")
        source = self.folder / "bad.c"
        source.write_text("int main(void) { return undefined; }\n")
        plain = self.compare(["gcc", "-c", str(source), "-o", "/dev/null"])
        self.assertNotEqual(plain.returncode, 0)

    def test_git(self):
        need(self, "git")
        script = """set -e; rm -rf repo; git init -q repo; cd repo; git config user.name n; git config user.email e@e
for i in 1 2 3 4 5 6; do for f in a b c; do echo "$i $f" > $f$i; done; git add .; git commit -qm "commit $i"; done
git gc -q; git fsck --full; git log --format=%H%s | cat; git status --short; git show HEAD~2 --stat | cat
git rev-parse nothing"""
        dates = {"GIT_AUTHOR_DATE": "2026-01-01T00:00:00Z", "GIT_COMMITTER_DATE": "2026-01-01T00:00:00Z"}
        environment = clean_environment(**dates, HOME=str(self.folder))
        plain = self.compare(["bash", "-c", script], cwd=self.folder, environment=environment)
        self.assertIn(b"commit 6", plain.stdout)
        self.assertEqual(plain.returncode, 128)

    def test_bash_with_many_subshells(self):
        need(self, "bash")
        script = 'for i in $(seq 150); do x=$( (echo $((i * i)) | cat) ); s=$((s + x)); done; echo $s; exit 3'
        self.compare(["bash", "-c", script])

    def test_node(self):
        need(self, "node")
        self.compare(["node", "-e", """
const a = []; for (let i = 0; i < 20000; i++) a.push({i, s: 'x'.repeat(i % 50), b: Buffer.alloc(i % 300)});
console.log(a.filter(x => x.i % 7 == 0).map(x => x.s.length).reduce((x, y) => x + y, 0));
console.log(require('crypto').createHash('sha256').update(JSON.stringify(a.slice(0, 100))).digest('hex'));
require('child_process').exec('echo child', (e, out) => { console.log(out.trim()); process.exit(5); });"""])

    def test_python(self):
        need(self, "python3")
        script = ("import threading, subprocess, json\n"
                  "r = []\n"
                  "work = lambda k: r.append(sum(len(str(i)) for i in range(20000 + k)))\n"
                  "ts = [threading.Thread(target=work, args=(k,)) for k in range(8)]\n"
                  "[t.start() for t in ts]; [t.join() for t in ts]\n"
                  "print(sorted(r)); print(subprocess.run(['sh', '-c', 'echo out; exit 4'], capture_output=True))\n")
        for allocator in ("pymalloc", "malloc"):
            self.compare(["/usr/bin/python3", "-c", script], environment=clean_environment(PYTHONMALLOC=allocator))

    def test_valgrind_child_is_left_alone(self):
        need(self, "valgrind")
        strip_pid = lambda text: re.sub(rb"==\d+==", b"==", text)
        self.compare(["valgrind", "-q", "ls", "/usr/include/linux"], normalise=strip_pid)

    def test_redis(self):
        """redis-server links libjemalloc: two allocators in one process, and a server that forks to save."""
        need(self, "redis-server", "redis-cli")
        answers = []
        for mode in (None, *MODES):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            folder = self.folder / str(mode)
            folder.mkdir()
            command = ["redis-server", "--port", str(port), "--dir", str(folder), "--save", "", "--bind", "127.0.0.1"]
            if mode is not None:
                command = [str(TOOL), "record", "-q", "--mode", mode, "-o", str(folder / "t.tmk"), "--", *command]
            server = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=clean_environment())
            cli = ["redis-cli", "-p", str(port)]
            for _ in range(300):
                if subprocess.run([*cli, "ping"], capture_output=True).stdout == b"PONG\n":
                    break
                time.sleep(0.05)
            lines = "".join(f"SET key:{i} {'v' * (i % 200)}\nAPPEND key:{i % 10} x\nLPUSH list {i}\n"
                            for i in range(2000))
            out = subprocess.run(cli, input=lines.encode() + b"STRLEN key:3\nLLEN list\nBGSAVE\nDEBUG RELOAD\nDBSIZE\n",
                                 capture_output=True, timeout=120).stdout
            subprocess.run([*cli, "shutdown", "nosave"], capture_output=True, timeout=60)
            answers.append((out, server.wait(60)))
        self.assertEqual(answers[1], answers[0])
        self.assertEqual(answers[2], answers[0])


class Surroundings(unittest.TestCase):
    """What a process can see: descriptors, threads, children, errno, signals, environment."""

    def see(self, mode):
        program = compile_program("surroundings.c", "-pthread")
        if mode is None:
            done = subprocess.run([program], capture_output=True, env=clean_environment(), stdin=subprocess.DEVNULL)
        elif mode == "preload":
            environment = clean_environment(LD_PRELOAD=str(LIBRARY),
                                            TIDEMARK_OPTIONS=f"mode=full,out={SCRATCH}/s.%p.tmk")
            done = subprocess.run([program], capture_output=True, env=environment, stdin=subprocess.DEVNULL)
        else:
            done, _ = record([program], "-q", mode=mode)
        return done.returncode, done.stdout, done.stderr

    def test_same_in_every_mode(self):
        plain = self.see(None)
        self.assertEqual(plain[0], 0)
        self.assertIn(b"errno 0", plain[1])
        for mode in (*MODES, "preload"):
            with self.subTest(mode=mode):
                self.assertEqual(self.see(mode), plain)


class Exports(unittest.TestCase):
    """What the library shows to the loader."""

    def test_exported_symbols_are_the_hook_table(self):
        table = (Path(__file__).resolve().parent.parent.parent / "interpose" / "hook_table.h").read_text()
        wanted = set(re.findall(r"^  (?:HOOK|API)\((\w+)\)", table, re.M))
        out = subprocess.run(["nm", "-D", "--defined-only", LIBRARY], capture_output=True, text=True, check=True).stdout
        self.assertEqual({line.split()[-1] for line in out.splitlines()}, wanted)

    def test_needs_libc_only(self):
        out = subprocess.run(["readelf", "-d", LIBRARY], capture_output=True, text=True, check=True).stdout
        self.assertEqual(re.findall(r"\(NEEDED\).*\[(.*)\]", out), ["libc.so.6"])
        for flag in ("NOW", "NODELETE", "INITFIRST"):
            self.assertIn(flag, out)

    def test_no_dynamic_tls_and_no_executable_stack(self):
        out = subprocess.run(["readelf", "-rlW", LIBRARY], capture_output=True, text=True, check=True).stdout
        self.assertNotIn("DTPMOD", out)
        self.assertRegex(out, r"GNU_STACK\s+\S+ \S+ \S+ \S+ \S+ RW ")


if __name__ == "__main__":
    unittest.main()
