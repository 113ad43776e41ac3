"""Texts that are numbers or dates elsewhere, and none here: told with what to write, never guessed at."""

import re
from typing import Any, Final

import pyarrow.compute as pc

MOST: Final = 0.9
"""Of the cells: so many of one kind, and the others are worth a look."""
LOOKED_AT: Final = 1_000
"""Distinct cells that are held against a pattern."""
WHOLE: Final = r"^\s*[+-]?[0-9]+\s*$"
POINT: Final = r"^\s*[+-]?[0-9]+(\.[0-9]+)?\s*$"
DECIMAL_COMMA: Final = r"^\s*[+-]?([0-9]+|[0-9]{1,3}(\.[0-9]{3})+),[0-9]+\s*$"
THOUSANDS_COMMA: Final = r"^\s*[+-]?[0-9]{1,3}(,[0-9]{3})+(\.[0-9]+)?\s*$"
THOUSANDS_POINT: Final = r"^\s*[+-]?[0-9]{1,3}(\.[0-9]{3})+\s*$"
DATE: Final = r"^\s*([0-9]{1,2})([./-])([0-9]{1,2})([./-])[0-9]{4}([T ].*)?$"
YEAR_FIRST: Final = r"^\s*[0-9]{4}([./])[0-9]{1,2}([./])[0-9]{1,2}([T ].*)?$"


def elsewhere(texts: Any) -> str:
    """How most of these are written, and what to write instead; empty where they are nothing of the kind.

    texts: Arrow, text; only the first distinct ones are looked at.
    """
    first = texts.drop_null().unique().slice(0, LOOKED_AT)
    return (_amounts(first) or _dates([str(one) for one in first.to_pylist()])) if len(first) else ""


def share(found: Any) -> float:
    """Of Arrow truth values: how many are true."""
    return float(pc.mean(found).as_py() or 0)


def _amounts(texts: Any) -> str:
    """Whole numbers may stand among them; of 1,234 nobody can tell which it is, so one other cell decides."""
    comma, thousands = (pc.match_substring_regex(texts, one) for one in (DECIMAL_COMMA, THOUSANDS_COMMA))
    if not pc.any(pc.or_(comma, thousands)).as_py():
        return ""
    points, whole, plain = (pc.match_substring_regex(texts, one) for one in (THOUSANDS_POINT, WHOLE, POINT))
    if share(pc.or_(pc.or_(comma, points), whole)) >= MOST and share(comma) >= share(thousands):
        if share(comma) > share(thousands):
            return "numbers with a decimal comma; write 1234.56 for 1.234,56"
        return "numbers with a comma, of decimals or of thousands; write 1234.56, or 1234"
    if share(thousands) and share(pc.or_(thousands, plain)) >= MOST:
        return "numbers with a comma between thousands; write 1234.56 for 1,234.56"
    return ""


def _dates(texts: list[str]) -> str:
    iso = "write 2004-09-23 (ISO 8601)"
    if sum(bool(re.match(YEAR_FIRST, one)) for one in texts) >= MOST * len(texts):
        return f"dates written YYYY/MM/DD; {iso}"
    found = [one for one in (re.match(DATE, text) for text in texts) if one and one[2] == one[4]]
    pairs = [pair for one in found if 1 <= min(pair := (int(one[1]), int(one[3]))) <= 12 and max(pair) <= 31]
    if len(pairs) < MOST * len(texts):
        return ""
    mark = found[0][2]
    day_first, month_first = mark.join(("DD", "MM", "YYYY")), mark.join(("MM", "DD", "YYYY"))
    if all(month <= 12 for _, month in pairs):  # nobody writes the month first before a point
        either = mark != "." and all(month <= 12 for month, _ in pairs)
        return f"dates written {day_first}{f' or {month_first}' if either else ''}; {iso}"
    if all(month <= 12 for month, _ in pairs):
        return f"dates written {month_first}; {iso}"
    return f"dates, some written {day_first} and some {month_first}; {iso}"
