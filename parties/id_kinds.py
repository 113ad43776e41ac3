"""By which ids the parties know the same person: the kinds in run.toml, and a party's columns for them."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationInfo,
    field_validator,
)

from parties.document import Section, dotted

IdType = Literal["string", "integer", "email", "phone"]


class IdKind(Section):
    """One kind of id by which the parties may know the same person; psi.ids has the rules of each type."""

    types: Annotated[tuple[IdType, ...], Field(strict=False)] = ()
    """Of a composite id, the type of each column, 2 to 8; required where `type` is missing, and refused
    beside it."""
    type: IdType | None = Field(default=None, validate_default=True)
    """How an id in one column is brought into canonical form: docs/psi.md"""
    name: Annotated[str, Field(description="1 to 64 of `A-Z a-z 0-9 _ -`")] = Field(
        default="", validate_default=True
    )
    """What `data.id` of party.toml calls this kind, of one kind only; by default the type, or the types with
    `-` between."""

    @field_validator("types")
    @classmethod
    def _several_columns(cls, types: tuple[str, ...]) -> tuple[str, ...]:
        if types and not 2 <= len(types) <= 8:
            raise ValueError("a composite id has 2 to 8 types, one a column; for one column give type")
        return types

    @field_validator("type")
    @classmethod
    def _either(cls, type_: str | None, info: ValidationInfo) -> str | None:
        if type_ is not None and info.data.get("types"):
            raise ValueError("stands beside types; keep type for one column, types for several")
        if type_ is None and info.data.get("types") == ():
            raise ValueError('missing; give type = "email" for one column, or types for a composite id')
        return type_

    @field_validator("name")
    @classmethod
    def _named_after_its_types(cls, name: str, info: ValidationInfo) -> str:
        if not name:
            return "-".join(info.data.get("types") or [info.data.get("type") or ""])
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
            raise ValueError("the name of a kind of id is 1 to 64 of A-Z, a-z, 0-9, '_' and '-'")
        return name

    @property
    def columns(self) -> tuple[IdType, ...]:
        """The type of each column that makes up the id."""
        return self.types if self.type is None else (self.type,)


def _one_or_several(ids: object) -> object:
    return [ids] if isinstance(ids, dict) else ids


def _of_different_names(kinds: tuple[IdKind, ...]) -> tuple[IdKind, ...]:
    if not 1 <= len(kinds) <= 8:
        raise ValueError("needs 1 to 8 kinds of id")
    names = [kind.name for kind in kinds]
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise ValueError(f"two kinds of id have the name {twice[0]!r}; give each a name of its own")
    return kinds


IdKinds: TypeAlias = Annotated[
    tuple[IdKind, ...],
    BeforeValidator(_one_or_several),
    Field(strict=False),
    AfterValidator(_of_different_names),
]


def _columns(value: object) -> str | dict[str, tuple[str, ...]]:
    if isinstance(value, str) and value:
        return value
    if not isinstance(value, dict) or not value:
        raise ValueError('must be a column, or a table of columns by kind of id: { email = "e-mail" }')
    found = {}
    for kind, columns in value.items():
        listed = [columns] if isinstance(columns, str) else columns
        if not isinstance(listed, list) or not listed or not all(isinstance(c, str) and c for c in listed):
            raise ValueError(f"{dotted([kind])} must be a column, or a list of columns for a composite id")
        if len({*listed}) < len(listed):
            raise ValueError(f"{dotted([kind])} names a column twice")
        found[kind] = tuple(listed)
    return found


IdColumns: TypeAlias = Annotated[
    str | dict[str, tuple[str, ...]],
    PlainValidator(_columns),
    Field(description="a column, or a table of columns by kind of id"),
]
"""party.toml's `data.id`: the column of the only kind, or the columns of each kind that this party has."""


def digest_key(contract: bytes, kind: str) -> bytes:
    """The key for one kind of id, 32 bytes, the same at all parties. contract: its digest."""
    return hashlib.sha256(b"vertical ids v1\0" + contract + kind.encode()).digest()


def by_kind(
    columns: str | Mapping[str, tuple[str, ...]], kinds: tuple[IdKind, ...]
) -> dict[str, tuple[str, ...]]:
    """The columns of each kind that this party has, in the contract's order of preference."""
    if isinstance(columns, str):
        return {kinds[0].name: (columns,)}
    return {kind.name: columns[kind.name] for kind in kinds if kind.name in columns}


def written_as(columns: Sequence[str]) -> list[str]:
    """What the columns of one kind are called in the files that a run leaves."""
    return ["id"] if len(columns) == 1 else [f"id_{place}" for place, _ in enumerate(columns, 1)]


def faults_of_columns(columns: Any, kinds: Any) -> Iterator[str]:
    """What `data.id` and the contract's `ids` only say together; nothing where one is faulty in itself."""
    try:
        held, agreed = _columns(columns), TypeAdapter[tuple[IdKind, ...]](IdKinds).validate_python(kinds)
    except ValueError:
        return
    names = ", ".join(kind.name for kind in agreed)
    if isinstance(held, str):
        if len(agreed) > 1:
            yield f"data.id: run.toml has several kinds of id; say which it is: {{ {agreed[0].name} = ... }}"
        elif len(agreed[0].columns) > 1:
            yield f"data.id: {_wants(agreed[0])}"
        return
    for name, own in held.items():
        kind = next((kind for kind in agreed if kind.name == name), None)
        if kind is None:
            yield f"{dotted(['data', 'id', name])}: run.toml has no such kind of id; it has {names}"
        elif len(own) != len(kind.columns):
            yield f"{dotted(['data', 'id', name])}: {_wants(kind)}"


def _wants(kind: IdKind) -> str:
    count, types = len(kind.columns), ", ".join(kind.columns)
    if count == 1:
        return f"one column, run.toml says ({types})"
    return f"run.toml makes {kind.name} of {count} columns ({types}); list them: {{ {kind.name} = [...] }}"
