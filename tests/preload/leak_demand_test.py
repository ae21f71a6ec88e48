"""Leaks looked for in running processes: the verdict is right while threads work, the program sees nothing of it, and
whoever asks in vain is told why.

The collector is asked over its socket with the bytes that profiler/session.h describes; verdicts are read from the
trace's bytes. Must not: measure how long it takes.
"""
import os
import re
import signal
import socket
import struct
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

import leak_rows
from leak_rows import DEFINITE, DONE, NO_SNAPSHOT, REACHABLE
from tracing import SCRATCH, TOOL, clean_environment, compile_program

ON_DEMAND, IN_COPY, IN_PLACE_METHOD = 8, 2, 1
MAGIC = 0x314b41454c4b4d54
EXACT, IN_PLACE = 1 << 31, 1 << 30
(ANSWERED, NOT_RECORDED, NOT_PREPARED, NO_HANDLER, ENDED, NOT_TAKEN, NO_VERDICT, NOT_WRITTEN) = range(8)
QUESTION, REPLY = struct.Struct("<QIIII"), struct.Struct("<QIII")


def session_of(pid):
    maps = Path(f"/proc/{pid}/maps").read_text()
    return re.search(r"/memfd:tidemark-([0-9a-f]{32})", maps)[1]


def connect(session):
    asking = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asking.settimeout(300)
    asking.connect("\0tidemark-" + session)
    return asking


def ask(pid, bits=0, session=None):
    """(answer, number of the check, path of the trace)"""
    with connect(session or session_of(pid)) as asking:
        asking.send(QUESTION.pack(MAGIC, 1, pid, bits, 0))
        reply = asking.recv(8192)
    magic, version, answer, number = REPLY.unpack_from(reply)
    assert (magic, version) == (MAGIC, 1), reply[:32]
    return answer, number, reply[REPLY.size:].split(b"\0")[0].decode()


