"""The page shows what `tidemark report` says: every view and metric of real programs, clicked through in Chromium.

Must not: compare anything but texts that a person can read on the page.
"""
import unittest

import browser

COLUMN_OF = {"functions": "function", "sites": "site", "threads": "thread", "sizes": "size"}


class PageNumbers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        browser.need_browser()

    def check(self, trace, metrics):
        seen = browser.drive(browser.page_of(trace), "walk")
        self.assertEqual(set(seen["metrics"]), set(metrics))
        joined = "are joined" in " ".join(seen["facts"])
        for metric in metrics:
            with self.subTest(metric=metric):
                blocks = metric in ("count", "temporary")
                for view, grouping in COLUMN_OF.items():
                    report = trace.report("--by", grouping, "--metric", metric, "--top", "40", "--callers", "0")
                    self.assertEqual(seen["metrics"][metric]["exact"], report["whole"]["blocks" if blocks else "bytes"])
                    shown = [self.row(view, seen["heads"][view], cells) for cells in seen["tables"][metric][view]]
                    said = [self.said(view, row) for row in report["rows"]]
                    if view == "functions" and joined:  # totals leave out the way through what is joined
                        self.assertTrue(all(row[3] >= row[1] for row in shown))
                        shown, said = [row[:3] + row[5:] for row in shown], [row[:3] + row[5:] for row in said]
                    # Rows of equal weight may stand in another order, which matters where the list was cut.
                    complete = report["all_rows"] <= 40
                    self.assertGreater(len(shown), 0)
                    self.assertEqual(len(shown), len(said))
                    if complete:
                        self.assertEqual(sorted(shown), sorted(said), view)
                    else:
                        weight = 2 if blocks else 1  # blocks or bytes of the row
                        least = said[-1][weight]
                        self.assertEqual(sorted(row for row in shown if row[weight] > least),
                                         sorted(row for row in said if row[weight] > least), view)
        self.graphs(trace, seen)
        return seen

    def row(self, view, heads, cells):
        """(name, bytes, blocks, ...) of a row of the page."""
        cell = dict(zip(heads, cells))
        if view == "functions":
            return (cell["function"], cell["self"], cell["blocks"], cell["total"], cell["total blocks"], cell["module"])
        name = {"sites": "site", "threads": "tid", "sizes": "size of block"}[view]
        if view == "sites":
            return (cell[name], cell["bytes"], cell["blocks"], cell["place, module"].split("  ")[-1])
        if view == "sizes":
            return ("", cell["bytes"], cell["blocks"])
        return (cell[name], cell["bytes"], cell["blocks"])

    def said(self, view, row):
        own = (row["self"]["bytes"], row["self"]["blocks"])
        if view == "functions":
            return (row["function"], *own, row["total"]["bytes"], row["total"]["blocks"], row["module"])
        if view == "sites":
            return (row["function"], *own, row["module"])
        return (str(row["tid"]) if view == "threads" else "", *own)

    def graphs(self, trace, seen):
        """The heaviest way through each graph, as the keyboard goes it, is that of the folded stacks."""
        folded = trace.folded("allocated")
        stacks = {stack: value for stack, value in folded.items()}
        total = sum(stacks.values())
        for view in ("icicle", "flame"):
            told = seen["graphs"][view]
            self.assertIn(f"all: bytes {self.exact(total)};", told[0] + ";")
            prefix = ()
            for sentence in told[1:8]:
                below = {}
                for stack, value in stacks.items():
                    if stack[:len(prefix)] == prefix and len(stack) > len(prefix):
                        below[stack[len(prefix)]] = below.get(stack[len(prefix)], 0) + value
                if not below:
                    break
                heaviest = max(below.values())
                self.assertIn(f": bytes {self.exact(heaviest)};", sentence, view)
                name = sentence.split(": bytes ")[0]
                prefix += (next(key for key, value in below.items()
                                if value == heaviest and key.replace(";", ":") == name.replace(";", ":")),)
        leaves = {}
        for stack, value in stacks.items():
            leaves[stack[-1]] = leaves.get(stack[-1], 0) + value
        for view in ("inverted", "sandwich"):
            self.assertIn(self.exact(max(leaves.values())), " ".join(seen["graphs"][view]), view)

    def exact(self, count):
        if count < 1024:
            return f"{count:,} bytes"
        value, unit = float(count), 0
        while value >= 1023.95:
            value /= 1024
            unit += 1
        digits = 2 if value < 9.995 else 1
        return f"{value:.{digits}f} {('B', 'KiB', 'MiB', 'GiB')[unit]} ({count:,} bytes)"

    def test_templates_and_inlines(self):
        seen = self.check(browser.record_templates(), ("allocated", "live", "peak", "count", "temporary"))
        self.assertIn("nothing lost", " ".join(seen["facts"]))
        # The function with a name of markup is a name.
        names = [cells[-2] for cells in seen["tables"]["allocated"]["functions"]]
        self.assertIn(browser.MARKUP, names)
        self.assertTrue(any("Shelf<" in name for name in names), names)

    def test_python(self):
        self.check(browser.record_python(), ("allocated", "live", "peak", "count", "temporary"))

    def test_compiler(self):
        self.check(browser.record_compiler(), ("allocated", "live", "peak", "count", "temporary"))

    def test_redis(self):
        self.check(browser.record_redis(), ("allocated", "live", "peak", "count", "temporary"))

    def test_sampled(self):
        trace = browser.record_templates("sampled")
        seen = browser.drive(browser.page_of(trace), "walk")
        self.assertNotIn("temporary", seen["metrics"])
        self.assertIn("95 %", " ".join(seen["facts"]))
        for metric in ("allocated", "live", "peak", "count"):
            said = trace.report("--metric", metric)["whole"]
            unit = "blocks" if metric == "count" else "bytes"
            self.assertEqual(seen["metrics"][metric]["exact"], said[unit])
            low, high = said[unit + "_95"]
            shown = seen["metrics"][metric]["range"]
            if low == high:
                self.assertEqual(shown, "")
            elif metric == "count":
                ends = [int(end) for end in shown.strip("()").replace(",", "").split(" .. ")]
                for end, exact in zip(ends, (low, high)):  # JSON has whole blocks outwards, the page the nearest
                    self.assertAlmostEqual(end, exact, delta=1)
            else:
                scale = {"B": 0, "KiB": 1, "MiB": 2, "GiB": 3}[shown.strip("()").split()[-1]]
                ends = [float(end) for end in shown.strip("()").replace(" ..", "").split()[:2]]
                for end, exact in zip(ends, (low, high)):
                    self.assertAlmostEqual(end, exact / 1024 ** scale, delta=0.051)
        by_function = {row["function"]: row for row in trace.report("--by", "function", "--top", "0")["rows"]}
        heads = seen["heads"]["functions"]
        for cells in seen["tables"]["allocated"]["functions"][:15]:
            cell = dict(zip(heads, cells))
            # Sums of doubles in another order: the last digit of the rounding may differ.
            self.assertAlmostEqual(cell["self"], by_function[cell["function"]]["self"]["bytes"], delta=1)
            self.assertAlmostEqual(cell["total"], by_function[cell["function"]]["total"]["bytes"], delta=1)


if __name__ == "__main__":
    unittest.main()
