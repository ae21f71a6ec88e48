"""`tidemark-analysis`: what `tidemark` itself does not do. Parquet, pictures, and sums over many traces.

Diagnostics go to stderr; exit status 0 fine, 2 usage, 3 unreadable input, 4 a package is missing, as the tools have it.
Must not: grow views that the tools have.
"""
from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import plots
from .fleet import Fleet
from .sections import TraceError
from .table import MissingPackageError
from .trace import Trace


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tidemark-analysis", description="Tables, pictures and sums of traces.")
    commands = parser.add_subparsers(dest="command", required=True)
    parquet = commands.add_parser("parquet", help="write the tables of a trace as Parquet files")
    parquet.add_argument("file")
    parquet.add_argument("-o", "--output", required=True, metavar="FOLDER")
    parquet.add_argument("--tables", default=",".join(Trace.TABLES), metavar="A,B,...",
                         help="which; all of %(default)s unless told")
    plot = commands.add_parser("plot", help="draw survival.svg, timeline.svg and sizes_lifetimes.svg")
    plot.add_argument("file")
    plot.add_argument("-o", "--output", required=True, metavar="FOLDER")
    fleet = commands.add_parser("fleet", help="add up many traces by stack, into one Parquet file")
    fleet.add_argument("files", nargs="+", metavar="FILE")
    fleet.add_argument("-o", "--output", required=True, metavar="OUT.parquet")
    return parser


def _tell(trace: Trace) -> None:
    for problem in trace.problems():
        print(f"tidemark-analysis: {trace.file.name}: {problem}", file=sys.stderr)


def _plot(trace: Trace, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    curves = plots.survival(trace.survival("bytes", "bytes"))
    plots.survival(trace.survival("bytes", "blocks"), axes=curves)
    for name, axes in (("survival", curves), ("timeline", plots.timeline(trace)),
                       ("sizes_lifetimes", plots.size_lifetime_map(trace))):
        plots.save(axes, str(folder / f"{name}.svg"))


def _run(arguments: argparse.Namespace) -> int:
    if arguments.command == "fleet":
        fleet = Fleet(arguments.files)
        for sentence in fleet.unreadable.values():
            print(f"tidemark-analysis: {sentence}", file=sys.stderr)
        fleet.sites().to_parquet(arguments.output)
        return 3 if fleet.unreadable else 0
    trace = Trace.open(arguments.file)
    if arguments.command == "parquet":
        trace.write_parquet(arguments.output, tuple(arguments.tables.split(",")))
    else:
        _plot(trace, Path(arguments.output))
    _tell(trace)
    return 0


def main() -> int:
    try:
        return _run(_parser().parse_args())
    except TraceError as error:
        status, sentence = 3, str(error)
    except MissingPackageError as error:
        status, sentence = 4, str(error)
    except ValueError as error:
        status, sentence = 2, str(error)
    except OSError as error:
        status, sentence = 4, f"{error.filename}: cannot be written: {error.strerror}"
    print(f"tidemark-analysis: {sentence}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
