"""Tables, files, pictures, fleets, the command and the example: what users touch.

Must not: repeat what the totals say.
"""
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from conftest import GOLDEN, ROOT

import tidemark_analysis
from tidemark_analysis import Fleet, Trace, plots
from tidemark_analysis.table import Codes, Table

EVERY_KIND = next(path for path in GOLDEN if path.stem == "every_kind")


@pytest.mark.parametrize("mode", ["full", "sampled"])
def test_every_table_is_the_same_in_numpy_arrow_pandas_and_parquet(recording, tmp_path, mode):
    trace = tidemark_analysis.open(recording("threads", mode))
    written = trace.write_parquet(tmp_path / "out")
    assert [path.stem for path in written] == list(Trace.TABLES)
    for path in written:
        table: Table = getattr(trace, path.stem)()
        assert table.rows > 0 or path.stem in ("leak_checks", "leaks"), path.stem  # nobody looked for leaks
        arrow, frame, stored = table.to_arrow(), table.to_pandas(), pyarrow.parquet.read_table(path)
        assert arrow.column_names == list(table) == list(frame.columns) == stored.column_names
        assert stored.schema.metadata[b"tidemark.mode"] == mode.encode()
        for name in table:
            values = np.ma.getdata(table[name]) if isinstance(table[name], np.ma.MaskedArray) else np.array(table[name])
            holes = np.ma.getmaskarray(table[name]) if isinstance(table[name], np.ma.MaskedArray) else None
            expected = [None if holes is not None and holes[i] else values[i].item() if values.dtype != object
                        else values[i] for i in range(min(table.rows, 200))]
            assert arrow.column(name)[:200].to_pylist() == expected, (path.stem, name)
            assert stored.column(name)[:200].to_pylist() == expected, (path.stem, name)
            assert int(frame[name].isna().sum()) == (0 if holes is None else int(holes.sum())), (path.stem, name)


def test_a_table_without_rows_and_one_with_unequal_columns():
    empty = Table("empty", {"n": np.zeros(0, np.int64), "text": [], "kind": Codes(np.zeros(0, np.uint8), ["a"])})
    assert empty.to_arrow().num_rows == 0 == len(empty.to_pandas())
    with pytest.raises(ValueError, match="differ in length"):
        Table("odd", {"a": [1], "b": [1, 2]})


def test_blocks_know_their_fate():
    """every_kind: two blocks of a byte, one of 100,000 that dies, one of 90 that grew out of the first."""
    blocks = Trace.open(EVERY_KIND).blocks()
    assert blocks["size"].tolist() == [1, 100_000, 1, 90]
    assert blocks["lifetime_ns"].tolist() == [250, 100, None, 500]
    assert blocks["freed_by"].tolist() == [1, 1, None, 1]
    assert blocks["at_peak"].tolist() == [True, True, True, False]


def test_a_frame_is_in_its_module():
    stacks = Trace.open(EVERY_KIND).stacks().to_pandas().set_index("node")
    assert stacks.loc[1, "offset"] == 0x7FFFF7D2724A - 0x7FFFF7CD8000
    assert stacks["module"].dropna().to_dict() == {1: 1, 2: 0, 5: 0}
    assert stacks["depth"].to_dict() == {0: 0, 1: 1, 2: 2, 5: 3, 6: 4}
    assert stacks["stack_id"].nunique() == 5


def test_what_looks_for_leaks_found():
    """leaks: three checks of one process, the second without rows that are not lost, the third interrupted."""
    trace = Trace.open(next(path for path in GOLDEN if path.stem == "leaks"))
    checks, leaks = trace.leak_checks().to_pandas(), trace.leaks().to_pandas()
    assert checks["whole"].tolist() == [True, True, False]
    assert checks["trigger"].astype(str).tolist() == ["exit", "exit after destructors", "on demand"]
    assert checks["time_ns"].tolist() == [500, 500, 500]
    first = leaks[leaks["check"] == 1]
    assert first["class"].astype(str).tolist() == ["definite", "indirect", "possible", "reachable"]
    assert first["weight_bytes"].tolist() == first["bytes"].tolist() == [100, 40, 8, 64]
    assert first["leader"].tolist()[1] == first["address"].tolist()[0]
    assert (first["stack_id"] != 0).all()
    assert trace.leaks().to_arrow().num_rows == len(leaks) == 8


def test_the_survival_curve_of_a_program_with_known_truth(tmp_path, hand_over, recording):
    """One grown buffer in a hundred stays, everything else dies; ages are below the run's length."""
    trace = Trace.open(recording("threads", "full"))
    curve = trace.survival("time", "blocks")
    alive = trace.model.blocks.alive.mean()
    assert curve.share[-1] >= 0
    assert curve.share[-1] == pytest.approx(alive, abs=0.02)
    assert (np.diff(curve.share) <= 0).all()
    assert ((curve.low <= curve.share) & (curve.share <= curve.high)).all()
    sampled = Trace.open(recording("threads", "sampled")).survival("bytes", "blocks")
    full = trace.survival("bytes", "blocks")
    for age in (1e4, 1e5, 1e6):  # other runs, other schedules: the shape is the program's
        assert abs(sampled.at(age) - full.at(age)) < 0.35
    assert trace.survival("time", "bytes", lambda blocks: blocks["size"] > 10**9).age.tolist() == []


