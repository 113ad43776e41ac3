"""Ids in the one form in which all parties compare them. `docs/psi.md` has the rules as a table.

Every rule is a function of one cell alone, so two parties that hold the same id, each in its own dirty
form, come to the same canonical text without talking.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Final, Literal, get_args

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

IdType = Literal["string", "integer", "email", "phone"]
Policy = Literal["drop", "refuse"]

ID_TYPES: Final[tuple[str, ...]] = get_args(IdType)

# Soft hyphen, zero-width and direction marks, word joiner and its kin, BOM: they print nothing, and
# copying from a web page or a spreadsheet brings them in.
INVISIBLE: Final = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")
INTEGER: Final = re.compile(r"([+-]?)([0-9]+)(?:\.0*)?")
PHONE_PUNCTUATION: Final = re.compile(r"[\s().\-/\u2010-\u2015\u2212]")
PHONE: Final = re.compile(r"\+[1-9][0-9]{5,14}")  # E.164: at most 15 digits
EXACT_FLOAT: Final = 2**53  # above it a float64 no longer tells neighbouring integers apart


class IdError(Exception):
    """The id column cannot be used as configured. One line: column, rows, what to do; never an id."""


@dataclass(frozen=True, slots=True)
class Ids:
    """The usable ids of one column.

    canonical: [n] distinct texts; rows: [n] int64, where in the column each came from (its first row).
    total = n + null + blank + duplicate.
    """

    canonical: list[str]
    rows: NDArray[np.int64]
    total: int
    null: int
    blank: int
    duplicate: int


def normalise(column: pd.Series, id_type: IdType, nulls: Policy, duplicates: Policy) -> Ids:
    """Bring a column of ids into canonical form.

    nulls: what to do with null and with blank cells; duplicates: with ids seen in an earlier row, in
    whatever spelling. "drop" counts them and goes on (of duplicates the first row stays); "refuse" raises.
    Raises IdError for these, and always for a cell that cannot be an id of this type.
    """
    import numpy as np

    name = str(column.name)
    if id_type not in ID_TYPES:
        raise IdError(f"column {name!r}: no id type {id_type!r}; choose from {', '.join(ID_TYPES)}")
    missing = column.isna().to_numpy(dtype=bool)
    cells = column.tolist()
    texts = _texts(name, cells, missing, id_type)
    null = np.flatnonzero(missing)
    blank = [row for row, text in enumerate(texts) if text == "" and not missing[row]]
    malformed = [row for row, text in enumerate(texts) if text is None and not missing[row]]
    if malformed:
        raise IdError(
            f"column {name!r}: {_rows(malformed)} cannot be read as {WANTED[id_type]}; mend or empty them"
        )
    if nulls == "refuse" and (len(null) or blank):
        found = sorted([*null.tolist(), *blank])
        raise IdError(f"column {name!r}: no id in {_rows(found)}; mend them, or set nulls to 'drop'")
    first: dict[str, int] = {}
    repeated = []
    for row, text in enumerate(texts):
        if text and first.setdefault(text, row) != row:
            repeated.append(row)
    if duplicates == "refuse" and repeated:
        raise IdError(
            f"column {name!r}: {_rows(repeated)} repeat an id of an earlier row; "
            "mend them, or set duplicates to 'drop'"
        )
    rows = np.fromiter(first.values(), dtype=np.int64, count=len(first))
    return Ids(list(first), rows, len(cells), len(null), len(blank), len(repeated))


def digests(ids: Ids, key: bytes) -> NDArray[np.uint8]:
    """[n, 16]: keyed BLAKE2b (RFC 7693) of each canonical id.

    key: at most 64 bytes, the same at all parties (the run id serves). It separates runs; it is no secret,
    and a digest is no protection: digests never leave the party, only what the protocol makes of them.
    """
    import numpy as np

    hashed = b"".join(
        hashlib.blake2b(text.encode(), digest_size=16, key=key).digest() for text in ids.canonical
    )
    return np.frombuffer(hashed, np.uint8).reshape(-1, 16)


def _texts(name: str, cells: list[object], missing: NDArray[np.bool_], id_type: IdType) -> list[str | None]:
    """Each cell's canonical text: "" if nothing is left of it, None if it is missing or malformed."""
    if id_type == "integer":
        return [None if gone else _integer(cell) for cell, gone in zip(cells, missing, strict=True)]
    # A number in a column of text lost its own form (leading zeros, digits past 2**53) before it came here.
    untyped = [row for row, cell in enumerate(cells) if not isinstance(cell, str) and not missing[row]]
    if untyped:
        raise IdError(
            f"column {name!r}: {_rows(untyped)} hold no text; read it as text, or use id type 'integer'"
        )
    rule = RULES[id_type]
    return [None if gone else _text(str(cell), rule) for cell, gone in zip(cells, missing, strict=True)]


def _text(cell: str, rule: Callable[[str], str | None]) -> str | None:
    if not cell.isascii():
        try:
            cell.encode()
        except UnicodeEncodeError:  # a lone surrogate: broken decoding upstream
            return None
        cell = unicodedata.normalize("NFC", INVISIBLE.sub("", cell))
    cell = cell.strip()
    return rule(cell) if cell else ""


def _integer(cell: object) -> str | None:
    """`1`, `"1"`, `1.0`, `"1.0"`, `"+1"`, `"001"` are all "1"; `"1e0"`, `"1,000"`, True are malformed."""
    match cell:
        case bool():
            return None
        case Integral():
            return str(int(cell))
        case float():
            return str(int(cell)) if cell.is_integer() and abs(cell) <= EXACT_FLOAT else None
        case str():
            return _text(cell, _integer_text)
    return None


def _integer_text(text: str) -> str | None:
    found = INTEGER.fullmatch(text)
    if found is None:
        return None
    sign, magnitude = found[1], found[2].lstrip("0") or "0"  # zeros in the pattern would take quadratic time
    return f"-{magnitude}" if sign == "-" and magnitude != "0" else magnitude


def _email(text: str) -> str | None:
    """Blanks go wherever they are; case goes in both parts; nothing is known of any provider's aliases."""
    text = unicodedata.normalize("NFC", "".join(text.split()).lower())
    user, _, domain = text.partition("@")
    return text if user and domain and "@" not in domain else None


def _phone(text: str) -> str | None:
    """E.164 with its country code: a national number means different people in different countries."""
    if text.startswith(("+", "00")):
        text = text.replace("(0)", "")
    text = PHONE_PUNCTUATION.sub("", text)
    if text.startswith("00"):
        text = "+" + text[2:]
    return text if PHONE.fullmatch(text) else None


RULES: Final[dict[str, Callable[[str], str | None]]] = {"string": str, "email": _email, "phone": _phone}
WANTED: Final[dict[str, str]] = {
    "string": "text",
    "integer": "integers",
    "email": "e-mail addresses",
    "phone": "phone numbers with country code (+49... or 0049...)",
}


def _rows(rows: list[int]) -> str:
    """ "3 rows (4, 17, 20)": numbered from 1, a header not counted."""
    shown = ", ".join(str(row + 1) for row in rows[:5])
    return f"{len(rows)} row{'s' * (len(rows) != 1)} ({shown}{', ...' * (len(rows) > 5)})"
