"""Counts instructions per call with callgrind, and holds them to the golden file instructions.json.

Instructions do not depend on how busy a machine is, so that continuous integration can compare them; they do depend
on the versions of libc, mimalloc and the compiler, which the golden file names. On other versions only what tidemark
adds to mimalloc is compared. Must not: take times.

  ./dev bench instructions            counts, prints, compares with bench/instructions.json; status 1 on a difference
  ./dev bench instructions --update   counts and writes bench/instructions.json
"""
import concurrent.futures
import json
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import peers

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "instructions.json"
HOOKS = ("pair", "calloc", "realloc", "memalign", "usable_size")
HOOK_TITLES = {"pair": "malloc + free", "calloc": "calloc + free", "realloc": "realloc in place",
               "memalign": "memalign + free", "usable_size": "malloc_usable_size"}
# Loops take the slow path now and then (a page is used up); that share of an instruction may move.
TOLERANCE = 0.5
BUDGET_PAIR = 6.0  # what tidemark may add to mimalloc

Counts = dict[str, dict[str, float]]  # configuration -> hook -> instructions per call


class Unavailable(Exception):
    """Instructions cannot be counted here; the text says why."""


def counts_of_dumps(texts: list[str]) -> dict[str, float]:
    """Instructions per call, from callgrind's dumps: of each hook one after a short and one after a long loop."""
    found: dict[str, dict[int, int]] = {}
    for text in texts:
        title = re.search(r"^desc: Trigger: Client Request: (\w+) (\d+)$", text, re.M)
        total = re.search(r"^(?:summary|totals): (\d+)", text, re.M)
        if title and total:
            found.setdefault(title[1], {})[int(title[2])] = int(total[1])
    counts = {}
    for hook, totals in found.items():
        if len(totals) == 2:
            short, long = sorted(totals)
            counts[hook] = (totals[long] - totals[short]) / (long - short)
    return counts


