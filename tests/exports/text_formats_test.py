"""Folded stacks with two numbers, CSV and JSON, read by what reads them: flamegraph rules, Python, sqlite3, the schema.

Must not: repeat tests/preload/artefacts_test.py, which looks at the values of JSON.
"""
import csv
import json
import re
import unittest

from viewers import MODULES, ExportTest, compile_program, export, need, node_script, record, recording, run, HERE

SCHEMAS = HERE.parent.parent / "docs" / "json-schema"
VALIDATE = """
const Ajv = require('ajv/dist/2020'), fs = require('fs');
const validate = new (Ajv.default || Ajv)({strict: false, allErrors: true})
  .compile(JSON.parse(fs.readFileSync(process.argv[2])));
console.log(JSON.stringify({ok: validate(JSON.parse(fs.readFileSync(process.argv[3]))), errors: validate.errors}));
"""


def violations(schema, path):
    need(MODULES / "ajv", "ajv (npm)")
    return json.loads(node_script(VALIDATE, SCHEMAS / schema, path))


class Folded(ExportTest):
    def test_two_numbers(self):
        program = compile_program("templates.cc", "-g", "-pthread", sources=[HERE / "programs" / "templates.cc"])
        old, new = recording("templates"), record([program, "2"], "--follow-children", "no")[1]
        lines = export(new, "folded", "--diff", old.path).read_text().splitlines()
        self.assertEqual(lines, sorted(lines))
        before, now = {}, {}
        for line in lines:
            stack, first, second = re.fullmatch(r"(.*) (\d+) (\d+)", line).groups()
            before[stack], now[stack] = int(first), int(second)
        for column, trace in ((before, old), (now, new)):
            alone = {";".join(stack): value for stack, value in trace.folded("allocated").items()}
            self.assertEqual({stack: value for stack, value in column.items() if value}, alone)
        churn = sum(now[stack] - before[stack] for stack in now if ";main;Churn(int);" in stack)
        self.assertEqual(churn, sum(480 + i % 3 for i in range(2000)))


class Csv(ExportTest):
    def test_rows_add_up(self):
        def check(trace):
            with open(export(trace, "csv"), newline="") as file:
                rows = list(csv.DictReader(file))
            sums = {(kind if kind != "live" else "live_at_end", unit): sum(int(row[f"{kind}_{unit}"]) for row in rows)
                    for kind in ("allocated", "peak", "live") for unit in ("bytes", "blocks")}
            self.assert_sums(sums, trace, len(rows))
            for row in rows:
                self.assertIn(row["function"].lstrip("'"), row["stack"])

        self.each(check)

    def test_sqlite_reads_it(self):
        trace = recording("templates")
        path = export(trace, "csv")
        text = run(need("sqlite3", "sqlite3"), ":memory:", ".mode csv", f".import {path} t",
                   "SELECT sum(allocated_bytes), sum(allocated_blocks) FROM t")
        total = trace.report()["totals"]["allocated"]
        self.assertEqual(text.split()[0], f"{total['bytes']},{total['blocks']}")


class Json(ExportTest):
    def test_as_the_schema_says(self):
        def check(trace):
            result = violations("export.json", export(trace, "json"))
            self.assertTrue(result["ok"], result["errors"])

        self.each(check)

    def test_the_schema_can_refuse(self):
        path = export(recording("templates"), "json")
        document = json.loads(path.read_text())
        document["stacks"][0]["frames"] = "main"
        path.write_text(json.dumps(document))
        self.assertFalse(violations("export.json", path)["ok"])


if __name__ == "__main__":
    unittest.main()
