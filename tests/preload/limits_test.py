"""Limits and sandboxes: what a program may do under them it may do under tidemark too, recorded if that can be."""
import os
import re
import tempfile
import unittest
from pathlib import Path

from process_modes import MODES, NOBODY, AllModes, need, need_root, public_folder, traces_of
from tracing import LIBRARY, SCRATCH, TOOL, Trace, clean_environment, compile_program, record

NOT_RECORDING = "tidemark: not recording: "


class Limits(AllModes):
    def rows(self, limit, value, **keywords):
        return self.compare([compile_program("limit_rows.c", "-pthread"), limit, value], **keywords)

    def test_H1_F20_little_address_space_from_the_start(self):
        """The program runs whatever the limit, on glibc's heap where ours does not fit, and then one line says so."""
        program = compile_program("limit_rows.c", "-pthread")
        for megabytes in (20, 60, 200, 700, 3000):
            command = ["sh", "-c", f"ulimit -v {megabytes * 1000}; exec {program} none 0"]
            plain = self.plain(command)
            self.assertEqual((plain.returncode, plain.stdout), (0, b"thread 0, child 7\n"))
            for name, (mode, options) in MODES.items():
                with self.subTest(megabytes=megabytes, mode=name):
                    done, trace = record(command, "-q", *options, mode=mode, check=False)
                    self.assertEqual((done.returncode, done.stdout), (0, plain.stdout))
                    said = done.stderr.decode().splitlines()
                    for line in said:
                        self.assertTrue(line.startswith(NOT_RECORDING), line)
                    if megabytes >= 3000:
                        self.assertEqual(said, [])
                    for one in traces_of(trace):
                        self.check_whole(one)

    def test_H1_allocation_fails_as_it_should_when_address_space_ends(self):
        program = compile_program("limit_rows.c", "-pthread")
        for megabytes in (200, 1000, 3000):
            command = ["sh", "-c", f"ulimit -v {megabytes * 1000}; exec {program} exhaust 0"]
            plain = self.plain(command)
            self.assertIn(b"exhausted 1, errno 12\n", plain.stdout)
            for name, (mode, options) in MODES.items():
                with self.subTest(megabytes=megabytes, mode=name):
                    done, _ = record(command, "-q", *options, mode=mode, check=False)
                    self.assertEqual((done.returncode, done.stdout), (plain.returncode, plain.stdout), done.stderr)

    def test_H9_locked_memory(self):
        need_root(self)
        for flags in (1, 2, 3, 7):  # MCL_CURRENT, MCL_FUTURE, both, and MCL_ONFAULT
            with self.subTest(flags=flags):
                plain, _ = self.rows("mlockall", flags, expect=0)
                self.assertIn(b"mlockall 0\n", plain.stdout)
        self.rows("memlock", 65536, expect=0)

    def test_H10_descriptors_run_out_after_start(self):
        plain, traces = self.rows("nofile", 3, expect=0)
        self.assertIn(b"child 7", plain.stdout)
        # The child has no descriptor for a moment to attach with: it runs unrecorded.
        self.assertEqual(len(traces["full"]), 1)

    def test_H11_limits_matrix(self):
        for limit, value in (("core", 0), ("fsize", 0), ("stack", 65536), ("sigpending", 1000)):
            with self.subTest(limit=limit):
                self.rows(limit, value, expect=0)

    def test_H11_memory_for_data_ends(self):
        """The heap keeps what it has had of the system: a thread may find no room for its stack afterwards.

        The limit is there before the start. A program that sets it for itself later is not safe (docs/hazards.md).
        """
        program = compile_program("limit_rows.c", "-pthread")
        command = ["sh", "-c", f"ulimit -d {100 << 10}; exec {program} exhaust 0"]
        for name, (mode, options) in MODES.items():
            with self.subTest(mode=name):
                done, _ = record(command, "-q", *options, mode=mode, check=False)
                self.assertIn(done.returncode, (0, 1))
                self.assertIn(b"exhausted 1, errno 12\nsmall blocks again 1\n", done.stdout)
                self.assertIn(b", child 7\n", done.stdout)

    def test_H11_processor_time(self):
        plain, traces = self.rows("cpu", 1, conserves=False)
        self.assertEqual(plain.returncode, -24)  # SIGXCPU
        for one in traces["full"]:
            self.check_whole(one)

    def test_H11_processes(self):
        need_root(self)
        need(self, "setpriv")
        folder = public_folder(self)
        out = folder / "out"
        out.mkdir()
        os.chown(out, NOBODY, NOBODY)
        program = folder / "program"
        program.write_bytes(compile_program("limit_rows.c", "-pthread").read_bytes())
        program.chmod(0o755)
        become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        plain = self.plain([*become, program, "nproc", 0])
        self.assertIn(b"thread 11, child -11\n", plain.stdout)
        for mode in ("sampled", "full"):
            done = self.plain([*become, folder / "tools" / "tidemark", "record", "-q", "--mode", mode, "-o",
                               out / f"{mode}.tmk", "--", program, "nproc", 0],
                              env={**clean_environment(), "XDG_CACHE_HOME": str(out)})
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, plain.stdout, b""))
            self.check_whole(Trace(out / f"{mode}.tmk"))

    def test_H11_stacks_of_all_sizes(self):
        program = compile_program("limit_rows.c", "-pthread")
        for stack in ("128", "unlimited"):
            with self.subTest(stack=stack):
                self.compare(["sh", "-c", f"ulimit -s {stack}; exec {program} none 0"], expect=0)


