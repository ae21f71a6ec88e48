"""Exports for valgrind's viewers: callgrind_annotate, ms_print, and dh_view, whose loader runs in node.

The first two exit with 0 whatever they read, so that their stderr has to be empty and their sums right.
"""
import json
import re
import unittest
from pathlib import Path

from viewers import ExportTest, export, functions, need, node_script, recording, run

DH_VIEW = Path("/usr/libexec/valgrind/dh_view.js")
# The page builds its tree with a menu beside it; nothing else of a browser is asked for.
LOAD_DHAT = """
const fs = require('fs'), vm = require('vm');
const menu = Array.from({length: 40}, () => ({}));
vm.runInThisContext('globalThis.window = {}; globalThis.document = {};' + fs.readFileSync(process.argv[2], 'utf8') +
  `;globalThis.build = (text, menu) => { gData = JSON.parse(text);
    gSelect = {childNodes: menu.slice(0, gSelectData.length), selectedIndex: 0}; buildTree(); return gRoot; };`);
const root = build(fs.readFileSync(process.argv[3], 'utf8'), menu);
let leaves = 0, depth = 0;
(function walk(node, level) { depth = Math.max(depth, level); if (!node._kids) leaves++;
  else for (const kid of node._kids) walk(kid, level + 1); })(root, 0);
console.log(JSON.stringify({tb: root._totalBytes, tbk: root._totalBlocks, gb: root._atTGmaxBytes,
  gbk: root._atTGmaxBlocks, eb: root._atTEndBytes, ebk: root._atTEndBlocks, tl: root._totalLifetimes, leaves, depth}));
"""


def number(text):
    return int(text.replace(",", ""))


class Callgrind(ExportTest):
    EVENTS = (("allocated", "bytes"), ("allocated", "blocks"), ("peak", "bytes"), ("peak", "blocks"),
              ("live_at_end", "bytes"), ("live_at_end", "blocks"))

    def annotate(self, trace, *options):
        need("callgrind_annotate", "valgrind")
        return run("callgrind_annotate", "--auto=no", "--threshold=100", *options, export(trace, "callgrind"))

    def test_totals(self):
        def check(trace):
            text = self.annotate(trace)
            line = next(line for line in text.splitlines() if line.endswith("PROGRAM TOTALS"))
            numbers = [number(part) for part in re.findall(r"([\d,]+) (?:\([^)]*\))? ?", line)]
            stacks = len(json.loads(trace.tool("export", trace.path, "--format", "json", "-o", "-"))["stacks"])
            self.assert_sums(dict(zip(self.EVENTS, numbers)), trace, stacks)

        self.each(check)

    def rows(self, trace, inclusive):
        """{function: bytes}; names that several files have are added up."""
        found = {}
        for line in self.annotate(trace, f"--inclusive={inclusive}").splitlines():
            match = re.match(r" *([\d,]+) (?:\([ \d.]+%\) )?.*\)? {2,}(\S+?):(.*?)(?: \[(.*)\])?$", line)
            if match:
                found[match[3]] = found.get(match[3], 0) + number(match[1])
        return found

    def test_functions_as_in_the_report(self):
        trace = recording("templates")
        own, inclusive = self.rows(trace, "no"), self.rows(trace, "yes")
        compared = 0
        for (function, module), row in functions(trace).items():
            if not module.startswith("templates"):
                continue
            compared += 1
            self.assertEqual(own.get(function, 0), row["self"]["bytes"], function)
            self.assertEqual(inclusive[function], row["total"]["bytes"], function)
        self.assertGreaterEqual(compared, 7)
        self.assertIn("Recurse(int)", inclusive)


class Massif(ExportTest):
    def test_peak_end_and_trees(self):
        def check(trace):
            need("ms_print", "valgrind")
            text = run("ms_print", export(trace, "massif"))
            detailed = re.search(r"Detailed snapshots: \[(\d+) \(peak\), (\d+)\]", text)
            peak, last = int(detailed[1]), int(detailed[2])
            rows = {int(match[1]): number(match[2]) for match in
                    re.finditer(r"(?m)^ +(\d+) +[\d,]+ +([\d,]+) +[\d,]+ +0 +0$", text)}
            sums = {("peak", "bytes"): rows[peak], ("live_at_end", "bytes"): rows[last]}
            self.assert_sums(sums, trace, 1)
            self.assertEqual(max(rows.values()), rows[peak])
            # The tree below the peak: its first level adds up to the whole.
            tree = text.split("->")
            self.assertGreater(len(tree), 2)

        self.each(check)

    def test_levels_of_a_tree_add_up(self):
        lines = export(recording("templates"), "massif").read_text().splitlines()
        checked, stack = 0, []
        for line in lines:
            match = re.match(r"( *)n(\d+): (\d+)", line)
            if not match:
                continue
            depth, children, value = len(match[1]), int(match[2]), int(match[3])
            while stack and stack[-1][0] >= depth:
                stack.pop()
            if stack:
                stack[-1][2] -= value
                stack[-1][1] -= 1
                if stack[-1][1] == 0:
                    self.assertGreaterEqual(stack[-1][2], 0)  # what is left was allocated by shorter stacks
                    checked += 1
                    if len(stack) == 1:
                        self.assertEqual(stack[-1][2], 0)
            stack.append([depth, children, value])
        self.assertGreater(checked, 5)


class Dhat(ExportTest):
    def test_totals(self):
        need(DH_VIEW, "valgrind's dh_view")

        def check(trace):
            path = export(trace, "dhat")
            root = json.loads(node_script(LOAD_DHAT, DH_VIEW, path))
            sums = {("allocated", "bytes"): root["tb"], ("allocated", "blocks"): root["tbk"],
                    ("peak", "bytes"): root["gb"], ("peak", "blocks"): root["gbk"],
                    ("live_at_end", "bytes"): root["eb"], ("live_at_end", "blocks"): root["ebk"]}
            points = json.loads(path.read_text())["pps"]
            self.assert_sums(sums, trace, len(points))
            self.assertGreater(root["tl"], 0)
            self.assertGreater(root["depth"], 1)
            for point in points:
                self.assertGreaterEqual(point["tb"], point["mb"])
                self.assertGreaterEqual(point["mb"], max(point["gb"], point["eb"] - 1))

        self.each(check)

    def test_the_viewer_can_refuse(self):
        need(DH_VIEW, "valgrind's dh_view")
        path = export(recording("templates"), "dhat")
        document = json.loads(path.read_text())
        document["pps"].append(document["pps"][0])
        path.write_text(json.dumps(document))
        with self.assertRaisesRegex(AssertionError, "repeated location"):
            node_script(LOAD_DHAT, DH_VIEW, path)

    def test_lifetimes(self):
        trace = recording("templates")
        document = json.loads(export(trace, "dhat").read_text())
        names = document["ftbl"]
        lived = {}
        for point in document["pps"]:
            for frame in {names[frame] for frame in point["fs"]}:
                for function in ("Churn(", "Keep("):
                    if function in frame:
                        entry = lived.setdefault(function, [0, 0])
                        entry[0] += point["tl"]
                        entry[1] += point["tbk"]
            if any("Recurse(" in names[frame] for frame in point["fs"]):
                entry = lived.setdefault("Recurse(", [0, 0])
                entry[0] += point["tl"]
                entry[1] += point["tbk"]
        # What is kept until the end lives longer than what is freed at once.
        self.assertGreater(lived["Recurse("][0] / lived["Recurse("][1], lived["Churn("][0] / lived["Churn("][1])


if __name__ == "__main__":
    unittest.main()