class LeakDemandTest(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        cls.program = compile_program("leak_demand.c", "-O0", "-w", "-pthread")

    def start(self, what, *options):
        """(process under record, pid of the program); its trace is self.path."""
        self.path = Path(tempfile.mkdtemp(dir=SCRATCH)) / "trace.tmk"
        options = options or ("--leak-check",)
        command = [TOOL, "record", "-q", "--mode", "full", *options, "-o", self.path, "--", self.program, what]
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   env=clean_environment())
        self.addCleanup(process.wait)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.kill)
        pid = int(process.stdout.readline())
        return process, pid

    def end(self, process):
        """What the program has noticed."""
        process.stdin.close()
        noticed = dict(line.rsplit(" ", 1) for line in process.stdout.read().decode().splitlines())
        self.assertEqual(process.wait(timeout=120), 0)
        return {name: int(number) for name, number in noticed.items()}

    def check(self, number, path=None):
        (found,) = [check for check in leak_rows.leak_checks(path or self.path) if check.number == number]
        return found

    def assert_lost(self, check, count=10):
        lost = [(row.leak_class, row.bytes) for row in check.rows if row.leak_class == DEFINITE]
        self.assertEqual(lost, [(DEFINITE, 1001)] * count)
        self.assertEqual((check.outcome, check.trigger), (DONE, ON_DEMAND))

    def test_threads_at_work(self):
        process, pid = self.start("busy")
        for round in range(10):
            answer, number, path = ask(pid)
            self.assertEqual((answer, number, path), (ANSWERED, round + 1, str(self.path.resolve())))
        noticed = self.end(process)
        for number in range(1, 11):
            check = self.check(number)
            self.assert_lost(check)
            self.assertEqual((check.method, check.threads), (IN_COPY, 5))
            self.assertLessEqual(check.pause_us, 120_000_000)
        self.assertEqual((noticed["children"], noticed["none left"]), (0, 1))

    def test_sleeping_threads_are_left_alone(self):
        """What their registers alone hold is not seen; here all is in memory."""
        process, pid = self.start("asleep")
        time.sleep(0.5)  # into poll; a thread that is asked on its way there would be interrupted
        for bits in (0, 0):
            self.assertEqual(ask(pid, bits)[0], ANSWERED)
        noticed = self.end(process)
        for number in (1, 2):
            self.assert_lost(self.check(number))
            held = {row.bytes for row in self.check(number).rows if row.leak_class == REACHABLE}
            self.assertTrue({3001, 3002, 3003} <= held, held)
        self.assertEqual(noticed["none left"], 1)
        # The thread that is asked itself is the one that may see it.
        self.assertLessEqual(noticed["interrupted"], 2)

    def test_exact_signals_them(self):
        process, pid = self.start("asleep")
        time.sleep(0.5)
        self.assertEqual(ask(pid, EXACT)[0], ANSWERED)
        noticed = self.end(process)
        self.assert_lost(self.check(1))
        self.assertEqual(self.check(1).not_stopped, 0)
        self.assertGreater(noticed["interrupted"], 0)

    def test_a_forked_child_is_asked_itself(self):
        process, pid = self.start("fork")
        answer, number, path = ask(pid)
        self.assertEqual(answer, ANSWERED)
        self.assertIn(str(pid), path)
        check = self.check(number, path)
        own = [row.bytes for row in check.rows if row.leak_class == DEFINITE and row.flags & leak_rows.INHERITED == 0]
        self.assertEqual(own, [1001] * 10)
        self.assertEqual(self.end(process)["none left"], 1)

    def leaks(self, *arguments):
        done = subprocess.run([TOOL, "leaks", *map(str, arguments)], capture_output=True, text=True, timeout=300,
                              env=clean_environment())
        return done.returncode, done.stdout, done.stderr

    def test_command(self):
        process, pid = self.start("busy")
        for options in ((), ("--exact",)):
            status, output, errors = self.leaks("--pid", pid, "--no-default-suppressions", *options)
            self.assertEqual(status, 1, errors)  # which says that the trace is still being written
            self.assertRegex(output, r"10,010 bytes|10010 bytes|9\.8 KiB")
        self.end(process)
        status, output, errors = self.leaks("--pid", pid)
        self.assertEqual((status, output), (4, ""))
        self.assertIn(f"there is no process {pid}", errors)
        status, _, errors = self.leaks("--pid", os.getpid())
        self.assertEqual(status, 4)
        self.assertIn("is not recorded: start it with", errors)
        for wrong in (("--pid", 0), ("--pid", pid, self.path), ("--exact", self.path), ("--pid", pid, "--", "true")):
            self.assertEqual(self.leaks(*wrong)[0], 2, wrong)

    def test_asked_in_vain(self):
        process, pid = self.start("", "--seed", "1")
        session = session_of(pid)
        self.assertEqual(ask(pid)[0], NOT_PREPARED)
        self.assertEqual(ask(os.getpid(), session=session)[0], NOT_RECORDED)
        with connect(session) as asking:  # neither a question nor a process that wants to be recorded
            asking.send(b"x" * QUESTION.size)
            self.assertEqual(asking.recv(100), b"")
        with connect(session) as asking:  # of another version: no answer that it could understand
            asking.send(QUESTION.pack(MAGIC, 77, pid, 0, 0))
            self.assertEqual(asking.recv(100), b"")
        self.end(process)

    def test_a_program_with_a_handler_of_its_own(self):
        process, pid = self.start("own-handler")
        self.assertEqual(ask(pid)[0], NOT_TAKEN)
        self.end(process)

    def test_a_process_that_ends_meanwhile(self):
        process, pid = self.start("")
        os.kill(pid, signal.SIGSTOP)
        with connect(session_of(pid)) as asking:
            asking.send(QUESTION.pack(MAGIC, 1, pid, 0, 0))
            time.sleep(0.3)
            os.kill(pid, signal.SIGKILL)
            answer = REPLY.unpack_from(asking.recv(8192))[2]
        self.assertEqual(answer, ENDED)
        process.wait(timeout=120)

    def test_no_copy_can_be_made(self):
        """In place, if whoever asks allows that; else the verdict is that there is none."""
        process, pid = self.start("no-copies")
        self.assertEqual([ask(pid)[0], ask(pid, IN_PLACE)[0]], [ANSWERED, ANSWERED])
        self.end(process)
        self.assertEqual((self.check(1).outcome, self.check(1).rows), (NO_SNAPSHOT, []))
        self.assert_lost(self.check(2))
        self.assertEqual(self.check(2).method, IN_PLACE_METHOD)


if __name__ == "__main__":
    unittest.main()
