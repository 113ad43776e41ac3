"""The one form of an id in which all parties compare it. `docs/psi.md` has the rules as a table.

Every rule is a function of one cell alone, so two parties that hold the same id, each in its own dirty
form, come to the same canonical text without talking.
"""

import re
import unicodedata
from collections.abc import Callable
from numbers import Integral
from typing import Final, Literal, get_args

IdType = Literal["string", "integer", "email", "phone"]

ID_TYPES: Final[tuple[str, ...]] = get_args(IdType)

# Soft hyphen, zero-width and direction marks, word joiner and its kin, BOM: they print nothing, and
# copying from a web page or a spreadsheet brings them in.
INVISIBLE: Final = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff]")
INTEGER: Final = re.compile(r"([+-]?)([0-9]+)(?:\.0*)?")
PHONE_PUNCTUATION: Final = re.compile(r"[\s().\-/\u2010-\u2015\u2212]")
PHONE: Final = re.compile(r"\+[1-9][0-9]{5,14}")  # E.164: at most 15 digits
EXACT_FLOAT: Final = 2**53  # above it a float64 no longer tells neighbouring integers apart


def canonical(cell: object, id_type: IdType) -> str | None:
    """The rule: a cell's canonical text; "" if nothing is left of it, None if it is no id of this type."""
    if id_type == "integer":
        return _integer(cell)
    return _text(cell, RULES[id_type]) if isinstance(cell, str) else None


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
