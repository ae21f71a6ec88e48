"""Holds docs/hazards.md to the tests of the tree: every row is there once, and every test that it names exists.

Must not: know what a row is about.
"""
import re
import unittest

import tree

DOCUMENT = "docs/hazards.md"
# Rows of each group, from 1 to.
GROUPS = {"F": 22, "A": 15, "B": 19, "C": 16, "D": 10, "E": 25, "F-": 18, "G": 17, "H": 17, "I": 7}


def rows_of(text):
    """(row, cells) of each line of the tables but their heads."""
    rows = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("|") and re.fullmatch(r"[A-I]-?\d+", cells[0]):
            rows.append((cells[0], cells[1:]))
    return rows


def missing_rows(rows):
    wanted = [f"{group}{number}" for group, last in GROUPS.items() for number in range(1, last + 1)]
    names = [name for name, _ in rows]
    return sorted(set(wanted) ^ set(names)) + sorted(name for name in set(names) if names.count(name) > 1)


def unknown_tests(rows, texts):
    """Names in the last column that no test file has; rows that name none and do not say why."""
    found = []
    for name, cells in rows:
        if len(cells) != 3:
            found.append(f"{name}: not four columns")
            continue
        tests = re.findall(r"`([^`]+)`", cells[2])
        if not tests and not re.search(r"\b(does not apply|open)\b", cells[1]):
            found.append(f"{name}: names no test, and does not say that it is open or does not apply")
        for test in tests:
            file, _, case = test.partition(".")
            bodies = [text for path, text in texts.items()
                      if path.startswith("tests/") and re.search(rf"/{re.escape(file)}\.(py|cc)$", path)]
            if not bodies:
                found.append(f"{name}: there is no test file {file}")
            elif case and not any(has_case(body, case) for body in bodies):
                found.append(f"{name}: {file} has no case {case}")
    return found


def has_case(text, case):
    name = re.escape(case)
    return re.search(rf"^ +def {name}\(", text, re.M) or re.search(rf"^TEST(_F|_P)?\(\w+, {name}\)", text, re.M)


class SampleTest(unittest.TestCase):
    ROW = "| A1 | what | how | `x_test.test_A1` |\n"
    TEXTS = {"tests/preload/x_test.py": "class X:\n    def test_A1(self):\n",
             "tests/unit/y_test.cc": "TEST_F(Y, Z) {\n"}

    def test_what_is_there_is_fine(self):
        rows = rows_of("| row | hazard | handling | test |\n|---|---|---|---|\n" + self.ROW +
                       "| F-2 | what | does not apply: why | |\n| H2 | what | how | `y_test.Z`, `x_test` |\n")
        self.assertEqual([name for name, _ in rows], ["A1", "F-2", "H2"])
        self.assertEqual(unknown_tests(rows, self.TEXTS), [])

    def test_what_is_not_is_found(self):
        for row in (self.ROW.replace("test_A1`", "test_A2`"), self.ROW.replace("x_test.", "z_test."),
                    "| B1 | what | how | |\n", "| B1 | what | `y_test.Z` |\n", "| C1 | a | b | `y_test.Y` |\n"):
            with self.subTest(row=row):
                self.assertEqual(len(unknown_tests(rows_of(row), self.TEXTS)), 1)

    def test_rows_are_counted(self):
        self.assertIn("A1", missing_rows([]))
        everything = [(f"{group}{number}", []) for group, last in GROUPS.items() for number in range(1, last + 1)]
        self.assertEqual(missing_rows(everything), [])
        self.assertEqual(missing_rows(everything + [("G1", [])]), ["G1"])
        self.assertEqual(missing_rows(everything + [("I8", [])]), ["I8"])


class DocumentTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.texts = tree.tree_texts()
        cls.rows = rows_of(cls.texts[DOCUMENT])

    def test_every_row_is_there_once(self):
        self.assertEqual(missing_rows(self.rows), [])

    def test_every_test_exists(self):
        found = unknown_tests(self.rows, self.texts)
        if found:
            self.fail("\n" + "\n".join(found))


if __name__ == "__main__":
    unittest.main()
