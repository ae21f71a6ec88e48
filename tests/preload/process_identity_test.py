"""Processes that change who or where they are: user, root directory, namespaces, an environment without the preload.

What was attached stays recorded; what cannot attach any more runs as it would without tidemark.
"""
import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from process_modes import MODES, NOBODY, AllModes, need, need_root, public_folder
from tracing import LIBRARY, SCRATCH, Trace, clean_environment, compile_program, record

CHURN = 2000  # blocks, of one churn() of the program


class Identity(AllModes):
    def setUp(self):
        self.program = compile_program("process_identity.c", "-pthread", "-Wno-unused-result")

    def allocations(self, traces):
        return sorted(t.info()["run"]["events"]["alloc"]["observed"] // CHURN for t in traces)

    def go(self, *arguments, churns, modes=MODES):
        """Runs WAY; the traces of "every" and "full" hold so many churns each."""
        plain, traces = self.compare([self.program, *arguments], expect=0, modes=modes)
        for name, found in traces.items():
            if name != "sampled":
                self.assertEqual(self.allocations(found), churns, name)
        return plain.stdout.decode()

    def test_nothing_changes(self):
        self.assertIn("errno at main 0", self.go("nothing", churns=[1, 4]))

    def test_E13_user_changes_after_start(self):
        need_root(self)
        for way, churns in (("uid", [1, 4]), ("uid_with_threads", [1, 12]), ("worker", [1, 1, 3, 4])):
            with self.subTest(way=way):
                out = self.go(way, churns=churns)
                self.assertIn(f"uid {NOBODY}", out)

    def test_E13_recorded_by_an_unprivileged_user(self):
        need_root(self)
        need(self, "setpriv")
        folder = public_folder(self)
        program = folder / "program"
        shutil.copy(self.program, program)
        program.chmod(0o755)
        out = folder / "out"
        out.mkdir()
        os.chown(out, NOBODY, NOBODY)
        done = self.plain(["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
                           folder / "tools" / "tidemark", "record", "-q", "--mode", "full", "-o", out / "t.tmk", "--",
                           program, "nothing"], env={**clean_environment(), "XDG_CACHE_HOME": str(out)})
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(self.allocations([Trace(p) for p in out.glob("t.tmk*")]), [1, 4])

    def test_E14_root_directory_changes_after_start(self):
        need_root(self)
        empty = Path(tempfile.mkdtemp(dir=SCRATCH))
        out = self.go("chroot", empty, churns=[1, 4])
        self.assertIn("chroot 0\nchdir 0\n", out)
        self.assertEqual(list(empty.iterdir()), [])

    def test_E14_program_that_starts_in_another_root(self):
        """The loader there does not find the library, says so, and the program runs unrecorded."""
        need_root(self)
        root = Path(tempfile.mkdtemp(dir=SCRATCH))
        libraries = subprocess.run(["ldd", self.program], capture_output=True, text=True, check=True).stdout
        for path in re.findall(r"(/\S+) \(0x", libraries):
            (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, root / path[1:])
        shutil.copy(self.program, root / "program")
        command = [self.program, "chroot_exec", root]
        plain = self.plain(command)
        self.assertIn("child 7", plain.stdout.decode())
        for name, (mode, options) in MODES.items():
            with self.subTest(mode=name):
                done, trace = record(command, "-q", *options, mode=mode, check=False)
                self.assertEqual((done.returncode, done.stdout), (0, plain.stdout))
                said = done.stderr.decode().splitlines()
                self.assertTrue(said)
                for line in said:
                    self.assertIn("from LD_PRELOAD cannot be preloaded", line)
                self.check_whole(trace)

    def test_E15_namespaces(self):
        need_root(self)
        for way, churns in (("pid", [1, 2, 3]), ("user+pid", [1, 2, 3]), ("mount", [1, 4]), ("ipc", [1, 4]),
                            ("names", [1, 4]), ("setns", [1, 4])):
            with self.subTest(way=way):
                out = self.go(way, churns=churns)
                self.assertIn("unshare 0\n", out)

    def test_E15_network_namespace(self):
        """A child in another network namespace does not reach its collector: it runs unrecorded."""
        need_root(self)
        out = self.go("network", churns=[4])
        self.assertIn("unshare 0\n", out)

    def test_E19_what_only_a_single_thread_may_do(self):
        """unshare(CLONE_NEWUSER) and setns() fail in a process with a helper thread."""
        need_root(self)
        for way in ("user", "files", "paths"):
            with self.subTest(way=way):
                out = self.go(way, churns=[1, 4])
                self.assertIn("unshare 0\n", out)
                if way != "user":
                    self.assertIn("threads 1\n", out)

    def test_E21_stopped_and_continued(self):
        out = self.go("stopped", churns=[1, 20])
        self.assertIn("child 7", out)


class Secure(AllModes):
    def setUp(self):
        need_root(self)
        need(self, "setpriv")
        self.folder = public_folder(self)
        (self.folder / "out").mkdir()
        os.chown(self.folder / "out", NOBODY, NOBODY)

    def as_nobody(self, command, **variables):
        return self.plain(["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *command],
                          env=clean_environment(**variables), cwd=self.folder / "out")

    def install(self, program, mode):
        path = self.folder / "program"
        shutil.copy(program, path)
        path.chmod(mode)
        return path

    def test_E12_setuid_program_runs_unrecorded_and_the_launcher_says_so(self):
        program = self.install(compile_program("process_identity.c", "-pthread", "-Wno-unused-result"), 0o4755)
        plain = self.as_nobody([program, "worker"])
        self.assertIn(b"uid 65534", plain.stdout)  # it could become nobody, so it was root
        tool = self.folder / "tools" / "tidemark"
        done = self.as_nobody([tool, "record", "--mode", "full", "-o", "t.tmk", "--", program, "worker"])
        self.assertEqual((done.returncode, done.stdout), (0, plain.stdout))
        self.assertIn(b"setuid", done.stderr)
        self.assertEqual(list((self.folder / "out").iterdir()), [])

    def test_E12_setuid_child_of_a_recorded_program(self):
        program = self.install(compile_program("process_identity.c", "-pthread", "-Wno-unused-result"), 0o4755)
        plain = self.as_nobody(["sh", "-c", f"{program} nothing; exit 3"])
        tool = self.folder / "tools" / "tidemark"
        done = self.as_nobody([tool, "record", "-q", "--mode", "full", "-o", "t.tmk", "--",
                               "sh", "-c", f"{program} nothing; exit 3"])
        self.assertEqual((done.returncode, done.stdout, done.stderr), (3, plain.stdout, plain.stderr))
        self.check_whole(Trace(self.folder / "out" / "t.tmk"))

    def test_E12_I5_secure_mode_ignores_the_options(self):
        """A setuid program that is linked to the library does not let its caller say where root writes files."""
        linked = compile_program("process_secure.c", LIBRARY, f"-Wl,-rpath,{self.folder}/interpose")
        options = {"TIDEMARK_OPTIONS": f"mode=full,out={self.folder}/out/stolen.%p.tmk"}
        done = self.as_nobody([self.install(linked, 0o755)], **options)
        self.assertEqual(done.stdout, b"recording 1, effective user 65534\n", done.stderr)
        self.assertTrue(list((self.folder / "out").glob("stolen.*")))
        for path in (self.folder / "out").iterdir():
            path.unlink()
        done = self.as_nobody([self.install(linked, 0o4755)], **options)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, b"recording 0, effective user 0\n", b""))
        self.assertEqual(list((self.folder / "out").iterdir()), [])


