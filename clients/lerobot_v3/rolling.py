"""Tables written one after the other into files of bounded size, numbered as the format numbers them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from clients.lerobot_v3.layout import Place


class RollingParquet:
    """Each table becomes one row group; a new file begins where the next would pass the size limit."""

    def __init__(
        self,
        root: Path,
        template: str,
        *,
        size_in_mb: float,
        chunks_size: int,
        statistics_of: Sequence[str] | bool = True,
        dictionary_of: Sequence[str] | bool = True,
    ) -> None:
        self._root = root
        self._template = template
        self._limit = size_in_mb * 1024**2
        self._chunks_size = chunks_size
        self._statistics_of = statistics_of
        self._dictionary_of = dictionary_of
        self._file: BinaryIO | None = None
        self._writer: pq.ParquetWriter | None = None
        self._rows = 0
        self._place = Place(0, 0)

    def place_for(self, rows: int) -> Place:
        """Where a table of so many rows goes; closes the current file when it would grow too large.

        The size is foreseen from the mean row so far, which is lerobot's own rule.
        """
        if self._file is not None and self._rows:
            written = self._file.tell()
            if written + written / self._rows * rows >= self._limit:
                self.close()
                self._place = self._place.following(self._chunks_size)
        return self._place

    def write(self, table: pa.Table) -> None:
        """Append one row group at the place last told by `place_for`."""
        if self._writer is None:
            path = self._place.path(self._root, self._template)
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "wb")  # noqa: SIM115 - lives until `close`
            self._writer = pq.ParquetWriter(
                self._file,
                table.schema,
                compression="snappy",
                use_dictionary=self._dictionary_of,
                write_statistics=self._statistics_of,
                write_page_checksum=True,
            )
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))
        self._rows += table.num_rows

    def close(self) -> None:
        """Finish the current file and bring it to the disk."""
        if self._writer is None or self._file is None:
            return
        self._writer.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._writer = self._file = None
        self._rows = 0

    def abandon(self) -> None:
        """Let go of an unfinished file after an error; it stays recognisably half-written."""
        writer, file = self._writer, self._file
        self._writer = self._file = None
        # The first error is already on its way; closing on a full disk would only hide it.
        with contextlib.suppress(OSError):
            if writer is not None:
                writer.close()
        with contextlib.suppress(OSError):
            if file is not None:
                file.close()
