"""`meta/tasks.parquet`: instruction texts as the index of a pandas table, written without pandas."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from clients.lerobot_v3.atomic import write_atomically

INDEX = "__index_level_0__"


def write_tasks(path: Path, texts: Sequence[str]) -> None:
    """Text number i gets task_index i, in row i: lerobot looks texts up by row."""
    columns = {"task_index": pa.array(range(len(texts)), pa.int64()), INDEX: pa.array(texts, pa.string())}
    table = pa.table(columns).replace_schema_metadata({"pandas": json.dumps(_pandas_metadata())})
    write_atomically(path, lambda file: pq.write_table(table, file))


def read_tasks(path: Path) -> list[str]:
    """Texts by task_index; ValueError where the table does not number them 0, 1, 2, ..."""
    table = pq.read_table(path)
    # Some writers named the index; the texts are whatever column is not the number.
    name = next((name for name in (INDEX, "task") if name in table.column_names), None)
    if name is None or "task_index" not in table.column_names:
        raise ValueError(f"expected columns task_index and {INDEX}, got {table.column_names}")
    by_index = dict(zip(table["task_index"].to_pylist(), table[name].to_pylist(), strict=True))
    if sorted(by_index) != list(range(len(by_index))):
        raise ValueError("task_index is not numbered from 0 without gaps")
    return [by_index[i] for i in range(len(by_index))]


def _pandas_metadata() -> dict[str, object]:
    """What `DataFrame.to_parquet` records so that reading restores the index."""

    def column(name: str | None, field_name: str, pandas_type: str, numpy_type: str) -> dict[str, object]:
        return {
            "name": name,
            "field_name": field_name,
            "pandas_type": pandas_type,
            "numpy_type": numpy_type,
            "metadata": None,
        }

    index_names = column(None, INDEX, "unicode", "object") | {"field_name": None}
    return {
        "index_columns": [INDEX],
        "column_indexes": [index_names | {"metadata": {"encoding": "UTF-8"}}],
        "columns": [
            column("task_index", "task_index", "int64", "int64"),
            column(None, INDEX, "unicode", "object"),
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
