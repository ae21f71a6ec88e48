"""A table of named columns, and what others make of it: Arrow, pandas, Parquet.

Columns are numpy arrays; a masked array is a column with holes, a list one of texts. Arrow and pandas are imported when
they are asked for, and a sentence says what to install. Must not: know where the numbers come from.
"""
from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import pandas
    import pyarrow

Column = NDArray[Any] | list[Any]


class MissingPackageError(ImportError):
    """A part of this package needs another one that is not installed."""


def needs(extra: str, package: str) -> MissingPackageError:
    return MissingPackageError(f"{package} is not installed: pip install 'tidemark-analysis[{extra}]' brings it")


class Codes:
    """A column of few different texts: numbers into a list of names, a dictionary to Arrow, a category to pandas."""

    def __init__(self, numbers: NDArray[Any], names: list[str]):
        self.numbers, self.names = numbers, names

    def __len__(self) -> int:
        return len(self.numbers)

    def texts(self) -> NDArray[np.object_]:
        texts: NDArray[np.object_] = np.array(self.names, object)[self.numbers]
        return texts


class Table(Mapping[str, Any]):
    """Columns of equal length by name, in order."""

    def __init__(self, name: str, columns: dict[str, Column | Codes], metadata: dict[str, str] | None = None):
        lengths = {len(column) for column in columns.values()}
        if len(lengths) > 1:
            raise ValueError(f"columns of {name} differ in length: {sorted(lengths)}")
        self.name, self._columns, self.metadata = name, columns, metadata or {}

    def __getitem__(self, column: str) -> Any:
        values = self._columns[column]
        return values.texts() if isinstance(values, Codes) else values

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        """The number of columns, as of any mapping; `rows` is the other one."""
        return len(self._columns)

    @property
    def rows(self) -> int:
        return len(next(iter(self._columns.values()))) if self._columns else 0

    def __repr__(self) -> str:
        return f"<Table {self.name}: {self.rows} rows of {', '.join(self._columns)}>"

    def to_arrow(self) -> pyarrow.Table:
        try:
            import pyarrow as pa
        except ImportError as error:
            raise needs("arrow", "pyarrow") from error
        arrays = []
        for values in self._columns.values():
            if isinstance(values, Codes):
                arrays.append(pa.DictionaryArray.from_arrays(pa.array(values.numbers), pa.array(values.names)))
            elif isinstance(values, np.ma.MaskedArray):
                arrays.append(pa.array(values.data, mask=np.ma.getmaskarray(values)))
            elif isinstance(values, list):
                arrays.append(pa.array(values, None if values else pa.string()))
            else:
                arrays.append(pa.array(values))
        schema = pa.schema([pa.field(name, array.type) for name, array in zip(self._columns, arrays, strict=True)],
                           metadata={"tidemark.table": self.name, **self.metadata})
        return pa.Table.from_arrays(arrays, schema=schema)

    def to_pandas(self) -> pandas.DataFrame:
        try:
            import pandas as pd
        except ImportError as error:
            raise needs("pandas", "pandas") from error
        columns: dict[str, Any] = {}
        for name, values in self._columns.items():
            if isinstance(values, Codes):
                columns[name] = pd.Categorical.from_codes(values.numbers.astype(np.int32), values.names)
            elif isinstance(values, np.ma.MaskedArray):
                nullable = pd.Series(values.data).astype(values.dtype.name.replace("u", "U", 1).replace("int", "Int"))
                columns[name] = nullable.mask(np.ma.getmaskarray(values))
            else:
                columns[name] = values
        return pd.DataFrame(columns)

    def to_parquet(self, path: str | Path) -> None:
        """One file, zstd. Numbers that repeat or rise slowly take a byte or two a row."""
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise needs("arrow", "pyarrow") from error
        parquet.write_table(self.to_arrow(), str(path), compression="zstd")
