"""The ids of a table: whole columns in canonical form (`psi.canonical`), as digests.

`canonical` is the rule, cell by cell; columns that are clean already take a short cut through Arrow, which
the tests hold against the rule.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from psi.canonical import EXACT_FLOAT, ID_TYPES, IdType, canonical

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Policy = Literal["drop", "refuse"]

# Cells that are canonical once trimmed (and, e-mail, put into lower case). In RE2's syntax.
CLEAN: Final[dict[str, str]] = {
    "string": r"^[!-~]([ -~]*[!-~])?$",
    "integer": r"^(0|-?[1-9][0-9]*)$",
    "email": r"^[!-?A-~]+@[!-?A-~]+$",
    "phone": r"^\+[1-9][0-9]{5,14}$",
}
FINE, BLANK, NULL, MALFORMED, NO_TEXT = range(5)


class IdError(Exception):
    """The id column cannot be used as configured. One line: column, rows, what to do; never an id."""


@dataclass(frozen=True, slots=True)
class Ids:
    """The usable ids of one column, or of several that make one id together. 24 bytes an id.

    digests: [n, 16] uint8, distinct; rows: [n] int64, where in the table each came from (its first row),
    rising. total = n + null + blank + duplicate.
    repeats: [duplicate] int64, rising, the later rows with an id; repeated: the place of that id in digests.
    """

    digests: NDArray[np.uint8]
    rows: NDArray[np.int64]
    total: int
    null: int
    blank: int
    duplicate: int
    repeats: NDArray[np.int64]
    repeated: NDArray[np.int64]


def normalise(
    batches: Iterable[Sequence[Any]],
    names: Sequence[str],
    types: Sequence[IdType],
    key: bytes,
    nulls: Policy = "drop",
    duplicates: Policy = "drop",
    takes_part: NDArray[np.bool_] | None = None,
) -> Ids:
    """The canonical ids of a table, as digests: keyed BLAKE2b (RFC 7693) of 16 bytes. No text is kept.

    batches: the table's rows in order, some at a time; in each, the cells of every id column (an Arrow array,
    a pandas column or a list). names, types: of the columns. Several columns make one id together: it is null
    or blank if any part is, and the parts are hashed with their lengths before them, so that ("ab", "c")
    and ("a", "bc") differ.
    key: at most 64 bytes, the same at all parties. It need not be fresh, so a restart may bring the same
    digests: it separates contracts and kinds of id, and is no secret. A digest protects nothing and never
    leaves the party; what leaves is made of it by the protocol, under keys that are fresh in each run.
    nulls: what to do with null and with blank cells; duplicates: with ids seen in an earlier row, in
    whatever spelling. "drop" counts them and goes on (of duplicates the first row stays); "refuse" raises.
    takes_part: [rows]; a row that does not is as if its id stood nowhere. None: all do.

    Memory: about 60 bytes an id while it works, and one batch.
    Raises IdError for these, and always for a cell that cannot be an id of its type.
    """
    import numpy as np

    for name, id_type in zip(names, types, strict=True):
        if id_type not in ID_TYPES:
            raise IdError(f"column {name!r}: no id type {id_type!r}; choose from {', '.join(ID_TYPES)}")
    hashed, kept = [np.empty((0, 16), np.uint8)], [np.empty(0, np.int64)]
    empty: dict[int, list[NDArray[np.int64]]] = {NULL: [], BLANK: []}
    faults: dict[tuple[int, int], list[NDArray[np.int64]]] = {}
    total = 0
    for columns in batches:
        parts = [_column(cells, id_type) for cells, id_type in zip(columns, types, strict=True)]
        for at, (_, states) in enumerate(parts):
            for fault in (NO_TEXT, MALFORMED):
                if len(bad := np.flatnonzero(states == fault)):
                    faults.setdefault((at, -fault), []).append(bad + total)
        states = np.max([states for _, states in parts], axis=0)
        for kind, found in empty.items():
            found.append(np.flatnonzero(states == kind) + total)
        fine = states == FINE
        if takes_part is not None:
            fine &= takes_part[total : total + len(states)]
        usable = np.flatnonzero(fine)
        hashed.append(_digests([texts.take(usable) for texts, _ in parts], key))
        kept.append(usable + total)
        total += len(states)
    for (at, fault), wrong in sorted(faults.items(), key=lambda item: item[0]):
        raise IdError(f"column {names[at]!r}: {_fault(-fault, _rows(np.concatenate(wrong)), types[at])}")
    where = f"column{'s' * (len(names) > 1)} {', '.join(map(repr, names))}"
    missing = np.concatenate([np.empty(0, np.int64), *empty[NULL], *empty[BLANK]])
    if nulls == "refuse" and len(missing):
        raise IdError(f"{where}: no id in {_rows(missing)}; mend them, or set nulls to 'drop'")
    digests, rows = np.concatenate(hashed), np.concatenate(kept)
    del hashed, kept
    again, first = _repeated(digests)
    if duplicates == "refuse" and len(again):
        raise IdError(
            f"{where}: {_rows(rows[again])} repeat an id of an earlier row; "
            "mend them, or set duplicates to 'drop'"
        )
    repeats, repeated = rows[again], first - np.searchsorted(again, first)
    if len(again):
        digests, rows = np.delete(digests, again, axis=0), np.delete(rows, again)
    null = sum(map(len, empty[NULL]))
    return Ids(digests, rows, total, null, len(missing) - null, len(again), repeats, repeated)


def digest_of(cells: Sequence[object], types: Sequence[IdType], key: bytes) -> bytes | None:
    """What `normalise` makes of a single id, in a hundredth of its time; None where the id is null or blank,
    or none of these types. cells, types: of its parts."""
    parts = [canonical(cell, id_type) for cell, id_type in zip(cells, types, strict=True)]
    texts = [part.encode() for part in parts if part]
    if len(texts) < len(types):
        return None
    message = texts[0]
    if len(types) > 1:
        message = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return hashlib.blake2b(message, digest_size=16, key=key).digest()


def _column(cells: Any, id_type: IdType) -> tuple[Any, NDArray[np.uint8]]:
    """(canonical texts as an Arrow array, what became of each cell); a text counts only where it is FINE."""
    import pyarrow as pa

    array = _arrow(cells)
    if array is None:
        return _mixed(cells, id_type)
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return _texts(array.cast(pa.large_string()), id_type)
    return _numbers(array, id_type)


def _arrow(cells: Any) -> Any:
    """The cells as one Arrow array; None where they are of several types, or of none that Arrow has."""
    import pyarrow as pa

    if isinstance(cells, pa.ChunkedArray):
        return cells.combine_chunks()
    if isinstance(cells, pa.Array):
        return cells
    if str(getattr(cells, "dtype", "object")) != "object":
        array = pa.array(cells, from_pandas=True)
        return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
    try:
        return pa.array(cells, pa.large_string()) if set(map(type, cells)) <= {str, type(None)} else None
    except UnicodeEncodeError:  # a lone surrogate: broken decoding upstream
        return None


def _texts(array: Any, id_type: IdType) -> tuple[Any, NDArray[np.uint8]]:
    """Text: the short cut for clean cells, the rule for the others."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.ascii_trim_whitespace(array)
    clean = pc.fill_null(pc.match_substring_regex(trimmed, CLEAN[id_type]), False)
    texts = pc.ascii_lower(trimmed) if id_type == "email" else trimmed
    states = np.where(array.is_null().to_numpy(zero_copy_only=False), NULL, FINE).astype(np.uint8)
    others = pc.and_not(array.is_valid(), clean)
    if at := len(rest := np.flatnonzero(others.to_numpy(zero_copy_only=False))):
        ruled = [canonical(cell, id_type) for cell in array.take(rest).to_pylist()]
        states[rest] = np.fromiter((_state(text) for text in ruled), np.uint8, at)
        texts = pc.replace_with_mask(texts, others, pa.array(ruled, pa.large_string()))
    return texts, states


