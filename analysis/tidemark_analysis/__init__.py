"""Reads tidemark traces for analysis in Python: numpy arrays, Arrow tables, pandas, Parquet, plots, sums over a fleet.

    import tidemark_analysis
    trace = tidemark_analysis.open("program.tmk")
    trace.sites().to_pandas().nlargest(10, "peak_bytes")

It knows the trace format from docs/trace-format.md and nothing of the tools. docs/analysis.md is the manual.
"""
from .fleet import Fleet
from .sections import TraceError
from .survival import Survival
from .table import MissingPackageError, Table
from .trace import Trace

open = Trace.open  # as in tarfile and wave: the module opens its files

__all__ = ["Fleet", "MissingPackageError", "Survival", "Table", "Trace", "TraceError", "open"]
