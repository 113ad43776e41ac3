"""Protocols are found by decorator, entry point and dotted name; from outside the tree too."""

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import psi
from psi import DuplicateProtocol, UnknownProtocol, registry
from psi.protocols import EcdhPsi

OUTSIDE = '''
"""A protocol of somebody else's: the first party is told nothing, all align on nothing."""
import numpy as np

class Nothing:
    name = "nothing"
    parties = range(2, 3)
    leakage = "nothing"
    cost = "nothing"
    maturity = "a joke"
    secure = True

    def align(self, setting, digests):
        yield from ()
        return np.zeros(0, np.int64)

    def traffic(self, counts, common):
        return 0

    def unread(self, at_most):
        return 0

class Half:
    name = "half"

not_a_class = 17
'''


@pytest.fixture
def my_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    (tmp_path / "my_lab_of_psi.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_lab_of_psi"
    sys.modules.pop("my_lab_of_psi", None)


@pytest.fixture
def more_entry_points(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    points = list(registry.entry_points(group=registry.GROUP))

    def entry_points(**wanted: Any) -> list[EntryPoint]:
        return [point for point in points if all(getattr(point, key) == wanted[key] for key in wanted)]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    return points


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> dict[str, type]:
    mine = dict(registry._registered)
    monkeypatch.setattr(registry, "_registered", mine)
    return mine


def test_what_comes_with_the_program() -> None:
    assert {"ecdh", "rr22", "dh", "insecure-hash"} <= set(psi.installed())
    ecdh = psi.load("ecdh")
    assert type(ecdh) is EcdhPsi
    assert 2 in ecdh.parties
    assert 16 in ecdh.parties
    assert 17 not in ecdh.parties


def test_a_class_outside_the_tree_by_dotted_name(my_lab: str) -> None:
    nothing = psi.load(f"{my_lab}:Nothing")
    assert nothing.leakage == "nothing"
    with pytest.raises(StopIteration) as stop:
        next(nothing.align(psi.Setting("a", ("a", "b"), b"run", 1), None))
    assert len(stop.value.value) == 0


def test_a_class_outside_the_tree_by_entry_point(my_lab: str, more_entry_points: list[EntryPoint]) -> None:
    more_entry_points.append(EntryPoint("nothing", f"{my_lab}:Nothing", registry.GROUP))
    assert {"nothing", "ecdh"} <= set(psi.installed())
    assert my_lab not in sys.modules  # listed without being imported
    assert type(psi.load("nothing")).__name__ == "Nothing"


def test_by_decorator(my_lab: str) -> None:
    made = psi.protocol("nothing")(type(psi.load(f"{my_lab}:Nothing")))
    assert type(psi.load("nothing")) is made
    assert psi.protocol("nothing")(made) is made  # the same class again is no conflict
    with pytest.raises(
        DuplicateProtocol, match=r"'nothing' is my_lab_of_psi:Nothing, so psi.protocols:EcdhPsi cannot"
    ):
        psi.protocol("nothing")(EcdhPsi)


def test_two_entry_points_of_one_name(my_lab: str, more_entry_points: list[EntryPoint]) -> None:
    more_entry_points.append(EntryPoint("ecdh", f"{my_lab}:Nothing", registry.GROUP))
    with pytest.raises(
        DuplicateProtocol, match=r"installed twice: my_lab_of_psi:Nothing, psi.protocols:EcdhPsi"
    ):
        psi.load("ecdh")


def test_an_entry_point_against_a_decorator(
    my_lab: str, more_entry_points: list[EntryPoint], registered: dict[str, type]
) -> None:
    more_entry_points.append(EntryPoint("mine", f"{my_lab}:Nothing", registry.GROUP))
    registered["mine"] = EcdhPsi
    with pytest.raises(DuplicateProtocol, match=r"both my_lab_of_psi:Nothing and psi.protocols:EcdhPsi"):
        psi.load("mine")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("ecd", "no PSI protocol 'ecd'; installed are .*ecdh"),
        ("", "installed are .*ecdh"),
        ("my_lab_of_psi:Missing", "cannot be imported: .*Missing"),
        ("no_such_lab:Fast", "cannot be imported: .*no_such_lab"),
        (":", "cannot be imported"),
        ("my_lab_of_psi:Half", "lacks parties, leakage, cost, maturity, secure, align, traffic, unread"),
        ("my_lab_of_psi:not_a_class", "no class"),
    ],
)
def test_unknown_names(my_lab: str, name: str, says: str) -> None:
    with pytest.raises(UnknownProtocol, match=says) as caught:
        psi.load(name)
    assert "\n" not in str(caught.value)


def test_importing_psi_is_light_and_pure() -> None:
    """`party --help` imports it; and nothing of psi may reach for a socket or for another room."""
    code = (
        "import sys, psi; heavy = {'numpy', 'pandas', 'torch', 'rbcl', 'Crypto'} & set(sys.modules); "
        "import psi.protocols; other = {'torch', 'grpc', 'parties', 'splitnn'} & set(sys.modules); "
        "print(heavy, other)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["set()", "set()"]