def _numbers(array: Any, id_type: IdType) -> tuple[Any, NDArray[np.uint8]]:
    """A column that is not of text: only integers, and floats that are some, can be ids."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    null = array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    whole = np.ones(len(array), bool)
    if pa.types.is_floating(array.type):
        values = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
        whole = (values == np.floor(values)) & (np.abs(values) <= EXACT_FLOAT)
        array = pa.array(np.where(whole, values, 0).astype(np.int64))
    if id_type == "integer" and pa.types.is_integer(array.type):
        states = np.where(null, NULL, np.where(whole, FINE, MALFORMED)).astype(np.uint8)
        return pc.cast(array, pa.large_string()), states
    fault = MALFORMED if id_type == "integer" else NO_TEXT
    return pa.nulls(len(array), pa.large_string()), np.where(null, NULL, fault).astype(np.uint8)


def _mixed(cells: Sequence[Any], id_type: IdType) -> tuple[Any, NDArray[np.uint8]]:
    """Cells of several types: the rule, one by one."""
    import numpy as np
    import pandas as pd
    import pyarrow as pa

    texts: list[str | None] = []
    states = np.empty(len(cells), np.uint8)
    for row, cell in enumerate(cells):
        gone = pd.isna(cell) is True  # a list in a cell has an answer for each of its own
        texts.append(None if gone else canonical(cell, id_type))
        states[row] = NULL if gone else _state(texts[-1])
        if not gone and id_type != "integer" and not isinstance(cell, str):
            states[row] = NO_TEXT
    return pa.array(texts, pa.large_string()), states


def _state(text: str | None) -> int:
    return MALFORMED if text is None else FINE if text else BLANK


def _digests(parts: list[Any], key: bytes) -> NDArray[np.uint8]:
    """[n, 16] of n ids, whose canonical parts these Arrow arrays hold."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    messages = parts[0].cast(pa.large_binary())
    if len(parts) > 1:
        pieces = []
        for part in parts:
            raw = part.cast(pa.large_binary())
            sizes = pa.py_buffer(pc.binary_length(raw).to_numpy().astype("<u4").tobytes())
            prefix = pa.Array.from_buffers(pa.binary(4), len(raw), [None, sizes])
            pieces += [prefix.cast(pa.large_binary()), raw]
        messages = pc.binary_join_element_wise(*pieces, pa.scalar(b"", pa.large_binary()))
    blake = hashlib.blake2b
    hashed = b"".join([blake(one, digest_size=16, key=key).digest() for one in messages.to_pylist()])
    return np.frombuffer(hashed, np.uint8).reshape(-1, 16)