class Sandboxes(AllModes):
    def lock_in(self, way, **keywords):
        program = compile_program("limit_seccomp.c", "-pthread")
        probe = self.plain([program, way])
        if probe.returncode == 77:
            self.skipTest("the kernel has no such filter, or a filter forbids it")
        plain, traces = self.compare([program, way], expect=0, **keywords)
        self.assertEqual(plain.stdout, b"lived\n")
        return traces

    def test_H12_filter_that_answers_with_an_error(self):
        self.lock_in("errors")

    def test_H12_filter_that_kills(self):
        for way in ("alone", "threads_before", "threads", "fork"):
            with self.subTest(way=way):
                self.lock_in(way)

    def test_H13_rdtsc_forbidden(self):
        for way in ("no_tsc", "strict"):
            with self.subTest(way=way):
                self.lock_in(way)


class Surroundings(AllModes):
    def in_namespace(self, script, *arguments):
        need_root(self)
        need(self, "unshare", "mount")
        if self.plain(["unshare", "-m", "true"]).returncode != 0:
            self.skipTest("may not make a mount namespace here")
        return self.plain(["unshare", "-m", "sh", "-c", script, "sh", *arguments])

    def test_H2_what_strict_overcommit_would_charge(self):
        """Private writable mappings count there, reserved or not; the setting is the whole machine's: they are summed.

        On top of a plain run's: mimalloc's first segment of 32 MiB and some tables, never what is merely reserved.
        """
        def charged(maps):
            rows = [line.split()[:2] for line in maps.decode().splitlines()]
            spans = [span.split("-") for span, rights in rows if rights[1] + rights[3] == "wp"]
            return sum(int(end, 16) - int(start, 16) for start, end in spans)
        plain = charged(self.plain(["cat", "/proc/self/maps"]).stdout)
        self.assertGreater(plain, 4096)
        for name, (mode, options) in MODES.items():
            with self.subTest(mode=name):
                done, _ = record(["cat", "/proc/self/maps"], "-q", *options, mode=mode)
                self.assertLess(charged(done.stdout), plain + (96 << 20))

    def test_H15_files_that_are_opened(self):
        """Beside what the program opens: the two libraries and what mimalloc asks about memory, all before main."""
        need(self, "strace")
        out = Path(tempfile.mkdtemp(dir=SCRATCH))

        def opened(environment):
            done = self.plain(["strace", "-qq", "-o", out / "calls", "-e", "trace=open,openat,access,readlink", "true"],
                              env=environment)
            if done.returncode != 0:
                self.skipTest("tracing is not allowed here")
            return set(re.findall(r'^[^"]*"(.*?)"', (out / "calls").read_text(), re.M))
        more = opened({**clean_environment(), "LD_PRELOAD": str(LIBRARY)}) - opened(clean_environment())
        allowed = {str(LIBRARY), "/proc/self/exe", "/proc/sys/vm/overcommit_memory"}
        self.assertEqual({path for path in more - allowed if not path.startswith("/sys/devices/system/node/")
                          and Path(path).name != "libmimalloc.so.2"}, set())
        self.assertIn(str(LIBRARY), more)

    def test_H5_full_shared_memory_and_read_only_tmp(self):
        program = compile_program("limit_rows.c", "-pthread")
        out = Path(tempfile.mkdtemp(dir=SCRATCH))
        done = self.in_namespace("""set -e
mount -t tmpfs -o size=16k none /dev/shm
cat /dev/zero > /dev/shm/full 2>/dev/null || true
top=/$(echo "$1" | cut -d/ -f2)
mount --bind $top $top; mount -o remount,bind,ro $top
mount -t tmpfs none "$1"
! touch $top/x 2>/dev/null
for mode in sampled full; do
  "$2" record --mode $mode -q -o "$1/t.tmk" -- "$3" none 0
  "$2" info "$1/t.tmk" --json
done""", out, TOOL, program)
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(done.stdout.count(b"thread 0, child 7\n"), 2)
        self.assertEqual(done.stdout.count(b'"complete": true'), 2)

    def test_H4_memory_limit_of_a_control_group(self):
        """What recording takes is charged to the group: within 64 MB a program of 20 MB runs in every mode."""
        program = compile_program("limit_core.c", "-pthread")
        done = self.in_namespace("""
mount -t cgroup -o memory none "$1" 2>/dev/null || mount -t cgroup2 none "$1" 2>/dev/null || exit 77
group="$1/tidemark-$$"; mkdir "$group" || exit 77
limit="$group/memory.limit_in_bytes"
if [ ! -e "$limit" ]; then echo +memory > "$1/cgroup.subtree_control"; limit="$group/memory.max"; fi
echo 64M > "$limit" || { rmdir "$group"; exit 77; }
for mode in sampled full; do
  sh -c 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"' sh "$group" "$2" record --mode $mode -q -o "$3/$mode" -- "$4"
  echo "status $?"
done
for i in $(seq 100); do rmdir "$group" 2>/dev/null && break; sleep 0.1; done
[ ! -e "$group" ]
""", tempfile.mkdtemp(dir=SCRATCH), TOOL, tempfile.mkdtemp(dir=SCRATCH), program)
        if done.returncode == 77:
            self.skipTest("no memory controller of control groups here")
        self.assertEqual((done.returncode, done.stdout), (0, b"status 134\nstatus 134\n"), done.stderr)

    def test_D8_core_of_a_dying_program_stays_small(self):
        if Path("/proc/sys/kernel/core_pattern").read_text().strip() not in ("core", "core.%p"):
            self.skipTest("cores do not go to the working directory here")
        program = compile_program("limit_core.c", "-pthread")
        command = ["sh", "-c", f"ulimit -c unlimited; exec {program} 20"]

        def core(run):
            folder = Path(tempfile.mkdtemp(dir=SCRATCH))
            run(folder)
            found = list(folder.glob("core*"))
            if not found:
                self.skipTest("no core is written here")
            stat = found[0].stat()
            found[0].unlink()
            return stat.st_size, stat.st_blocks * 512
        apparent, real = core(lambda folder: self.assertEqual(self.plain(command, cwd=folder).returncode, -6))
        for name, (mode, options) in MODES.items():
            with self.subTest(mode=name):
                def run(folder):
                    done, _ = record(command, "-q", *options, mode=mode, check=False, cwd=folder)
                    self.assertEqual(done.returncode, 134)
                size, blocks = core(run)
                # 22 MB beside 20, measured. Its length counts tables that nobody has touched: holes in the file.
                self.assertLess(blocks, real + (8 << 20))
                self.assertLess(size, apparent + (2 << 30))


if __name__ == "__main__":
    unittest.main()
