"""Write rows to a file that is complete or absent: JSON lines, or parquet with a schema.

with ExitStack() as stack:
    write = row_writer(stack, Path("good.jsonl"))
    write({"id": 1})
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from inference.common.json_lines import describe, to_line
from inference.common.storage import atomic_path, atomic_write

ROWS_PER_GROUP = 256  # held in memory at once; embedded images are large


def row_writer(stack: ExitStack, path: Path, schema: pa.Schema | None = None) -> Callable[[dict[str, Any]], None]:
    """A function that appends a row to ``path``; the file appears when ``stack`` is left without an error.

    Args:
        schema: of a parquet file; without it, the rows become JSON lines.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if schema is None:
        lines = stack.enter_context(atomic_write(path))
        return lambda row: print(to_line(row, describe), file=lines)  # parquet holds bytes and dates
    parquet = stack.enter_context(pq.ParquetWriter(stack.enter_context(atomic_path(path)), schema))
    group: list[dict[str, Any]] = []

    def flush() -> None:
        if group:
            parquet.write_table(pa.Table.from_pylist(group, schema=schema))
            group.clear()

    def write(row: dict[str, Any]) -> None:
        group.append(row)
        if len(group) == ROWS_PER_GROUP:
            flush()

    stack.callback(flush)
    return write