def _repeated(digests: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The indices, rising, of digests that occurred at a smaller index, and the smallest of each."""
    import numpy as np

    half = digests.view("<u8")[:, 0].copy()
    order = np.argsort(half)
    ranked = half[order]
    near = np.zeros(len(order), bool)
    near[1:] = ranked[1:] == ranked[:-1]
    near[:-1] |= near[1:]
    alike = order[near]  # half of the digest occurs twice: none, unless ids do
    second = digests.view("<u8")[alike, 1]
    alike = alike[np.lexsort((alike, second, half[alike]))]
    again = np.zeros(len(alike), bool)
    again[1:] = (digests[alike[1:]] == digests[alike[:-1]]).all(axis=1)
    first = alike[np.maximum.accumulate(np.where(again, 0, np.arange(len(alike))))]
    rising = np.argsort(alike[again])
    return alike[again][rising], first[again][rising]


WANTED: Final[dict[str, str]] = {
    "string": "text",
    "integer": "integers",
    "email": "e-mail addresses",
    "phone": "phone numbers with country code (+49... or 0049...)",
}


def _fault(kind: int, rows: str, id_type: IdType) -> str:
    # A number in a column of text lost its own form (leading zeros, digits past 2**53) before it came here.
    if kind == NO_TEXT:
        return f"{rows} hold no text; read it as text, or use id type 'integer'"
    return f"{rows} cannot be read as {WANTED[id_type]}; mend or empty them"


def _rows(rows: NDArray[np.int64]) -> str:
    """ "3 rows (4, 17, 20)": numbered from 1, a header not counted."""
    shown = ", ".join(str(row + 1) for row in sorted(rows.tolist())[:5])
    return f"{len(rows)} row{'s' * (len(rows) != 1)} ({shown}{', ...' * (len(rows) > 5)})"
