"""The page of a run: its sections, put into `page.html`, which escapes all text."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from parties.report import course, privacy, quality
from parties.report.kept import Kept
from parties.report.parts import Bar, Facts, Key, Section
from parties.storage import write

if TYPE_CHECKING:
    from jinja2 import Template

NAME: Final = "report.html"
SECTIONS: Final[tuple[Callable[[Kept], Section | None], ...]] = (
    course.head,
    quality.metrics,
    quality.contribution,
    quality.importance,
    course.funnel,
    course.columns,
    course.learning,
    privacy.leak,
    privacy.account,
    quality.drift,
    course.costs,
    privacy.left,
    course.agreed,
)
HERE: Final = Path(__file__).parent


def write_page(folder: Path, out: Path | None = None) -> Path:
    """Make report.html of what the run in this folder left. Raises StorageError."""
    kept = Kept.read(folder)
    title = f"Run {kept.name} at {kept.summary['party']}"
    place = out or folder / NAME
    write(place, page(title, [each(kept) for each in SECTIONS]))
    return place


def page(title: str, sections: Sequence[Section | None]) -> bytes:
    """title: the heading, too. Sections that are None are left out."""
    told = [section for section in sections if section is not None]
    style = (HERE / "page.css").read_text()
    return _template().render(title=title, sections=told, style=style).encode()


@cache
def _template() -> "Template":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["named"] = lambda head, row: zip(head[1:], row[1:], strict=True)
    environment.tests["bar"] = lambda cell: isinstance(cell, Bar)
    environment.tests["key"] = lambda cell: isinstance(cell, Key)
    environment.tests["facts"] = lambda block: isinstance(block, Facts)
    return environment.get_template("page.html")
