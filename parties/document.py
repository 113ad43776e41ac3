"""A TOML file held against its model: every fault found, each one line `file: key: what is wrong`."""

import difflib
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

AT_MOST = 1 << 20
"""Bytes of a file. Real ones have 2 KiB; whatever is larger was named by mistake."""

TYPES = {
    "model_type": "a table",
    "dict_type": "a table",
    "tuple_type": "a list",
    "string_type": "a string",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
}
"""pydantic's types of faults, in the words of TOML."""


class Section(BaseModel):
    """A table of a TOML file. Unknown keys and values of another type are faults; nothing is converted."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


S = TypeVar("S", bound=Section)
Key = tuple[str | int, ...]


def read(path: Path, faults: list[str]) -> dict[str, Any]:
    """The tables of a TOML file; empty, with a fault more, where it cannot be read."""
    try:
        with path.open("rb") as file:
            text = file.read(AT_MOST + 1)
        if len(text) > AT_MOST:
            faults.append(f"{path}: larger than {AT_MOST >> 20} MiB; is this the right file?")
            return {}
        return tomllib.loads(text.decode("utf-8-sig"))
    except FileNotFoundError:
        faults.append(f"{path}: no such file; name yours with -c, or `party init NAME` writes one")
    except OSError as error:
        faults.append(f"{path}: cannot be read: {error.strerror}")
    except UnicodeDecodeError as error:
        line = text[: error.start].count(b"\n") + 1
        faults.append(f"{path}: line {line}: not UTF-8 text; save the file as UTF-8")
    except tomllib.TOMLDecodeError as error:
        what, where = _position(str(error))
        faults.append(f"{path}: {where}: not valid TOML: {what}")
    except (RecursionError, ValueError):
        faults.append(f"{path}: not valid TOML: nested too deeply, or a number with too many digits")
    return {}


def check(
    model: type[S], tables: dict[str, Any], file: Path, faults: list[str], **context: object
) -> S | None:
    """The model of these tables, or None and a fault more for each thing wrong."""
    try:
        return model.model_validate(tables, context=context)
    except ValidationError as error:
        faults += [
            f"{file}: {dotted(_key(fault['loc'], tables))}: {_reason(model, fault, tables)}"
            for fault in error.errors(include_url=False)
        ]
        return None


def dotted(key: Sequence[str | int]) -> str:
    """`parties.platform.key`, `model.top_hidden[1]`; what is not a bare key is quoted, and kept short."""
    words = "".join(f"[{part}]" if isinstance(part, int) else f".{_quoted(part)}" for part in key)
    return words.removeprefix(".")


def _quoted(part: str) -> str:
    return part if re.fullmatch(r"[A-Za-z0-9_-]{1,64}", part) else ascii(part[:64])


def _key(loc: Key, tables: dict[str, Any]) -> Key:
    """The place as the file writes it."""
    here: Any = tables
    key: list[str | int] = []
    # pydantic ends the place of a bad name of a table with this word
    for part in loc[:-1] if loc and loc[-1] == "[key]" else loc:
        if isinstance(part, int) and isinstance(here, dict):
            continue  # one table, where several may stand
        key.append(part)
        if isinstance(here, list) and isinstance(part, int):
            here = here[part]
        else:
            here = here.get(part) if isinstance(here, dict) else None
    return tuple(key)


def _reason(model: type[Section], fault: Any, tables: dict[str, Any]) -> str:
    if fault["type"] == "extra_forbidden":
        return f"unknown key; {_nearest(model, fault['loc'], tables)}"
    if fault["type"] == "missing":
        return "missing; please add it"
    text = fault["msg"].removeprefix("Value error, ").replace("Input should be ", "must be ")
    text = f"must be {TYPES[fault['type']]}" if fault["type"] in TYPES else text
    found = fault["input"]
    if text.startswith("must ") and isinstance(found, bool | int | float | str) and len(str(found)) <= 80:
        text += f", not {found!r}" if isinstance(found, str) else f", not {str(found).lower()}"
    return text


def _nearest(model: type[Section], loc: Key, tables: dict[str, Any]) -> str:
    path = tuple(str(part) for part in loc)
    keys = list(_keys(model))
    beside = [key for key in keys if len(key) == len(path) and _same_table(key, path)]
    elsewhere = {key[-1]: key for key in reversed(keys) if "*" not in key}  # the first of a name
    if path[-1] in elsewhere:
        return f"did you mean {dotted(elsewhere[path[-1]])}?"
    for word in difflib.get_close_matches(path[-1], [key[-1] for key in beside], n=1):
        return f"did you mean {dotted(_key((*loc[:-1], word), tables))}?"
    for word in difflib.get_close_matches(path[-1], list(elsewhere), n=1, cutoff=0.75):
        return f"did you mean {dotted(elsewhere[word])}?"
    return f"the keys here are {', '.join(sorted(key[-1] for key in beside))}"


def _same_table(key: tuple[str, ...], path: tuple[str, ...]) -> bool:
    return all(a in (b, "*") for a, b in zip(key[:-1], path[:-1], strict=True))


def _keys(model: type[Section]) -> Iterator[tuple[str, ...]]:
    """Every key that the model knows; `*` stands for a name that the user chooses, or a place in a list."""
    for name, field in model.model_fields.items():
        yield (name,)
        kind: Any = field.annotation
        several = get_origin(kind) in (dict, tuple)
        for section in get_args(kind) if several else (kind,):
            if isinstance(section, type) and issubclass(section, Section):
                yield from ((name, *("*" for _ in range(several)), *rest) for rest in _keys(section))


def _position(message: str) -> tuple[str, str]:
    """tomllib says `what (at line 3, column 5)`."""
    found = re.fullmatch(r"(.*) \(at (line \d+, column \d+|end of document)\)", message, re.DOTALL)
    return (found[1], found[2]) if found else (message, "somewhere")
