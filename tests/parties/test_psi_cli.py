"""`party psi`: what is installed, what it costs, whether it conforms."""

import json
import signal
import sys
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

import psi
from parties import process, psi_cli
from protos.rounds import LocalProtocolError
from psi import conformance
from psi.conformance.report import Report, Result
from psi.estimate import Calibration

Party = Callable[..., int]


@pytest.fixture
def party(monkeypatch: pytest.MonkeyPatch) -> Party:
    """Run `party psi ...` here in this process; answers the exit code."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def call(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["party", "psi", *words])
        with pytest.raises(SystemExit) as ended:
            process.main()
        assert isinstance(ended.value.code, int)
        return ended.value.code

    return call


def test_list_tells_what_each_says_of_itself(party: Party, capsys: pytest.CaptureFixture[str]) -> None:
    assert party("list", "--json") == 0
    found = {one["protocol"]: one for one in json.loads(capsys.readouterr().out)}
    assert set(found) == set(psi.installed())
    assert found["ecdh"]["parties"] == "2 to 16"
    assert found["dh"]["parties"] == "2"
    assert found["insecure-hash"]["secure"] is False
    for name, one in found.items():
        loaded = psi.load(name)
        assert (one["cost"], one["leakage"], one["maturity"]) == (
            loaded.cost,
            loaded.leakage,
            loaded.maturity,
        )
    assert party("list") == 0
    text = capsys.readouterr().out
    assert all(value in text for value in found["dh"].values() if isinstance(value, str))
    assert [name for name, one in found.items() if one["default"]] == ["ecdh"]
    assert "\necdh   (the default)\n" in text
    assert text.count("secure    NO") == 1
    assert text.splitlines()[-1].startswith('protocol = "auto"')


def test_list_names_a_plugin_that_cannot_be_imported(
    party: Party, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psi, "installed", lambda: ["dh", "no_such_lab:Fast"])
    assert party("list", "--json") == 0
    _, broken = json.loads(capsys.readouterr().out)
    assert broken["protocol"] == "no_such_lab:Fast"
    assert "cannot be imported" in broken["fault"]


@pytest.fixture
def calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    """No trial: every protocol takes a second, and half a transfer's bytes pass one party."""
    one = Calibration(fixed=1.0, per_id=0.0, hops=4, share=0.5, sizes=(1, 2))
    monkeypatch.setattr("psi.estimate.calibrate", lambda *_: one)


