"""What a page is made of: sections of facts, tables and charts. Text is text here; `page.html` escapes it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias


@dataclass(frozen=True)
class Bar:
    """A number with its share of the largest, as a bar beside it. share: 0 to 1."""

    text: str
    share: float


@dataclass(frozen=True)
class Key:
    """A name in a table that is a line in a chart. line: its number there, from 0."""

    text: str
    line: int


Cell: TypeAlias = str | Bar | Key


@dataclass(frozen=True)
class Facts:
    """Names and values, one a line. folded: shown on demand only."""

    pairs: Sequence[tuple[str, str]]
    folded: str = ""


@dataclass(frozen=True)
class Tiles:
    """The few numbers that the page begins with: what, value."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Table:
    """The first cell of a row names it. caption: what the rows are, for who cannot see the section."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Figure:
    """svg: markup of `parties.report.charts`, which has no text of a user's."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Verdict:
    """A sentence that is seen at once. much: how grave it is: `much`, `some` or `little`."""

    much: str
    text: str


@dataclass(frozen=True)
class Section:
    """note: what it means, in a sentence or two. Charts stand before tables."""

    title: str
    note: str = ""
    facts: Sequence[Facts | Tiles] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = field(default=())
    verdict: Verdict | None = None


def number(value: object, digits: int = 4) -> str:
    """As people read it; a dash for what is not known."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.{digits}f}" if isinstance(value, float) else str(value)


def size(count: int) -> str:
    """Bytes."""
    for unit, least in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= least:
            return f"{count / least:,.1f} {unit}"
    return f"{count} bytes"


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 120 else f"{minutes} min {rest} s"


def bars(values: Sequence[float], texts: Sequence[str]) -> list[Bar]:
    """By the largest of them; nothing for what is not above 0."""
    most = max([value for value in values if value > 0], default=1.0)
    return [Bar(text, max(value, 0.0) / most) for value, text in zip(values, texts, strict=True)]
