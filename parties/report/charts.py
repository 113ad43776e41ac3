"""Charts as SVG, by matplotlib: no script, a few kB each, and sharp on paper.

Colours are variables of `page.css`, so that one chart is right on light and on dark; lines differ by dashes,
too. Text in a chart is this program's own: names of a user's stand in tables beside it.
"""

import io
import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any, Final

from parties.report.curves import Bins, Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES: Final = 8
"""Lines that can be told apart in a chart."""
DASHES: Final = ("-", (0, (6, 2)), (0, (2, 1.5)), (0, (6, 1.5, 1.5, 1.5)))
INK, FAINT = "#000001", "#000002"
SERIES: Final = tuple(f"#0000{number:02x}" for number in range(0x10, 0x10 + LINES))
VARIABLES: Final = {INK: "--ink", FAINT: "--faint"} | {
    colour: f"--line{number}" for number, colour in enumerate(SERIES)
}
"""Colours that stand for what the page's style says."""

ALONE: Final = threading.Lock()
"""The style of matplotlib is the process's, and several runs may end in one process."""

STYLE: Final[Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "party",
    "text.parse_math": False,
    "text.usetex": False,
    "axes.unicode_minus": False,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
}


def chart(what: str, draw: "Callable[[Axes], None]", height: float = 2.9) -> str:
    """Markup of a chart that is read out as `what`. height: inches, of a width of 4."""
    with ALONE, quiet():
        return _drawn(what, draw, height)


def _drawn(what: str, draw: "Callable[[Axes], None]", height: float) -> str:
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(rc=STYLE):
        figure = Figure(figsize=(4, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        draw(axes)
        out = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would reach the whole page
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)  # the same in every chart
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(what)}"', 1)


@contextmanager
def quiet() -> Iterator[None]:
    """Matplotlib tells of its font cache on stderr, where this program's lines are."""
    log = logging.getLogger("matplotlib")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def look(line: int) -> dict[str, Any]:
    """Colour and dashes of a line."""
    return {"color": SERIES[line % LINES], "linestyle": DASHES[line % len(DASHES)]}


def lines(
    what: str,
    named: Sequence[tuple[str, Curve]],
    x: str,
    y: str,
    diagonal: bool = False,
    level: float | None = None,
    mark: float | None = None,
    unit: bool = False,
) -> str:
    """named: each with its legend; without one where there is one line. diagonal, level: what means nothing.
    mark: a place on x. unit: both axes from 0 to 1."""

    def draw(axes: "Axes") -> None:
        if diagonal:
            axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        if level is not None:
            axes.axhline(level, color=INK, linewidth=0.8, linestyle=":")
        if mark is not None:
            axes.axvline(mark, color=INK, linewidth=0.8, linestyle="--")
        for place, (name, curve) in enumerate(named):
            dot = "o" if len(curve.x) < 3 else ""
            width = 1.8 + 0.9 * (len(named) - 1 - place) * (
                len(named) <= 4
            )  # seen beside one that lies on it
            shown = look(place) | {"marker": dot, "markersize": 4, "linewidth": width}
            axes.plot(curve.x, curve.y, label=name, **shown)
        _axes(axes, x, y, unit)
        if len(named) > 1:
            axes.legend(fontsize=8)

    return chart(what, draw)


def binned(what: str, bins: Bins, x: str, y: str, diagonal: bool = True, unit: bool = False) -> str:
    """Points with the intervals about them, beside the diagonal on which they should lie."""

    def draw(axes: "Axes") -> None:
        ends = [0.0, 1.0] if unit else [min(bins.x.min(), bins.y.min()), max(bins.x.max(), bins.y.max())]
        if diagonal:
            axes.plot(ends, ends, color=INK, linewidth=0.8, linestyle=":")
        axes.vlines(bins.x, bins.low, bins.high, color=SERIES[0], linewidth=1.2)
        axes.plot(bins.x, bins.y, marker="o", markersize=4, **look(0))
        _axes(axes, x, y, unit)

    return chart(what, draw)


def histogram(what: str, ends: Curve, x: str, y: str) -> str:
    """ends: as of `parties.report.curves.residuals`."""

    def draw(axes: "Axes") -> None:
        axes.stairs(ends.y, ends.x, fill=True, color=SERIES[0])
        axes.axvline(0, color=INK, linewidth=0.8, linestyle=":")
        _axes(axes, x, y, unit=False)

    return chart(what, draw)


def intervals(what: str, named: Sequence[tuple[str, float, float | None, float | None]], x: str) -> str:
    """A row for each name, [a-z0-9 -] only: a value, and the interval about it where it is known."""

    def draw(axes: "Axes") -> None:
        for row, (_, value, low, high) in enumerate(named):
            if low is not None and high is not None:
                axes.hlines(row, low, high, color=SERIES[0], linewidth=2)
            axes.plot([value], [row], marker="o", markersize=6, color=SERIES[0])
        axes.axvline(0, color=INK, linewidth=0.8, linestyle=":")
        axes.set_yticks(range(len(named)), [name for name, *_ in named])
        axes.set_ylim(len(named) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(x)

    return chart(what, draw, height=0.8 + 0.35 * len(named))


def _axes(axes: "Axes", x: str, y: str, unit: bool) -> None:
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if unit:
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.04)
