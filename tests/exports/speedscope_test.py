"""The speedscope export: valid by the schema that speedscope ships, and opened in speedscope itself in a browser.

Must not: look at pixels; the sandwich table has the numbers as text.
"""
import base64
import json
import re
import tempfile
import unittest
from pathlib import Path

from viewers import (MODULES, SCRATCH, ExportTest, clean_environment, export, functions, need, node_script, recording,
                     run)

RELEASE = MODULES / "speedscope" / "dist" / "release"
KINDS = {"bytes allocated": ("allocated", "bytes"), "blocks allocated": ("allocated", "blocks"),
         "bytes live at the peak": ("peak", "bytes"), "bytes live at the end": ("live_at_end", "bytes"),
         "temporary blocks": ("temporary", "blocks")}
VALIDATE = """
const Ajv = require('ajv'), fs = require('fs');
const schema = JSON.parse(fs.readFileSync(process.argv[2])), document = JSON.parse(fs.readFileSync(process.argv[3]));
delete schema.$schema;
const validate = new (Ajv.default || Ajv)({strict: false, allErrors: true}).compile(schema);
console.log(JSON.stringify({ok: validate(document), errors: validate.errors}));
"""


def browser():
    for name in ("chromium-headless-shell", "chromium", "chromium-browser"):
        try:
            return need(name, "Chromium")
        except unittest.SkipTest:
            continue
    raise unittest.SkipTest("Chromium is not installed; ./dev test installs it")


def rows_of_sandwich(path):
    """What speedscope shows: its page after it has loaded the file, as text."""
    folder = Path(tempfile.mkdtemp(dir=SCRATCH))
    loader = folder / "profile.js"
    data = base64.b64encode(path.read_bytes()).decode()
    loader.write_text(f"speedscope.loadFileFromBase64('x.speedscope.json', '{data}')")
    html = run(browser(), "--headless", "--no-sandbox", "--disable-gpu-sandbox", "--use-angle=swiftshader",
               "--enable-unsafe-swiftshader", "--allow-file-access-from-files", "--virtual-time-budget=20000",
               f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND", "--dump-dom",
               f"file://{RELEASE}/index.html#localProfilePath={loader}&view=sandwich",
               environment=clean_environment(HOME=str(folder)), quiet=False)
    return html


class Speedscope(ExportTest):
    def test_valid_and_complete(self):
        need(RELEASE / "file-format-schema.json", "speedscope")

        def check(trace):
            path = export(trace, "speedscope")
            document = json.loads(path.read_text())
            result = json.loads(node_script(VALIDATE, RELEASE / "file-format-schema.json", path))
            self.assertTrue(result["ok"], result["errors"])
            whole = [profile for profile in document["profiles"] if "," not in profile["name"]]
            sums = {KINDS[profile["name"]]: sum(profile["weights"]) for profile in whole}
            self.assertIn(("allocated", "bytes"), sums)
            self.assert_sums(sums, trace, max(len(profile["weights"]) for profile in whole))
            for profile in document["profiles"]:
                self.assertEqual(len(profile["samples"]), len(profile["weights"]))
                self.assertEqual(profile["endValue"], sum(profile["weights"]))

        self.each(check)

    def test_the_schema_can_refuse(self):
        need(RELEASE / "file-format-schema.json", "speedscope")
        path = export(recording("templates"), "speedscope")
        path.write_text(path.read_text().replace('"type":"sampled"', '"type":"simple"', 1))
        self.assertFalse(json.loads(node_script(VALIDATE, RELEASE / "file-format-schema.json", path))["ok"])

    def test_one_profile_per_thread(self):
        trace = recording("templates")
        document = json.loads(export(trace, "speedscope").read_text())
        by_name = {profile["name"]: profile["endValue"] for profile in document["profiles"]}
        for row in trace.report("--by", "thread", "--top", "0")["rows"]:
            self.assertEqual(by_name[f"bytes allocated, {row['name']} {row['tid']}"], row["self"]["bytes"])

    def test_opened_in_speedscope(self):
        need(RELEASE / "index.html", "speedscope")
        trace = recording("templates")
        html = rows_of_sandwich(export(trace, "speedscope"))
        text = re.sub(r"<[^>]+>", " ", html)
        self.assertIn("Churn", text, text[:2000])
        churn = next(row for (name, _), row in functions(trace).items() if name.startswith("Churn("))
        self.assertIn(speedscope_bytes(churn["total"]["bytes"]), text)
        self.assertIn(speedscope_bytes(trace.report()["totals"]["allocated"]["bytes"]), text)


def speedscope_bytes(count):
    """As speedscope's ByteFormatter writes it."""
    for unit in ("B", "KB", "MB"):
        if count < 1024:
            return f"{count} B" if unit == "B" else f"{count:.2f} {unit}"
        count /= 1024
    return f"{count:.2f} GB"


if __name__ == "__main__":
    unittest.main()