def test_pictures(recording, tmp_path):
    for mode in ("full", "sampled"):
        trace = Trace.open(recording("threads", mode))
        axes = plots.survival(trace.survival("bytes"), label=mode)
        plots.survival(trace.survival("bytes", "blocks"), axes=axes)
        assert len(axes.get_lines()) == 2
        timeline = plots.timeline(trace, 50)
        assert {text.get_text() for text in timeline.get_legend().get_texts()} >= {"peak", "live, as requested"}
        bins, sizes, lifetimes = plots.size_lifetime_bins(trace)
        assert bins.shape == (len(sizes) - 1, len(lifetimes))
        assert bins.sum() == pytest.approx(trace.model.weights.bytes.sum())
        for name, drawn in (("survival.svg", axes), ("timeline.png", timeline),
                            ("map.pdf", plots.size_lifetime_map(trace))):
            plots.save(drawn, str(tmp_path / name))
            assert (tmp_path / name).stat().st_size > 2000
    for path in GOLDEN:
        plots.size_lifetime_map(Trace.open(path))
        plots.timeline(Trace.open(path))


def test_a_fleet_adds_by_identity_and_not_by_address(recording, tmp_path):
    """Two runs of one program: address space layout differs, so equal ids come from build-ids and offsets."""
    one, other = Trace.open(recording("threads", "full")), Trace.open(recording("threads", "sampled"))
    assert {module.start for module in one.file.modules} != {module.start for module in other.file.modules}
    bad = tmp_path / "bad.tmk"
    bad.write_bytes(b"nothing")
    fleet = Fleet([recording("threads", "full"), recording("threads", "sampled"), bad])
    assert list(fleet.unreadable) == [str(bad)]
    sites, processes = fleet.sites().to_pandas(), fleet.processes().to_pandas()
    shared = sites[sites["processes"] == 2]
    assert shared["allocated_bytes"].sum() > 0.9 * sites["allocated_bytes"].sum()
    assert sites["allocated_bytes"].sum() == pytest.approx(processes["allocated_bytes"].sum(), rel=1e-3)
    assert (sites["allocated_bytes_low"] <= sites["allocated_bytes"]).all()
    alone = one.sites().to_pandas().set_index("stack_id")["allocated_blocks"]
    added = Fleet([recording("threads", "full")] * 3).sites().to_pandas().set_index("stack_id")["allocated_blocks"]
    assert (added.sort_index() == 3 * alone.groupby("stack_id").sum().sort_index()).all()


def test_what_is_not_installed_is_named(monkeypatch):
    for package, ask in (("pyarrow", lambda table: table.to_arrow()), ("pandas", lambda table: table.to_pandas())):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(tidemark_analysis.MissingPackageError, match=r"pip install 'tidemark-analysis\["):
            ask(Table("t", {"a": [1]}))


def test_the_command(recording, tmp_path):
    def run(*arguments):
        return subprocess.run([sys.executable, "-m", "tidemark_analysis", *map(str, arguments)], capture_output=True,
                              text=True, check=False, timeout=300)

    trace = recording("threads", "full")
    done = run("parquet", trace, "-o", tmp_path / "tables", "--tables", "sites,threads")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == ["sites.parquet", "threads.parquet"]
    done = run("plot", trace, "-o", tmp_path / "pictures")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "pictures").glob("*.svg"))) == 3
    done = run("fleet", trace, trace, "-o", tmp_path / "fleet.parquet")
    assert done.returncode == 0, done.stderr
    assert pyarrow.parquet.read_table(tmp_path / "fleet.parquet").num_rows > 0
    bad = tmp_path / "bad.tmk"
    bad.write_bytes(b"nothing")
    done = run("plot", bad, "-o", tmp_path / "pictures")
    assert (done.returncode, done.stdout) == (3, "")
    assert "bad.tmk: this is not a tidemark trace" in done.stderr
    assert run("parquet", trace, "-o", tmp_path / "x", "--tables", "nonsense").returncode == 2


def test_the_example_runs_and_tells_something(recording, tmp_path, capsys, monkeypatch):
    example = Path(ROOT) / "analysis" / "examples" / "who_lives_how_long.py"
    monkeypatch.setattr(sys, "argv", [str(example), str(recording("python3", "full")), str(tmp_path)])
    runpy.run_path(str(example), run_name="__main__")
    told = capsys.readouterr().out
    for word in ("live at the peak", "die before", "never freed", "hand-over"):
        assert word in told, told
    assert (tmp_path / "survival.svg").exists()


def test_numpy_alone_is_enough(recording):
    """Without pyarrow, pandas and matplotlib everything but their own formats works."""
    program = ("import sys\n"
               "for name in ('pyarrow', 'pandas', 'matplotlib'): sys.modules[name] = None\n"
               "import tidemark_analysis\n"
               "trace = tidemark_analysis.open(sys.argv[1])\n"
               "print(trace.sites().rows, trace.survival().median() is not None, trace.timeline().rows)\n")
    done = subprocess.run([sys.executable, "-c", program, recording("threads", "full")], capture_output=True, text=True,
                          check=False, timeout=300, env={**os.environ, "TIDEMARK_ANALYSIS_PURE": "1"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1:] == ["True", "500"]
