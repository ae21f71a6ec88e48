"""The pprof export, opened by Go's pprof: totals, functions, inlined lines, threads, mappings, comparison of two files.

Must not: parse the protocol buffer itself; that is pprof's part.
"""
import re
import shutil
import unittest
from pathlib import Path

from viewers import VIEWERS, ExportTest, clean_environment, export, functions, recording, run, SCRATCH

METRICS = {"alloc_objects": ("allocated", "blocks"), "alloc_space": ("allocated", "bytes"),
           "inuse_objects": ("live_at_end", "blocks"), "inuse_space": ("live_at_end", "bytes"),
           "peak_objects": ("peak", "blocks"), "peak_space": ("peak", "bytes")}


def pprof_program():
    candidates = [VIEWERS / "pprof", *Path("/usr/lib").glob("go-*/pkg/tool/*/pprof"), shutil.which("google-pprof-go")]
    for candidate in candidates:
        if candidate and Path(candidate).exists():
            return candidate
    raise unittest.SkipTest("Go's pprof is not built; ./dev test builds it where Go is installed")


def pprof(*arguments):
    environment = clean_environment(PPROF_TMPDIR=str(SCRATCH), HOME=str(SCRATCH))
    return run(pprof_program(), "-symbolize=none", *arguments, environment=environment, quiet=False)


def raw(path):
    """(sample types, [(values, locations, labels)], {location: [(function, file, line)]}, mappings)"""
    text = pprof("-raw", path)
    head, _, rest = text.partition("Samples:\n")
    names, _, rest = rest.partition("\n")
    sample_text, _, rest = rest.partition("Locations\n")
    location_text, _, mapping_text = rest.partition("Mappings\n")
    samples, locations = [], {}
    for line in sample_text.splitlines():
        values, found, ids = line.partition(": ")
        if found and re.fullmatch(r"[\s\d]+", values):
            samples.append(([int(v) for v in values.split()], [int(i) for i in ids.split()], {}))
        else:
            samples[-1][2].update(re.findall(r"(\w+):\[(.*?)\](?= |$)", line))
    for line in location_text.splitlines():
        match = re.match(r"\s+(\d+): 0x[0-9a-f]+ M=\d+ (.*)", line)
        entry = match[2] if match else line.strip()
        if match:
            latest = locations[int(match[1])] = []
        parts = re.match(r"(.*) (\S*):(\d+):\d+ s=\d+", entry) or re.match(r"(.*) (\S*):(\d+) s=\d+", entry)
        latest.append((parts[1], parts[2], int(parts[3])) if parts else (entry, "", 0))
    return [name.partition("/")[0] for name in names.split()], samples, locations, mapping_text, head


class Pprof(ExportTest):
    def test_totals_of_every_metric(self):
        def check(trace):
            names, samples, _, _, _ = raw(export(trace, "pprof"))
            self.assertEqual(names, list(METRICS))
            sums = {METRICS[name]: sum(values[i] for values, _, _ in samples) for i, name in enumerate(names)}
            self.assert_sums(sums, trace, len(samples))

        self.each(check)

    def test_functions_as_in_the_report(self):
        trace = recording("templates")
        _, samples, locations, _, _ = raw(export(trace, "pprof"))
        flat, cumulative = {}, {}
        for values, ids, _ in samples:
            names = [function for location in ids for function, _, _ in locations[location]]
            flat[names[0]] = flat.get(names[0], 0) + values[1]
            for name in set(names):
                cumulative[name] = cumulative.get(name, 0) + values[1]
        for (function, _), row in functions(trace).items():
            self.assertEqual(flat.get(function, 0), row["self"]["bytes"], function)
            self.assertEqual(cumulative.get(function, 0), row["total"]["bytes"], function)

    def test_top_shows_the_same_numbers(self):
        trace = recording("templates")
        text = pprof("-top", "-unit=B", "-nodecount=0", "-nodefraction=0", "-edgefraction=0",
                     "-sample_index=alloc_space", export(trace, "pprof"))
        self.assertIn("Type: alloc_space", text)
        cumulative = {line.split(None, 5)[5]: int(line.split()[3][:-1]) for line in text.splitlines()
                      if re.match(r"\s+\d+(B|\s)", line) and len(line.split(None, 5)) == 6}
        rows = functions(trace)
        churn = next(row for (name, _), row in rows.items() if name.startswith("Churn("))
        shown = {name: value for name, value in cumulative.items() if name.startswith("Churn")}
        self.assertEqual(list(shown.values()), [churn["total"]["bytes"]], text)

    def test_inlined_calls_are_lines_of_one_location(self):
        _, _, locations, _, _ = raw(export(recording("templates"), "pprof"))
        several = [lines for lines in locations.values() if len(lines) > 1]
        self.assertTrue(any("PutInline" in lines[0][0] and "Fill" in lines[1][0] for lines in several), several)
        for lines in several:
            self.assertTrue(all(line > 0 for _, _, line in lines[:-1]), lines)

    def test_threads_are_labels(self):
        path = export(recording("templates"), "pprof")
        _, samples, _, _, _ = raw(path)
        by_thread = {}
        for values, _, labels in samples:
            by_thread[labels["thread"]] = by_thread.get(labels["thread"], 0) + values[1]
        for row in recording("templates").report("--by", "thread", "--top", "0")["rows"]:
            if row["name"].startswith("worker"):
                self.assertEqual(by_thread[row["name"]], row["self"]["bytes"])
        self.assertIn("worker-a", pprof("-tags", path))
        focused = pprof("-top", "-unit=B", "-tagfocus=thread=worker-a", "-sample_index=alloc_objects", path)
        self.assertIn("Fill", focused)

    def test_mappings_have_build_ids(self):
        trace = recording("templates")
        _, _, _, mappings, head = raw(export(trace, "pprof"))
        modules = {module["path"]: module["build_id"] for module in trace.info()["modules"]}
        self.assertGreaterEqual(len(modules), 3)
        for path, build_id in modules.items():
            self.assertRegex(mappings, rf"{re.escape(path)}\s+{build_id}", path)
        first = mappings.splitlines()[0]
        self.assertIn("templates", first)
        self.assertIn("Period: 1", head)
        self.assertIn("[FN]", first)

    def test_a_file_compared_with_itself_is_empty(self):
        path = export(recording("templates"), "pprof")
        self.assertRegex(pprof("-top", f"-diff_base={path}", path), r"(?m)^Showing nodes accounting for 0")

    def test_sampled_period(self):
        _, _, _, _, head = raw(export(recording("templates", "sampled"), "pprof"))
        self.assertIn("Period: 20000", head)

    def test_pprof_can_fail(self):
        path = export(recording("templates"), "pprof")
        path.write_bytes(path.read_bytes()[:-200])
        with self.assertRaises(AssertionError):
            pprof("-top", path)


if __name__ == "__main__":
    unittest.main()
