"""How runs are taken: whose CPU is counted, what a failure becomes, in which order rounds go.

Programs are a shell's one-liners; times are only compared by orders of magnitude. Must not: need any peer.
"""
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(os.environ.get("TIDEMARK_SOURCE_DIR", Path(__file__).resolve().parent.parent.parent))
sys.path.insert(0, str(ROOT / "bench"))

import measure  # noqa: E402
import peers  # noqa: E402
import runs  # noqa: E402
import suite  # noqa: E402
import workloads  # noqa: E402
from inputs import Inputs  # noqa: E402
from peers import Peer  # noqa: E402
from runs import Failed, Invocation  # noqa: E402
from workloads import Command, Machine, Workload  # noqa: E402

BUSY = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"


class MeasureTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        base = Path(cls.folder.name)
        cls.machine = Machine(base, Inputs(base / "inputs"), base / "scratch")
        subprocess.run(["g++", *workloads.COMPILER_OPTIONS, str(ROOT / "bench" / "tree_cost.cc"), "-o",
                        str(base / "tree_cost")], check=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def run_shell(self, script: str, timeout_s: float = 30, **environment: str) -> runs.Run:
        command = Command(["sh", "-c", script], environment)
        folder = measure.fresh_folder(self.machine, "one")
        return runs.run_once(self.machine, Invocation(command.argv), command, folder, timeout_s).run

    def test_cpu_of_a_daemon_counts_and_is_told_apart(self):
        run = self.run_shell(f"setsid sh -c '{BUSY}' & exit 0")
        self.assertGreater(run.other_s, 0.02)
        self.assertGreaterEqual(run.cpu_s, run.other_s)
        self.assertLess(run.cpu_s - run.other_s, run.other_s)

    def test_cpu_of_a_child_is_the_command_s_own(self):
        run = self.run_shell(f"sh -c '{BUSY}'; true")
        self.assertGreater(run.cpu_s, 0.02)
        self.assertEqual(run.other_s, 0)

    def test_memory_does_not_begin_with_ours(self):
        run = self.run_shell("true")
        self.assertGreater(run.host_peak_bytes, 100_000)
        self.assertLess(run.host_peak_bytes, 8 << 20, "this interpreter is larger: its size was taken for the shell's")

    def test_environment_reaches_the_command(self):
        self.run_shell('[ "$PEER" = "a b" ]', PEER="a b")

    def test_a_failing_command_says_why(self):
        with self.assertRaisesRegex(Failed, "status 3: no such tide"):
            self.run_shell("echo no such tide >&2; exit 3")

    def test_a_command_that_does_not_end_is_killed_with_its_daemons(self):
        with self.assertRaisesRegex(Failed, "did not end within 0 s"):
            self.run_shell("setsid sleep 50 & sleep 50", timeout_s=0.2)

    def test_a_command_that_is_not_there(self):
        with self.assertRaisesRegex(Failed, "status 125: .*no-such-program"):
            command = Command(["no-such-program"])
            runs.run_once(self.machine, Invocation(command.argv), command, measure.fresh_folder(self.machine, "one"))

    def workload(self, script: str) -> Workload:
        return Workload("shell", "", lambda machine, size: Command(["sh", "-c", script]))

    def peer(self, name: str, script: str = "", order: list[str] | None = None) -> Peer:
        def invoke(command: Command, _folder: Path) -> Invocation:
            if order is not None:
                order.append(name)
            return Invocation(["sh", "-c", script] if script else command.argv)
        return Peer(name, "", invoke)

    def test_rounds_are_interleaved(self):
        order: list[str] = []
        both = [self.peer("a", order=order), self.peer("b", order=order)]
        found = measure.measure_workload(self.machine, self.workload("true"), both, "quick", 3)
        self.assertEqual(order, ["a", "b"] * 3)
        self.assertEqual([len(found[name].runs) for name in "ab"], [3, 3])

    def test_a_peer_that_fails_is_a_gap_and_the_others_go_on(self):
        both = [self.peer("a"), self.peer("b", "echo broken >&2; exit 1")]
        found = measure.measure_workload(self.machine, self.workload("true"), both, "quick", 2)
        self.assertEqual(found["b"].gap, "exited with status 1: broken")
        self.assertEqual(len(found["a"].runs), 2)

    def test_changed_output_is_found(self):
        both = [self.peer("a"), self.peer("b", "echo other")]
        found = measure.measure_workload(self.machine, self.workload("echo same"), both, "quick", 2)
        self.assertTrue(found["b"].facts.get("output_differs"))
        self.assertFalse(found["a"].facts.get("output_differs"))

    def test_time_ends_rounds_after_a_whole_one(self):
        found = measure.measure_workload(self.machine, self.workload("true"), [self.peer("a")], "quick", 9, seconds=0)
        self.assertEqual(len(found["a"].runs), 1)


class TableTest(unittest.TestCase):
    def test_names_are_unique(self):
        names = [workload.name for workload in (*workloads.ALL, workloads.LONG)]
        self.assertEqual(len(names), len(set(names)))
        tidemark = peers.Tidemark(Path("/nonexistent/tidemark"))
        listed = peers.all_peers(tidemark, Path("/nonexistent"), quick=True)
        self.assertEqual(len({peer.name for peer in listed}), len(listed))
        self.assertFalse({workload.name for workload in workloads.ALL} & set(suite.PARTS))

    def test_a_build_without_the_program_is_a_gap(self):
        listed = peers.Tidemark(Path("/nonexistent/tidemark")).peers()
        self.assertTrue(all("build" in peer.gap for peer in listed))

    def test_inputs_are_the_same_bytes_each_time(self):
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            for suffix in ("sql", "py", "pl", "json", "xml"):
                texts = [Inputs(Path(folder)).path(suffix, 0.01).read_bytes() for folder in (one, other)]
                self.assertEqual(*texts)
                self.assertGreater(len(texts[0]), 100)


if __name__ == "__main__":
    unittest.main()
