#!/usr/bin/env python3
"""The command line of the benchmarks: what ./dev bench runs. docs/benchmarks.md says what the numbers mean.

Must not: measure or judge; the modules beside it do. Needs Python's standard library only.
"""
import argparse
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

import compare  # noqa: E402
import instructions  # noqa: E402
import suite  # noqa: E402

DESCRIPTION = """Measures tidemark beside glibc, other allocators and other profilers. Writes report.md, report.json and
plots into a folder by date below --output. Missing peers are gaps in the report. "compare OLD NEW" tells what changed
between two report.json; "instructions [--update]" counts instructions per call and holds them to instructions.json."""


def arguments_of(words: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench", description=DESCRIPTION)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, three runs; ends within 3 minutes")
    parser.add_argument("--long", action="store_true", help="also 100 million events (some minutes more)")
    parser.add_argument("--only", metavar="NAME,...", default="",
                        help="only these workloads or parts; parts: " + ", ".join(suite.PARTS))
    parser.add_argument("--peers", metavar="NAME,...", default="", help="only these peers (glibc always runs)")
    parser.add_argument("--runs", metavar="N", type=int, default=0, help="rounds; 9, or 3 with --quick")
    parser.add_argument("--output", metavar="DIR", type=Path, default=None,
                        help="where reports are kept (default: bench/ in the build directory)")
    parser.add_argument("--list", action="store_true", help="print workloads, peers and parts, and run nothing")
    return parser.parse_args(words)


def build_directory() -> Path:
    return ROOT / os.environ.get("TIDEMARK_BUILD_DIR", "build")


def main(words: list[str]) -> int:
    if words[:1] == ["compare"]:
        return compare.main(words[1:])
    build = build_directory()
    if words[:1] == ["instructions"]:
        return instructions.main(words[1:], build)
    options = arguments_of(words)
    if options.runs < 0:
        print("bench: --runs needs a number above 0", file=sys.stderr)
        return 2
    return suite.run(options, build)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