class Environment(AllModes):
    def test_E16_environment_is_taken_away(self):
        need(self, "env", "sh")
        program = compile_program("process_identity.c", "-pthread", "-Wno-unused-result")
        for command in ([program.parent / program.name, "nothing"],):
            script = " ".join(map(str, command))
            plain, traces = self.compare(["sh", "-c", f"env -i {script}; env -i {script}; exit 3"], expect=3)
            self.assertEqual(plain.stdout.count(b"child 7"), 2)
            # The shell, and env before it starts the program; of the program itself nothing can be known.
            for trace in traces["full"]:
                self.assertLess(trace.info()["run"]["events"]["alloc"]["observed"], CHURN)

    def test_E17_wrappers_pass_the_library_on(self):
        need(self, "timeout", "nice", "nohup", "env", "setsid")
        program = compile_program("process_identity.c", "-pthread", "-Wno-unused-result")
        wrapped = ["timeout", "100", "nice", "nohup", "setsid", "-w", "env", "A=1", "bash", "-c", f"{program} nothing"]
        plain, traces = self.compare(wrapped, expect=0)
        self.assertIn(b"child 7", plain.stdout)
        events = [t.info()["run"]["events"]["alloc"]["observed"] for t in traces["full"]]
        self.assertTrue(any(n // CHURN == 4 for n in events), events)

    def test_E18_environment_differs_in_two_variables(self):
        def variables(done):
            return dict(line.split("=", 1) for line in done.stdout.decode().splitlines())
        plain = variables(self.plain(["env"]))
        done, _ = record(["env"], "-q")
        seen = variables(done)
        self.assertEqual(set(seen) - set(plain), {"LD_PRELOAD", "TIDEMARK_OPTIONS"})
        self.assertEqual({k: v for k, v in seen.items() if k in plain}, plain)


if __name__ == "__main__":
    unittest.main()