@pytest.mark.usefixtures("calibrated")
def test_estimate(party: Party, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--ids", "10000", "--parties", "3", "--bandwidth", "8M", "--rtt", "40ms")
    assert party("estimate", *words, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    found = {one["protocol"]: one for one in told["estimates"]}
    assert "dh" not in found
    assert found["ecdh"]["bytes"] == psi.load("ecdh").traffic([10000] * 3, 10000)
    assert found["ecdh"]["waiting"] == 0.08
    assert found["ecdh"]["transfer"] == pytest.approx(found["ecdh"]["bytes"] / 2 / 1e6, abs=1e-3)
    parts = sum(found["ecdh"][part] for part in ("computing", "transfer", "waiting"))
    assert found["ecdh"]["seconds"] == pytest.approx(parts, abs=2e-3)
    assert told["auto"] in found
    assert found[told["auto"]]["secure"]
    assert party("estimate", *words) == 0
    text = capsys.readouterr().out
    assert "not for 3 parties: dh" in text
    *_, last = [line for line in text.splitlines() if " = " in line]
    assert last.startswith("insecure-hash")
    assert last.endswith("hides nothing")
    (marked,) = [line for line in text.splitlines() if "<- auto" in line]
    assert marked.startswith(f"{told['auto']} ")
    assert "0.08" in marked  # what is less than a second, in two digits


class Broken:
    name, parties, secure = "broken", range(2, 3), True

    def align(self, setting: Any, digests: Any) -> None:
        raise LocalProtocolError("its wheel\ncannot be imported")


class Countless(Broken):
    parties: Any = 2


def test_estimate_leaves_out_what_cannot_be_tried(
    party: Party, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    others: dict[str, Any] = {"broken": Broken(), "countless": Countless()}
    monkeypatch.setattr(psi, "installed", lambda: [*others, "insecure-hash", "dh", "no_such_lab:Fast"])
    load = psi.load
    monkeypatch.setattr(psi, "load", lambda name: others.get(name) or load(name))
    monkeypatch.setattr("psi.estimate.ENOUGH", 0.0)
    monkeypatch.setattr("psi.estimate.SMALLEST", 64)
    assert party("estimate", "--ids", "1000", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert {one["protocol"] for one in told["estimates"]} == {"insecure-hash", "dh"}
    assert told["auto"] == "dh"
    assert told["left_out"]["broken"] == "LocalProtocolError: its wheel cannot be imported"
    assert set(told["left_out"]) == {*others, "no_such_lab:Fast"}
    assert party("estimate", "--ids", "1000") == 0
    text = capsys.readouterr().out
    assert "left out: broken: LocalProtocolError: its wheel cannot be imported\n" in text
    assert text.index("\ndh ") < text.index("insecure-hash") < text.index("left out: countless: TypeError")


@pytest.mark.parametrize(
    ("text", "bytes_a_second"), [("100M", 12.5e6), ("2.5G", 312.5e6), ("64kbit/s", 8000), ("8", 1)]
)
def test_bandwidth(text: str, bytes_a_second: float) -> None:
    assert psi_cli._bandwidth(text) == bytes_a_second


@pytest.mark.parametrize(("text", "seconds"), [("40ms", 0.04), ("1s", 1), ("250us", 0.00025)])
def test_rtt(text: str, seconds: float) -> None:
    assert psi_cli._rtt(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "words",
    [
        ("--ids", "0"),
        ("--ids", "10", "--parties", "17"),
        ("--ids", "10", "--bandwidth", "0M"),
        ("--ids", "10", "--bandwidth", "fast"),
        ("--ids", "10", "--rtt", "40"),
        (),
    ],
)
def test_estimate_refuses(party: Party, capsys: pytest.CaptureFixture[str], words: Sequence[str]) -> None:
    assert party("estimate", *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("party: ")
    assert line.endswith("see `party psi estimate --help`")


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What `check` was asked, and shall answer."""
    asked = SimpleNamespace(results=())

    def check(
        protocol: Any, seed: int, watch: Callable[[Result], None], begin: Callable[[str], None]
    ) -> Report:
        asked.protocol, asked.seed = protocol.name, seed
        for result in asked.results:
            begin(result.property)
            watch(result)
        return Report(protocol.name, tuple(asked.results))

    monkeypatch.setattr(conformance, "check", check)
    return asked


PASSED = Result("one order", "passed", "12 alignments")
FAILED = Result("fresh messages", "failed", "", "'key' is the same in two runs", 5)


def test_conformance_of_what_conforms(
    party: Party, capsys: pytest.CaptureFixture[str], checked: SimpleNamespace
) -> None:
    checked.results = [PASSED]
    assert party("conformance", "dh", "--seed", "5") == 0
    assert (checked.protocol, checked.seed) == ("dh", 5)
    told = capsys.readouterr()
    assert "12 alignments" in told.out
    assert told.err == "trying one order ...\n"


def test_conformance_of_what_does_not(
    party: Party, capsys: pytest.CaptureFixture[str], checked: SimpleNamespace
) -> None:
    checked.results = [PASSED, FAILED]
    assert party("conformance", "dh", "--seed", "5") == 14
    told = capsys.readouterr()
    assert "'key' is the same in two runs" in told.out
    assert told.err.splitlines()[-1].startswith("party: dh does not conform: fresh messages;")
    assert "--seed 5" in told.err


def test_conformance_for_machines(
    party: Party, capsys: pytest.CaptureFixture[str], checked: SimpleNamespace
) -> None:
    checked.results = [FAILED]
    assert party("conformance", "dh", "--json") == 14
    told = json.loads(capsys.readouterr().out)
    assert told["conforms"] is False
    assert told["results"][0]["property"] == "fresh messages"
    assert told["results"][0]["seed"] == 5


def test_conformance_of_an_unknown_name(party: Party, capsys: pytest.CaptureFixture[str]) -> None:
    assert party("conformance", "nope") == 2
    assert "installed are dh, ecdh" in capsys.readouterr().err
