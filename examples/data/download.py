"""Download a public data set from its publisher, in the form that `party demo --data` reads.

    python examples/data/download.py online_shoppers
    party demo --data examples/data/online_shoppers

The file is written beside the set's split.json, which says where it comes from and under which license. Only
the standard library is used.
"""

import argparse
import csv
import io
import json
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
AT_MOST = 64 << 20
"""Bytes of the archive, and of the file in it. Both sets are below 3 MiB."""


class DownloadError(Exception):
    """One line: what is wrong with what the publisher sent."""


def convert(text: str, split: dict[str, Any]) -> str:
    """The publisher's file as comma-separated text with exactly the columns that split.json names.

    A byte order mark, semicolons as separator (some copies have them) and blank lines are understood. Cells
    and names (`TRUE`, `50plus`, `passanger`) stay as they are spelled.
    """
    lines = text.removeprefix("\ufeff").splitlines(keepends=True)
    separator = ";" if lines and lines[0].count(";") > lines[0].count(",") else ","
    rows = [row for row in csv.reader(lines, delimiter=separator) if row]
    header = [name.strip() for name in rows[0]] if rows else []
    wanted = [name for columns in split["parties"].values() for name in columns]
    wanted += [*split["not_features"], split["label"]]
    if absent := [name for name in wanted if name not in header]:
        raise DownloadError(
            f"{split['member']}: no column {absent[0]!r}; has the publisher changed the file?"
        )
    if ragged := next((number for number, row in enumerate(rows, 1) if len(row) != len(header)), None):
        raise DownloadError(f"{split['member']}: row {ragged} has another number of cells than the header")
    if len(rows) - 1 != split["rows"]:
        raise DownloadError(
            f"{split['member']}: {len(rows) - 1} rows, not {split['rows']}; was it cut short?"
        )
    places = [header.index(name) for name in wanted]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(
        [wanted, *([row[place] for place in places] for row in rows[1:])]
    )
    return out.getvalue()


def member_of(archive: bytes, member: str) -> str:
    """One text file out of a zip archive, wherever in it."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as packed:
            found = next((info for info in packed.infolist() if info.filename.split("/")[-1] == member), None)
            if found is None:
                raise DownloadError(f"the archive holds no {member}; has the publisher changed it?")
            if found.file_size > AT_MOST:
                raise DownloadError(f"{member} claims {found.file_size} bytes; this cannot be the set")
            return packed.read(found).decode("utf-8-sig")
    except (zipfile.BadZipFile, UnicodeDecodeError):
        raise DownloadError("what came is not a zip archive of a UTF-8 file; try again later") from None


def fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 (https, from split.json)
            archive: bytes = answer.read(AT_MOST + 1)
    except (urllib.error.URLError, TimeoutError) as fault:
        raise DownloadError(f"{url}: {getattr(fault, 'reason', fault)}") from None
    if len(archive) > AT_MOST:
        raise DownloadError(f"{url}: more than {AT_MOST >> 20} MiB; this cannot be the set")
    return archive


def main() -> int:
    sets = sorted(folder.parent.name for folder in HERE.glob("*/split.json"))
    parser = argparse.ArgumentParser(description="Download a public data set for `party demo --data`.")
    parser.add_argument("name", choices=sets)
    folder = HERE / parser.parse_args().name
    split = json.loads((folder / "split.json").read_text(encoding="utf-8"))
    print(f"{split['title']} ({split['license']}, doi {split['doi']}) from {split['url']}")
    try:
        text = convert(member_of(fetch(split["url"]), split["member"]), split)
    except DownloadError as fault:
        print(fault, file=sys.stderr)
        return 1
    file = folder / f"{split['name']}.csv"
    file.write_text(text, encoding="utf-8")
    print(f"{file}: {split['rows']} rows. Now: party demo --data {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
