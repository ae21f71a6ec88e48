"""`tidemark leaks` on traces: exit statuses, formats against their schemas, suppressions, baselines, budgets, runs.

The traces are recorded here, of programs that lose known amounts. Must not: depend on names of libraries' functions.
"""
import json
import re
import subprocess
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from tracing import ROOT, TOOL, clean_environment, compile_program

SCHEMAS = ROOT / "tests" / "schemas"
GOLDEN = ROOT / "tests" / "golden"


def leaks(*arguments, **keywords):
    return subprocess.run([TOOL, "leaks", *map(str, arguments)], capture_output=True, text=True, errors="replace",
                          env=clean_environment(), timeout=120, **keywords)


def verdict(*arguments):
    done = leaks("--format", "json=-", *arguments)
    if done.returncode not in (0, 1, 4):
        raise AssertionError(f"leaks {arguments}: exit {done.returncode}: {done.stderr}")
    found = json.loads(done.stdout)
    if found["exit_status"] != done.returncode:
        raise AssertionError(f"leaks {arguments}: exits {done.returncode}, says {found['exit_status']}")
    return found


class LeaksTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.program = compile_program("leak_shapes.c", "-g", "-O0")
        folder = tempfile.TemporaryDirectory(prefix="tidemark-leaks-")
        cls.addClassCleanup(folder.cleanup)
        cls.traces = Path(folder.name)
        cls.trace = cls.record("list", "one", "keep")
        cls.clean = cls.record("keep")

    @classmethod
    def record(cls, *shapes, options=()):
        path = cls.traces / ("-".join(shapes) + ".tmk")
        subprocess.run([TOOL, "record", "-q", "--mode", "full", "--leak-check", "-o", path, *options, "--", cls.program,
                        *shapes], check=True, env=clean_environment(), stdout=subprocess.DEVNULL, timeout=120)
        return path

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="tidemark-leaks-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def leak_at(self, found, function, kind="definite"):
        return next(leak for leak in found["leaks"]
                    if leak["class"] == kind and leak["stack"] and leak["stack"][0]["function"] == function)

    def test_amounts_and_structure(self):
        found = verdict(self.trace)
        head = self.leak_at(found, "node_new")
        self.assertEqual(head["direct"], {"bytes": 32, "blocks": 1})
        self.assertEqual(head["indirect"], {"bytes": 4 * 32, "blocks": 4})
        self.assertEqual(head["structure"][0]["held"], {"bytes": 4 * 32, "blocks": 4})
        self.assertEqual(self.leak_at(found, "lose_one")["direct"], {"bytes": 100, "blocks": 1})
        self.assertEqual(found["totals"]["definite"], {"bytes": 132, "blocks": 2})
        self.assertEqual(found["totals"]["indirect"], {"bytes": 128, "blocks": 4})
        self.assertEqual([frame["function"] for frame in head["stack"][:3]], ["node_new", "lose_list", "main"])
        self.assertEqual(head["lost_while_running"], 1)
        self.assertEqual(found["failing"], 2)

    def test_statuses_are_apart(self):
        self.assertEqual(leaks(self.clean).returncode, 0)
        self.assertEqual(leaks(self.trace).returncode, 1)
        for wrong in ([], ["--format", "yaml", self.trace], ["--fail-on", "all,", self.trace],
                      ["--max-leaked", "1T", self.trace],
                      ["--format", "json", "--format", "text", self.trace], ["--update-baseline", self.trace],
                      [self.trace, "--", "true"], ["-o", "x.tmk", self.trace]):
            done = leaks(*wrong)
            self.assertEqual((done.returncode, done.stdout), (2, ""), wrong)
            self.assertRegex(done.stderr, r"^tidemark: leaks: .+\n$")
        for unreadable in ([self.folder / "none.tmk"], ["--suppressions", self.folder / "none", self.trace],
                           ["--baseline", self.folder / "none", self.trace],
                           ["--baseline", self.write("bad.json", "[]"), self.trace]):
            self.assertEqual(leaks(*unreadable).returncode, 3, unreadable)
        self.assertEqual(leaks(GOLDEN / "minimal.tmk").returncode, 4)
        self.assertEqual(leaks("--unchecked", "warn", GOLDEN / "minimal.tmk").returncode, 0)

    def test_same_output_every_time(self):
        for name in ("text", "json", "sarif", "junit", "github", "memcheck-xml"):
            first = leaks("--format", name, self.trace).stdout
            self.assertTrue(first)
            self.assertEqual(first, leaks("--format", name, self.trace).stdout, name)

    def test_text_says_what_matters(self):
        text = leaks(self.trace, "--show", "all").stdout
        for words in ("32 bytes in 1 block definitely lost", "128 bytes in 4 blocks that only they held",
                      "node_new  leak_shapes.c:", "suppress with: leak:^lose_one$",
                      "verdict: leaks: 2 leaks are not allowed",
                      "77 bytes in 1 block still reachable, from a global variable"):
            self.assertIn(words, text)

    def test_every_format_in_one_pass(self):
        names = ("text", "json", "sarif", "junit", "github", "memcheck-xml")
        options = [word for name in names for word in ("--format", f"{name}={self.folder / name}")]
        done = leaks(*options, self.trace)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        for name in names:
            self.assertEqual((self.folder / name).read_text(), leaks("--format", name, self.trace).stdout)

    def test_json_is_as_its_schema_says(self):
        import jsonschema
        schema = json.loads((ROOT / "docs" / "json-schema" / "leaks.json").read_text())
        validator = jsonschema.validators.validator_for(schema)
        validator.check_schema(schema)
        rules = self.write("rules", "leak:^lose_one$\n")
        for arguments in ([self.trace, "--trends"], [self.clean], [GOLDEN / "leaks.tmk"], [GOLDEN / "minimal.tmk"],
                          [self.trace, "--suppressions", rules]):
            document = verdict(*arguments)
            self.assertEqual([error.message for error in validator(schema).iter_errors(document)], [], arguments)
        broken = verdict(self.trace)
        broken["leaks"][0]["class"] = "lost"
        self.assertTrue(list(validator(schema).iter_errors(broken)))

    def test_sarif_is_as_its_schema_says(self):
        import jsonschema
        schema = json.loads((SCHEMAS / "sarif-2.1.0.json").read_text())
        validator = jsonschema.validators.validator_for(schema)(schema)
        rules = self.write("rules", "leak:^lose_one$\n")
        baseline = self.folder / "baseline.json"
        self.assertEqual(leaks(self.trace, "--baseline", baseline, "--update-baseline").returncode, 0)
        for arguments in ([self.trace], [GOLDEN / "leaks.tmk"], [GOLDEN / "minimal.tmk"],
                          [self.trace, "--suppressions", rules, "--baseline", baseline],
                          [self.clean, "--baseline", baseline]):
            document = json.loads(leaks("--format", "sarif", "--source-root", ROOT, *arguments).stdout)
            self.assertEqual([error.message[:200] for error in validator.iter_errors(document)], [], arguments)
        document["version"] = "2.2"
        self.assertTrue(list(validator.iter_errors(document)))

    def test_sarif_keeps_what_is_suppressed_and_what_is_gone(self):
        rules = self.write("rules", "leak:^lose_one$\n")
        baseline = self.folder / "baseline.json"
        leaks(self.trace, "--baseline", baseline, "--update-baseline")
        run = json.loads(leaks("--format", "sarif", "--source-root", ROOT, "--suppressions", rules, "--baseline",
                               baseline, self.trace).stdout)["runs"][0]
        by_function = {result["stacks"][0]["frames"][0]["location"]["logicalLocations"][0]["fullyQualifiedName"]: result
                       for result in run["results"] if "stacks" in result}
        self.assertEqual(by_function["lose_one"]["suppressions"][0]["kind"], "external")
        self.assertEqual(by_function["node_new"]["suppressions"], [])
        self.assertEqual(by_function["node_new"]["baselineState"], "unchanged")
        self.assertEqual(by_function["node_new"]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
                         "tests/preload/programs/leak_shapes.c")
        gone = json.loads(leaks("--format", "sarif", "--baseline", baseline, self.clean).stdout)["runs"][0]["results"]
        self.assertEqual({result["baselineState"] for result in gone}, {"absent"})
        self.assertEqual(len(gone), 2)

    def test_junit_is_as_its_schema_says(self):
        rules = self.write("rules", "leak:^lose_one$\n")
        for arguments in ([self.trace], [self.trace, "--suppressions", rules], [GOLDEN / "minimal.tmk"]):
            path = self.folder / "junit.xml"
            leaks("--format", f"junit={path}", *arguments)
            done = subprocess.run(["xmllint", "--noout", "--schema", SCHEMAS / "junit-10.xsd", path],
                                  capture_output=True, text=True)
            self.assertEqual(done.returncode, 0, done.stderr)
            suite = ElementTree.parse(path).getroot().find("testsuite")
            for tag, attribute in (("failure", "failures"), ("error", "errors"), ("skipped", "skipped")):
                self.assertEqual(len(suite.findall(f"testcase/{tag}")), int(suite.get(attribute)))
            self.assertEqual(len(suite.findall("testcase")), int(suite.get("tests")))

    def test_suppressions_of_both_kinds_and_of_the_report(self):
        for number, (rule, hidden) in enumerate((
                ("leak:lose_*", 260), ("leak:leak_shapes.c", 260 + 77),  # what is kept has that source, too
                ("{\n  mine\n  Memcheck:Leak\n  fun:malloc\n  ...\n  fun:lose_*\n}", 260))):
            found = verdict(self.trace, "--suppressions", self.write(f"rules{number}", rule + "\n"))
            self.assertEqual((found["verdict"], found["failing"]), ("fine", 0), rule)
            self.assertEqual(found["suppressions"][0]["whole"]["bytes"], hidden, rule)
        suggested = [leak["suppression"] for leak in verdict(self.trace)["leaks"] if leak["class"] == "definite"]
        every = self.write("every", "\n".join(suggested))
        self.assertEqual(verdict(self.trace, "--suppressions", every)["verdict"], "fine")

    def test_rules_that_are_wide_or_unused_are_told(self):
        rules = self.write("rules", "leak:main\nleak:nobody_has_this\nnonsense\n")
        done = leaks(self.trace, "--suppressions", rules)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"rules:1: 'leak:main' matches main")
        self.assertRegex(done.stderr, r"rules:2: 'leak:nobody_has_this' matches nothing")
        self.assertRegex(done.stderr, r"rules:3: ")
        self.assertEqual(leaks(self.trace, "--suppressions", rules, "--allow-wide-suppressions").returncode, 0)

    def test_suppressions_in_the_program(self):
        source = self.write("embedded.c", '#include <stdlib.h>\n'
                            'const char* __lsan_default_suppressions(void) { return "leak:^lose_it$\\n"; }\n'
                            '__attribute__((noinline)) void lose_it(void) { *(volatile char*)malloc(50) = 1; }\n'
                            'int main(void) { lose_it(); volatile char a[4096]; for (int i = 0; i < 4096; i++) '
                            'a[i] = 0;'
                            ' return 0; }\n')
        for flags in (("-O0",), ("-O2",), ("-O2", "-no-pie"), ("-O0", "-fcf-protection=full")):
            program = self.folder / "embedded"
            subprocess.run(["gcc", "-g", *flags, source, "-o", program], check=True)
            path = self.folder / "embedded.tmk"
            subprocess.run([TOOL, "record", "-q", "--mode", "full", "--leak-check", "-o", path, "--", program],
                           check=True, env=clean_environment(), timeout=120)
            found = verdict(path)
            self.assertEqual(found["verdict"], "fine", flags)
            self.assertEqual([used["leaks"] for used in found["suppressions"]], [1], flags)

    def test_baseline_from_first_to_last(self):
        baseline = self.folder / "baseline.json"
        self.assertEqual(leaks(self.trace, "--baseline", baseline, "--update-baseline").returncode, 0)
        self.assertEqual(leaks(self.trace, "--baseline", baseline).returncode, 0)
        more = self.record("list", "one", "one", "keep")
        found = verdict(more, "--baseline", baseline)
        self.assertEqual((found["verdict"], self.leak_at(found, "lose_one")["baseline"]), ("leaks", "grown"))
        self.assertEqual(verdict(more, "--baseline", baseline, "--allow-growth", 100)["verdict"], "fine")
        found = verdict(self.record("other", "keep"), "--baseline", baseline)
        self.assertEqual((found["failing"], len(found["stale"])), (1, 2))
        content = json.loads(baseline.read_text())
        content["leaks"][0].update(owner="someone", expires="9999-12-31", mine=[1])
        content["leaks"][1].update(expires="1970-01-02")
        baseline.write_text(json.dumps(content))
        done = leaks(self.trace, "--baseline", baseline)
        self.assertEqual(done.returncode, 1)
        self.assertIn("has expired", done.stderr)
        leaks(self.trace, "--baseline", baseline, "--update-baseline")
        updated = json.loads(baseline.read_text())["leaks"]
        self.assertEqual([updated[0].get(key) for key in ("owner", "expires", "mine")], ["someone", "9999-12-31", [1]])
        self.assertNotIn("expires", updated[1])

    def test_budgets(self):
        for options, status in ((["--max-leaked", "260"], 0), (["--max-leaked", "259"], 1), (["--max-leaked", "1K"], 0),
                                (["--max-leaked", "127:indirect"], 1), (["--max-per-site", "160"], 0),
                                (["--max-per-site", "159"], 1), (["--max-blocks", "6"], 0), (["--max-blocks", "5"], 1)):
            self.assertEqual(leaks(self.trace, *options).returncode, status, options)

    def test_samples_are_estimates_that_hold(self):
        """Of 40 seeds: a leak as large as the distance of samples is seen in 63 %, estimates are right on average."""
        size = 100 * 5243  # 512 KiB
        estimates, inside = [], 0
        for seed in range(1, 41):
            path = self.traces / f"sampled-{seed}.tmk"
            subprocess.run([TOOL, "record", "-q", "--leak-check", "--seed", str(seed), "-o", path, "--", self.program,
                            "many=5243"], check=True, env=clean_environment(), timeout=120)
            found = verdict(path)["totals"]["definite"]
            estimates.append(found["bytes"])
            inside += found["samples"] != 0 and found["bytes_95"][0] <= size <= found["bytes_95"][1]
        seen = sum(estimate != 0 for estimate in estimates)
        # Binomial, 40 times 0.632: outside of this once in 10,000 sets of seeds; these seeds are fixed.
        self.assertTrue(14 <= seen <= 36, seen)
        self.assertGreaterEqual(inside, 0.85 * seen)
        self.assertTrue(0.5 * size <= sum(estimates) / 40 <= 1.6 * size, sum(estimates) / 40 / size)

    def test_growth_and_its_proof(self):
        path = self.record("many=20000")
        growth = verdict(path, "--trends")["growth"]
        self.assertEqual([(row["verdict"], row["stack"][0]["function"]) for row in growth], [("leaked", "lose_one")])
        self.assertAlmostEqual(growth[0]["per_allocated"], 1, delta=0.01)

    def test_children_are_found_and_named(self):
        path = self.record("fork", "one")
        found = verdict(path)
        self.assertEqual(len(found["processes"]), 2)
        leak = self.leak_at(found, "lose_one")
        self.assertEqual(leak["direct"]["blocks"], 2)
        self.assertEqual(sorted(share["process"] for share in leak["processes"]), [0, 1])
        self.assertEqual(len(verdict(path, "--children", "no")["processes"]), 1)
        # A trace of an earlier run under such a name is none of them.
        (path.parent / (path.name + ".999999")).write_bytes(self.trace.read_bytes())
        self.assertEqual(len(verdict(path)["processes"]), 2)

    def test_children_of_an_image_that_was_replaced(self):
        """They are older than the trace that has the run's name, which is the last image's."""
        script = "sh -c 'exit 0'; sh -c 'exit 0'; exec true"
        found = json.loads(leaks("--format", "json=-", "--", "sh", "-c", script).stdout)
        self.assertEqual(found["warnings"], [])
        self.assertEqual(len(found["processes"]), 4)

    def test_command_is_run_and_its_status_kept(self):
        done = leaks("--", self.program, "keep")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout, "keep\n")
        self.assertIn("verdict: fine", done.stderr)
        self.assertEqual(leaks("--", self.program, "one").returncode, 1)
        done = leaks("--", self.program, "one", "exit=37")
        self.assertEqual(done.returncode, 37)
        self.assertIn("verdict: leaks", done.stderr)
        self.assertEqual(leaks("--", "no-such-command-here").returncode, 127)
        done = leaks("--format", "json=-", "-o", self.folder / "kept.tmk", "--", self.program, "one")
        self.assertEqual(json.loads(done.stdout[done.stdout.index("{"):])["failing"], 1)
        self.assertEqual(leaks(self.folder / "kept.tmk").returncode, 1)

    def test_closed_descriptors_of_the_program_and_of_the_tool(self):
        report = self.folder / "report"
        done = leaks("--format", f"text={report}", "--", self.program, "close", "one")
        self.assertEqual(done.returncode, 1)
        self.assertIn("lose_one", report.read_text())
        report.unlink()
        done = subprocess.run(["sh", "-c", 'exec 2>&- >&-; exec "$@"', "sh", TOOL, "leaks", "--format",
                               f"text={report}", "--", self.program, "one"], env=clean_environment(), timeout=120)
        self.assertEqual(done.returncode, 1)
        self.assertIn("lose_one", report.read_text())

    def test_memcheck_xml_has_what_valgrind_has(self):
        path = self.folder / "valgrind.xml"
        subprocess.run(["valgrind", "--leak-check=full", "--show-leak-kinds=all", "--xml=yes", f"--xml-file={path}",
                        self.program, "list", "one", "keep"], check=True, capture_output=True, env=clean_environment(),
                       timeout=120)
        theirs, ours = ElementTree.parse(path).getroot(), ElementTree.fromstring(
            leaks("--format", "memcheck-xml", self.trace).stdout)

        def tags(element, prefix=""):
            found = set()
            for child in element:
                found |= {f"{prefix}{child.tag}"} | tags(child, f"{prefix}{child.tag}/")
            return found

        self.assertEqual(tags(ours) - tags(theirs), set())
        for needed in ("error/kind", "error/xwhat/leakedbytes", "error/stack/frame/fn", "error/stack/frame/line",
                       "pid"):
            self.assertIn(needed, tags(ours))
        self.assertEqual([child.tag for child in ours if child.tag not in ("error",)][:6],
                         [child.tag for child in theirs if child.tag not in ("error",)][:6])

        def lost(root):
            return sorted((error.find("kind").text, int(error.find("xwhat/leakedbytes").text),
                           int(error.find("xwhat/leakedblocks").text), error.findall("stack/frame/fn")[1].text)
                          for error in root.findall("error") if "Reachable" not in error.find("kind").text)

        self.assertEqual(lost(ours), lost(theirs))

    def test_default_suppressions_can_be_read(self):
        printed = leaks("--print-default-suppressions").stdout
        self.assertEqual(printed, (ROOT / "tools" / "default.supp").read_text())
        self.assertTrue(re.search(r"Memcheck:Leak", printed))


if __name__ == "__main__":
    unittest.main()