def build_loop(folder: Path) -> Path:
    if not Path("/usr/include/valgrind/callgrind.h").exists():
        raise Unavailable("valgrind/callgrind.h is not installed; install the package valgrind")
    program = folder / "hook_loop"
    source = HERE / "hook_loop.cc"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        folder.mkdir(parents=True, exist_ok=True)
        command = ["g++", "-std=c++20", "-O2", str(source), "-o", str(program)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            raise RuntimeError(f"bench: {source} does not compile: {' '.join(command)}\n{result.stderr}")
    return program


def count(program: Path, preload: str, options: str) -> tuple[dict[str, float], bool]:
    """(instructions per call, whether mimalloc served), under one preload."""
    with tempfile.TemporaryDirectory(prefix="tidemark-callgrind-") as folder:
        environment = {"PATH": "/usr/bin:/bin", **({"LD_PRELOAD": preload} if preload else {}),
                       **({"TIDEMARK_OPTIONS": options} if options else {})}
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out", str(program)]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        if result.returncode != 0:
            raise Unavailable(f"valgrind exited with status {result.returncode}: "
                              f"{(result.stderr.strip().splitlines() or ['no message'])[-1][:160]}")
        texts = [path.read_text(errors="replace") for path in Path(folder).iterdir()]
    return counts_of_dumps(texts), any("libmimalloc" in text and "fn=" in text for text in texts)


def measure(folder: Path, build: Path) -> dict[str, Any]:
    """{"counts": ..., "gaps": {configuration: why}, "versions": ...} or {"gap": why}."""
    if shutil.which("valgrind") is None:
        return {"gap": "valgrind is not installed; install the package valgrind"}
    try:
        program = build_loop(folder)
    except Unavailable as error:
        return {"gap": str(error)}
    mimalloc = peers.library("libmimalloc.so.2", "libmimalloc.so")
    library = build / "interpose" / "libtidemark.so"
    configurations = {"glibc": ("", ""), "mimalloc": (mimalloc, ""), "tidemark": (str(library), "valgrind=yes")}
    gaps = {}
    if not mimalloc:
        gaps["mimalloc"] = "not installed; install the package libmimalloc2.0"
    if not library.exists():
        gaps["tidemark"] = f"{library} is not built; run ./dev build"
    counts: Counts = {}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        running = {name: pool.submit(count, program, *how) for name, how in configurations.items() if name not in gaps}
        for name, future in running.items():
            try:
                counts[name], served_by_mimalloc = future.result()
            except (Unavailable, subprocess.TimeoutExpired) as error:
                gaps[name] = str(error)
                continue
            if name != "glibc" and not served_by_mimalloc:
                del counts[name]
                gaps[name] = "it did not take malloc over under valgrind, so that there is nothing to count"
    return {"counts": counts, "gaps": gaps, "versions": versions()}


def versions() -> dict[str, str]:
    compiler = subprocess.run(["g++", "-dumpfullversion"], capture_output=True, text=True).stdout.strip()
    mimalloc = Path(peers.library("libmimalloc.so.2", "libmimalloc.so") or "none").resolve().name
    return {"architecture": platform.machine(), "libc": " ".join(platform.libc_ver()), "mimalloc": mimalloc,
            "compiler": f"g++ {compiler}"}


def differences(golden: dict[str, Any], measured: dict[str, Any]) -> list[str]:
    """What is not as the golden file has it, one line each; empty: all is as it was."""
    found = []
    tolerance = golden["tolerance"]
    same = golden["versions"] == measured["versions"]
    for configuration, hooks in golden["counts"].items():
        counts = measured["counts"].get(configuration)
        if counts is None:
            found.append(f"{configuration}: not counted: {measured['gaps'].get(configuration, 'no reason known')}")
            continue
        for hook, expected in hooks.items():
            actual = counts.get(hook)
            if actual is None:
                found.append(f"{configuration}, {HOOK_TITLES[hook]}: not counted")
                continue
            what = f"{configuration}, {HOOK_TITLES[hook]}: "
            if same:
                if abs(actual - expected) > tolerance:
                    found.append(f"{what}{actual:.2f} instructions, {expected:.2f} expected (tolerance {tolerance})")
            elif configuration == "tidemark" and "mimalloc" in measured["counts"]:
                added = actual - measured["counts"]["mimalloc"].get(hook, 0)
                before = expected - golden["counts"]["mimalloc"].get(hook, 0)
                if added > before + tolerance:
                    found.append(f"{what}adds {added:.2f} instructions to mimalloc, {before:.2f} expected")
    return found


def table(counts: Counts) -> list[str]:
    names = [name for name in ("glibc", "mimalloc", "tidemark") if name in counts]
    lines = ["| instructions per call | " + " | ".join(names) + " | tidemark adds |",
             "|---|" + "---|" * (len(names) + 1)]
    for hook in HOOKS:
        values = [counts[name].get(hook) for name in names]
        cells = [f"{value:.1f}" if value is not None else "" for value in values]
        added = ""
        if "mimalloc" in counts and "tidemark" in counts and None not in values:
            added = f"{counts['tidemark'][hook] - counts['mimalloc'][hook]:+.1f}"
        lines.append(f"| {HOOK_TITLES[hook]} | " + " | ".join(cells) + f" | {added} |")
    return lines


def main(words: list[str], build: Path) -> int:
    if words not in ([], ["--update"]):
        print("Usage: ./dev bench instructions [--update]", file=sys.stderr)
        return 2
    measured = measure(build / "bench" / "programs", build)
    gaps = {"": measured["gap"]} if "gap" in measured else measured["gaps"]
    if gaps:
        for name, gap in gaps.items():
            print(f"bench: instructions were not counted{' of ' + name if name else ''}: {gap}", file=sys.stderr)
        return 4
    print("\n".join(table(measured["counts"])))
    if words == ["--update"]:
        rounded = {name: {hook: round(value, 2) for hook, value in hooks.items()}
                   for name, hooks in measured["counts"].items()}
        golden = {"tolerance": TOLERANCE, "versions": measured["versions"], "counts": rounded}
        GOLDEN.write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
        print(f"bench: wrote {GOLDEN}", file=sys.stderr)
        return 0
    found = differences(json.loads(GOLDEN.read_text(encoding="utf-8")), measured)
    for line in found:
        print(f"bench: {line}", file=sys.stderr)
    if found:
        print("bench: if this is meant, write it down: ./dev bench instructions --update", file=sys.stderr)
    return 1 if found else 0
