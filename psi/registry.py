"""Which protocols there are: by decorator, by entry point, or by dotted name.

The entry-point group is `psi.protocols`; a name like `my_lab.fast_psi:FastPsi` needs no registration.
A protocol's module is imported when the protocol is asked for, not before.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Final, TypeVar

from psi.interface import Psi

P = TypeVar("P", bound=Psi)

GROUP: Final = "psi.protocols"
REQUIRED: Final = (
    *("name", "parties", "leakage", "cost", "maturity", "secure"),
    *("align", "traffic", "unread"),
)

_registered: dict[str, type[Psi]] = {}


class UnknownProtocol(LookupError):
    """No PSI protocol has this name, or what has it is none. The line lists those installed."""


class DuplicateProtocol(ValueError):
    """Two PSI protocols claim one name. Rename one, or uninstall its package."""


def protocol(name: str) -> Callable[[type[P]], type[P]]:
    """Class decorator: register a protocol under this name. Raises DuplicateProtocol."""

    def register(made: type[P]) -> type[P]:
        there = _registered.setdefault(name, made)
        if there is not made:
            raise DuplicateProtocol(f"PSI protocol {name!r} is {_path(there)}, so {_path(made)} cannot be it")
        return made

    return register


def installed() -> list[str]:
    """The names that `load` knows, those not yet imported included."""
    return sorted({*_registered, *(point.name for point in entry_points(group=GROUP))})


def load(name: str) -> Psi:
    """The protocol of this name. Raises UnknownProtocol, DuplicateProtocol."""
    if ":" in name:
        return _check(name, _import(name, EntryPoint(name, name, GROUP)))
    points = {point.value: point for point in entry_points(group=GROUP, name=name)}
    if len(points) > 1:
        raise DuplicateProtocol(f"PSI protocol {name!r} is installed twice: {', '.join(sorted(points))}")
    for point in points.values():
        made = _import(name, point)
        if name in _registered and _registered[name] is not made:
            raise DuplicateProtocol(
                f"PSI protocol {name!r} is both {point.value} and {_path(_registered[name])}"
            )
        return _check(name, made)
    if name not in _registered:
        raise UnknownProtocol(
            f"no PSI protocol {name!r}; installed are {', '.join(installed()) or 'none'}, "
            "or name a class of your own as module:Class"
        )
    return _check(name, _registered[name])


def _import(name: str, point: EntryPoint) -> object:
    try:
        return getattr(import_module(point.module), point.attr)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownProtocol(f"PSI protocol {name!r} cannot be imported: {error}") from error


def _check(name: str, made: object) -> Psi:
    missing = [what for what in REQUIRED if not hasattr(made, what)]
    if not isinstance(made, type):
        raise UnknownProtocol(f"{name!r} is no class, so no PSI protocol")
    if missing:
        raise UnknownProtocol(f"{name!r} is no PSI protocol class: it lacks {', '.join(missing)}")
    try:
        instance: Psi = made()
    except ImportError as error:
        raise UnknownProtocol(f"PSI protocol {name!r} cannot be used here: {error}") from error
    return instance


def _path(made: type) -> str:
    return f"{made.__module__}:{made.__qualname__}"
