"""`tidemark reclaim` tells of programs with known lives what their source says, in both modes.

Complete recordings are held to the formula itself; sampled ones to it within five standard errors (with a fixed seed,
so that a run fails always or never). JSON is held to its schema. Must not: depend on how long anything takes.
"""
import json
import subprocess
import unittest

from tracing import ROOT, TOOL, clean_environment, compile_program, record

BLOCK, BLOCKS = 1024, 65536
ALLOCATED = BLOCK * BLOCKS
SCHEMA = ROOT / "docs" / "json-schema" / "reclaim.json"


def reclaim(way, mode):
    options = ["--sample-bytes", "4096", "--seed", "11"] if mode == "sampled" else []
    program = compile_program("heap_lives.c", "-pthread")
    done, trace = record([program, way], *options, mode=mode)
    return json.loads(trace.tool("reclaim", trace.path, "--json")), trace, done


def died(life, nursery, unit="died_bytes"):
    return next(row for row in life["lifetimes"]["by_allocation"] if row["bytes"] == nursery)[unit]


class KnownLives(unittest.TestCase):
    maxDiff = None

    def check(self, way, expected_died, expected_live, reclaimed, blocks=BLOCKS):
        for mode in ("full", "sampled"):
            with self.subTest(way=way, mode=mode):
                life, trace, _ = reclaim(way, mode)
                flow = life["flow"]
                # Some 14,500 samples: a standard error of 0.75 %.
                error = 0 if mode == "full" else 5 / 128
                self.assertAlmostEqual(flow["allocated"]["bytes"], BLOCK * blocks, delta=error * BLOCK * blocks)
                self.assertAlmostEqual(flow["allocated"]["blocks"], blocks, delta=error * blocks)
                self.assertAlmostEqual(flow["live_bytes_end"], expected_live,
                                       delta=5 * (4096 * max(expected_live, 4096)) ** 0.5 if error else 0)
                self.assertAlmostEqual(flow["reclaimed"], reclaimed, delta=0.00001 + error / 2)
                for nursery, share in expected_died.items():
                    self.assertAlmostEqual(died(life, nursery), share, delta=0.004 + error / 2)
                    self.assertAlmostEqual(died(life, nursery, "died_blocks"), share, delta=0.004 + error / 2)
                    if mode == "sampled":
                        row = next(r for r in life["lifetimes"]["by_allocation"] if r["bytes"] == nursery)
                        low, high = row["died_bytes_95"]
                        self.assertLessEqual(low, row["died_bytes"])
                        self.assertGreaterEqual(high, row["died_bytes"])
                # A - F = L, and the sites add up to the whole.
                self.assertAlmostEqual(flow["allocated"]["bytes"] - flow["released"]["bytes"], flow["live_bytes_end"],
                                       delta=2)
                self.assertAlmostEqual(sum(site["allocated_bytes"] for site in life["sites"]),
                                       flow["allocated"]["bytes"], delta=life["all_sites"])
                totals = trace.report()["totals"]
                self.assertAlmostEqual(totals["allocated"]["bytes"], flow["allocated"]["bytes"], delta=2)
                self.assertAlmostEqual(totals["live_at_end"]["bytes"], flow["live_bytes_end"], delta=2)

    def test_fixed_lives(self):
        self.check("fixed", {64 << 10: 0, 256 << 10: 1}, 128 * BLOCK, 1 - 128 / BLOCKS)

    def test_linear_leak(self):
        self.check("leak", {64 << 10: 7 / 8, 64 << 20: 7 / 8}, ALLOCATED // 8, 7 / 8)

    def test_sawtooth(self):
        # The age of a block is what was allocated behind it in its tooth: evenly 0 to 2 MiB.
        self.check("sawtooth", {256 << 10: 1 / 8, 1 << 20: 1 / 2, 4 << 20: 1}, 0, 1)

    def test_generations(self):
        self.check("generations", {64 << 10: 3 / 4, 4 << 20: 3 / 4, 16 << 20: 1}, 2048 * BLOCK, 1 - 2048 / BLOCKS)

    def test_growth_by_realloc(self):
        life, _, _ = reclaim("growth", "full")
        chains = life["realloc"]
        self.assertEqual((chains["chains"], chains["steps"], chains["longest"]), (64, 64 * 12, 12))
        self.assertEqual(chains["by_log2_steps"][3], 64)  # 8 to 15 steps
        # What is copied is what was there, for each step that moved; where, the heap decides.
        self.assertLessEqual(chains["copied_bytes"], 64 * 65536)
        self.assertGreater(chains["copied_bytes"], 0)
        self.assertEqual(life["flow"]["released_by_realloc"]["bytes"], 64 * (65536 - 16))
        self.assertIsNone(reclaim("growth", "sampled")[0]["realloc"])

    def test_hand_off(self):
        for mode, delta in (("full", 0), ("sampled", 5 / 128)):
            with self.subTest(mode=mode):
                life, _, _ = reclaim("handoff", mode)
                crossed = life["flow"]["released_by_another_thread"]
                self.assertAlmostEqual(crossed["bytes"], ALLOCATED, delta=ALLOCATED * delta)
                self.assertEqual(len(life["hand_overs"]), 1)
                self.assertEqual(life["hand_overs"][0]["bytes"], crossed["bytes"])
                self.assertNotEqual(life["hand_overs"][0]["from_thread"], life["hand_overs"][0]["to_thread"])

    def test_rounding_is_the_heaps(self):
        life, _, done = reclaim("rounding", "full")
        requested, usable = map(int, done.stdout.split())
        self.assertEqual(life["flow"]["live_bytes_end"], requested)
        self.assertEqual(life["fragmentation"]["usable_bytes_at_end"], usable)

    def test_pages_pinned_by_few_bytes(self):
        life, _, _ = reclaim("pinning", "full")
        pages = life["fragmentation"]["pages"]
        # 1,024 blocks of 256 bytes, one in each 4 KiB (a heap page's first blocks may lie off that raster).
        self.assertAlmostEqual(pages["sparse_pages"], 1024, delta=64)
        pinned = life["sites"][0]["pinned_bytes"]
        self.assertAlmostEqual(pinned, pages["sparse_pages"] * 4096 - 1024 * 256, delta=64 * 4096)
        self.assertTrue(any("less than a quarter full" in sentence for sentence in life["findings"]))

    def test_resident_memory_is_explained(self):
        for mode in ("full", "sampled"):
            life, _, _ = reclaim("pinning", mode)
            for account in life["resident"]:
                parts = sum(account[part] or 0 for part in ("files", "requested", "rounding", "page_holes", "rest"))
                self.assertAlmostEqual(parts, account["rss"], delta=8)
            if mode == "sampled":
                self.assertIsNone(life["resident"][-1]["page_holes"])
                continue
            # In the pause: 1,024 blocks are alive, and hold their pages. Samples of an idle process are few.
            last = life["resident"][-1]
            self.assertEqual(last["requested"], 1024 * 256)
            self.assertEqual(last["rounding"], 0)
            self.assertEqual(last["page_holes"], life["fragmentation"]["pages"]["used_bytes_at_end"] - 1024 * 256)
            self.assertGreater(last["rss"], last["page_holes"])

    def test_windows_divide_the_run(self):
        _, trace, _ = reclaim("pinning", "full")
        whole = trace.report()
        # The pause lies behind every event: a window over it has no allocation, and all that lived before it.
        end = whole["run"]["duration_ns"]
        middle = f"{(end - 100_000_000) / 1e9:.6f}s"
        before = json.loads(trace.tool("report", trace.path, "--json", "--to", middle))
        after = json.loads(trace.tool("reclaim", trace.path, "--json", "--from", middle))
        self.assertEqual(before["totals"]["allocated"], whole["totals"]["allocated"])
        self.assertEqual(before["totals"]["live_at_end"], whole["totals"]["live_at_end"])
        self.assertEqual(after["flow"]["allocated"]["bytes"], 0)
        self.assertEqual(after["flow"]["live_bytes_at_begin"], 1024 * 256)
        self.assertEqual(after["flow"]["live_bytes_mean"], 1024 * 256)
        self.assertEqual(after["run"]["events"]["alloc"]["skipped"], 0)

    def test_samples_too_far_apart_tell_no_short_ages(self):
        program = compile_program("heap_lives.c", "-pthread")
        _, trace = record([program, "fixed"], "--sample-bytes", "65536", "--seed", "11", mode="sampled")
        life = json.loads(trace.tool("reclaim", trace.path, "--json"))
        self.assertEqual([row["resolved"] for row in life["lifetimes"]["by_allocation"]], [False] * 2 + [True] * 4)
        self.assertIn("not told", trace.tool("reclaim", trace.path))

    def test_json_is_as_the_schema_says(self):
        try:
            import jsonschema
        except ImportError:
            self.skipTest("Python's jsonschema is not installed")
        schema = json.loads(SCHEMA.read_text())
        for way, mode in (("handoff", "full"), ("generations", "sampled")):
            life, _, _ = reclaim(way, mode)
            jsonschema.validate(life, schema)
            del life["flow"]["churn"]
            with self.assertRaises(jsonschema.ValidationError):
                jsonschema.validate(life, schema)


class Usage(unittest.TestCase):
    def run_tool(self, *arguments):
        return subprocess.run([TOOL, *map(str, arguments)], capture_output=True, text=True, env=clean_environment())

    def test_text_says_findings_first(self):
        _, trace, _ = reclaim("generations", "full")
        text = trace.tool("reclaim", trace.path)
        places = [text.index(word) for word in ("what stands out", "\nflow", "\nlifetimes", "\nfragmentation",
                                                "\nnot measured", "\nsites by bytes")]
        self.assertEqual(places, sorted(places))
        self.assertIn("dies young", text)

    def test_bad_windows(self):
        _, trace, _ = reclaim("growth", "full")
        for arguments, words in ((["--from", "soon"], "--from needs a time"),
                                 (["--from", "2s", "--to", "1s"], "no time"), (["--to", "-1"], "--to needs a time")):
            done = self.run_tool("reclaim", trace.path, *arguments)
            self.assertEqual(done.returncode, 2, arguments)
            self.assertIn(words, done.stderr)


if __name__ == "__main__":
    unittest.main()
