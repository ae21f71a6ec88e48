"""What can be done with a page: keys, links, hiding and focusing, windows of time, in Chromium.

Must not: compare with `tidemark report` more than the window needs; page_numbers_test.py does that.
"""
import unittest

import browser


class PageUse(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        browser.need_browser()
        cls.trace = browser.record_templates()
        cls.page = browser.page_of(cls.trace)

    def test_keys_links_and_search(self):
        seen = browser.drive(self.page, "keys")
        name = seen["attended"].split(": bytes")[0]
        self.assertEqual(seen["crumbs"][0], "all")
        self.assertEqual(seen["crumbs"][-1], name)
        self.assertIn("zoom=", seen["address"])
        self.assertEqual(seen["crumbsBack"], len(seen["crumbs"]) - 1)
        self.assertEqual(seen["crumbsOut"], 0)
        self.assertEqual(seen["crumbsLinked"], seen["crumbs"])
        self.assertEqual(seen["selected"], "Functions")
        self.assertIn("copy suppression rule", seen["menu"])
        self.assertTrue(seen["menuClosed"])
        self.assertTrue(seen["help"])
        self.assertIn("0 B", seen["nothingFound"])
        self.assertEqual(seen["badPattern"], ["not a regular expression", "true"])
        main = next(row for row in self.trace.report("--by", "function", "--top", "0")["rows"]
                    if row["function"] == "main")
        self.assertEqual(seen["mainFound"], main["total"]["bytes"])
        self.assertIn("match 1 of 1: main", seen["match"])
        self.assertEqual(seen["unnamed"], [])

    def test_hiding_keeps_sums_and_removing_does_not(self):
        seen = browser.drive(self.page, "folds")
        whole = self.trace.report()["whole"]["bytes"]
        rows = {row["function"]: row for row in self.trace.report("--by", "function", "--top", "0")["rows"]}
        hidden, removed, focused = seen["hide"], seen["remove"], seen["focus"]
        self.assertIn(f"({whole:,} bytes)", hidden["root"])
        self.assertFalse(hidden["has"])
        through = rows[removed["name"]]["total"]["bytes"]
        self.assertIn(f"({whole - through:,} bytes)", removed["root"])
        self.assertFalse(removed["has"])
        self.assertIn(f"({through:,} bytes)", focused["root"])
        self.assertTrue(focused["has"])
        self.assertIn(focused["name"], focused["chips"][0])
        for option in ("mine", "recursion"):
            self.assertIn(f"({whole:,} bytes)", seen[option]["root"])
        # Grow calls itself: merged or not, its total counts a stack once.
        grow = next(row for row in seen["recursion"]["rows"] if any("Grow(" in str(cell) for cell in row))
        name = next(cell for cell in grow if "Grow(" in str(cell))
        self.assertIn(rows[name]["total"]["bytes"], grow)
        modules = {row[-1] for row in seen["mine"]["rows"]}
        names = [row[-2] for row in seen["mine"]["rows"]]
        self.assertIn("[libstdc++.so.6]" if "libstdc++.so.6" in modules else "[libc.so.6]", names)

    def test_windows_of_time(self):
        seen = browser.drive(self.page, "windows")
        whole = {name: metric["exact"] for name, metric in seen["whole"].items()}
        first = {name: metric["exact"] for name, metric in seen["firstHalf"]["metrics"].items()}
        second = {name: metric["exact"] for name, metric in seen["secondHalf"]["metrics"].items()}
        for name in ("allocated", "count", "temporary"):
            self.assertEqual(first[name] + second[name], whole[name], name)
        self.assertGreater(first["allocated"], 0)
        self.assertGreater(second["allocated"], 0)
        self.assertEqual(second["live"], whole["live"])
        self.assertEqual(max(first["peak"], second["peak"]), whole["peak"])
        self.assertIn("time=", seen["dragged"]["address"])
        self.assertIn(" to ", seen["dragged"]["text"])
        self.assertLessEqual(seen["dragged"]["metrics"]["allocated"]["exact"], whole["allocated"])
        self.assertIn("the whole run", seen["afterDouble"])
        self.assertIn("live at", seen["clicked"]["text"])
        self.assertEqual(seen["clicked"]["metrics"]["live"]["exact"], seen["clicked"]["metrics"]["peak"]["exact"])
        self.assertEqual(seen["restored"]["metrics"], seen["clicked"]["metrics"])
        self.assertEqual(seen["restored"]["text"], seen["clicked"]["text"])


if __name__ == "__main__":
    unittest.main()
