"""Which source a path is."""

import os
from pathlib import Path

from parties.sources.csv_file import UTF_8, CsvFile
from parties.sources.parquet import SUFFIXES, ParquetFile, ParquetFolder
from parties.sources.source import Source


def source_of(path: Path, encoding: str = UTF_8, separator: str = ",") -> Source:
    """A folder and .parquet or .pq are Parquet, whatever else there is is CSV; .gz is compressed.

    encoding, separator: of a CSV.
    """
    if os.path.isdir(path):  # Path.is_dir raises where the way there is barred
        return ParquetFolder(path)
    return ParquetFile(path) if path.suffix.lower() in SUFFIXES else CsvFile(path, encoding, separator)
