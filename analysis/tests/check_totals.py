"""The same numbers as the tools, on golden traces, on live recordings in both modes and on damaged traces.

Two implementations that share nothing but documents: where they differ, one of them, or a document, is wrong. Must not:
allow for differences that no document explains.
"""
import json
import random
import subprocess

import pytest
from conftest import GOLDEN, SOAK, TOOL, damaged, report_of

from tidemark_analysis import Trace, TraceError
from tidemark_analysis.reader import TraceFile

LIVE = [(name, mode) for name in ("python3", "sqlite3", "threads") for mode in ("full", "sampled")]
METRICS = {"allocated": "allocated", "peak": "peak", "live": "live_at_end"}


def close(ours, theirs):
    """Numbers of full traces are equal. The tools add and subtract weights as blocks come and go, and 10,000 of them
    leave a rounding error in what is alive; this package adds what is alive."""
    if isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(close(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(close, ours, theirs))
    if isinstance(theirs, int) and not isinstance(theirs, bool):
        return abs(ours - theirs) <= 1 + 1e-4 * theirs
    return ours == theirs


def same_totals(trace: Trace, report: dict) -> None:
    ours, theirs = trace.totals(), report["totals"]
    if trace.mode == "full":
        assert ours == theirs
    else:
        assert close(ours, theirs), (ours, theirs)
        for exact in ("allocated", "realloc", "zero_sized_blocks", "releases_of_unknown_blocks", "releases_implied"):
            assert ours[exact] == theirs[exact] or close(ours[exact], theirs[exact])
    assert trace.model.recorded() == {kind: row["recorded"] for kind, row in report["run"]["events"].items()}


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_totals_of_golden_traces(path):
    trace, report = Trace.open(path), report_of(path)
    same_totals(trace, report)
    assert trace.totals() == report["totals"]  # no allowance at all here
    assert trace.problems() == report["problems"]


@pytest.mark.parametrize(("name", "mode"), LIVE)
def test_totals_of_live_recordings(recording, name, mode):
    path = recording(name, mode)
    trace, report = Trace.open(path), report_of(path)
    assert report["totals"]["allocated"]["blocks"] > 1000
    same_totals(trace, report)
    assert trace.problems() == report["problems"]


def exported(path):
    done = subprocess.run([TOOL, "export", "--format", "json", "--all-frames", "-o", "-", path], capture_output=True,
                          check=True, timeout=300)
    return json.loads(done.stdout)


@pytest.mark.parametrize(("name", "mode"), LIVE)
def test_every_site_thread_and_size(recording, name, mode):
    path = recording(name, mode)
    trace, document = Trace.open(path), exported(path)
    for table, key, rows in ((trace.sites(), "node", {row["node"]: row for row in document["stacks"]}),
                             (trace.by_thread(), "serial", {row["serial"]: row for row in document["threads"]}),
                             (trace.by_size(), "high", {row["high"]: row for row in document["sizes"]})):
        keys = table[key].tolist()
        assert sorted(keys) == sorted(row for row, value in rows.items() if value["allocated"]["blocks"])
        for i, row in enumerate(keys):
            for ours, theirs in METRICS.items():
                for unit in ("bytes", "blocks"):
                    number, expected = int(table[f"{ours}_{unit}"][i]), rows[row][theirs][unit]
                    assert number == expected if mode == "full" else close(number, expected), (key, row, ours, unit)
                    if mode == "sampled":
                        ends = [int(table[f"{ours}_{unit}_{end}"][i]) for end in ("low", "high")]
                        expected = rows[row][theirs][f"{unit}_95"]
                        # Of blocks far above the mean distance next to nothing goes unseen. Rounding errors of the
                        # tools decide there whether it is nothing at all, and with it whether there is an interval.
                        if ours == "allocated" or expected[0] != expected[1]:
                            assert close(ends, expected), (key, row, ours, unit)


@pytest.mark.parametrize("mode", ["full", "sampled"])
def test_sums_over_any_grouping_are_the_total(recording, mode):
    trace = Trace.open(recording("threads", mode))
    total = trace.totals()["allocated"]["blocks"]
    for table in (trace.sites(), trace.by_thread(), trace.by_size()):
        assert int(table["allocated_blocks"].sum()) == pytest.approx(total, abs=table.rows)
    blocks = trace.blocks()
    assert blocks["weight_blocks"].sum() == pytest.approx(total, abs=1)
    timeline = trace.timeline(100)
    assert timeline["allocated_bytes"].sum() == pytest.approx(trace.totals()["allocated"]["bytes"], rel=1e-6)
    assert timeline["highest_live_bytes"].max() == pytest.approx(trace.totals()["peak"]["bytes"], rel=1e-6)
    balance = timeline["allocated_bytes"].sum() - timeline["freed_bytes"].sum()
    assert timeline["live_bytes"][-1] == pytest.approx(balance, rel=1e-6, abs=1)


def test_damaged_traces_are_read_alike(tmp_path):
    """Both readers keep the same events of every damaged trace, say the same of it, or both refuse it."""
    chance = random.Random(20)
    traces = [path.read_bytes() for path in GOLDEN]
    read = refused = 0
    for number in range(3000 if SOAK else 120):
        data = damaged(chance.choice(traces), chance)
        path = tmp_path / "damaged.tmk"
        path.write_bytes(data)
        report = report_of(path)
        try:
            trace = Trace(TraceFile(data))
        except TraceError:
            assert report is None, f"damage {number}: the tools read it"
            refused += 1
            continue
        assert report is not None, f"damage {number}: the tools refuse it"
        assert trace.totals() == report["totals"], f"damage {number}"
        assert trace.problems() == report["problems"], f"damage {number}"
        read += 1
    assert read > 60
    assert refused > 3
