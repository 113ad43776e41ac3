"""Bars on a terminal; elsewhere one line a phase, and none of it on stdout."""

import io

import pytest
from rich.console import Console

from parties.progress import Bars
from protos.rounds import Progress, Traffic
from splitnn.epoch import Epoch


def steps(bars: Bars) -> None:
    for phase, total in (("psi", 3), ("training", 1000)):
        for done in (0, total // 2, total):
            bars(Progress(phase, done, total), Traffic(1_500_000, 2_000_000))


def test_one_line_a_phase_where_there_is_no_terminal() -> None:
    out = io.StringIO()
    with Bars(Console(file=out)) as bars:
        steps(bars)
    lines = out.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == ["finding common users: 3 of 3", "training: 1"]
    assert lines[0].endswith("1.5 MB out, 2.0 MB in")


def test_a_long_phase_is_told_of_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("parties.progress.time.monotonic", lambda: now)
    out = io.StringIO()
    with Bars(Console(file=out)) as bars:
        for done in range(26):
            bars(Progress("training", done, 25), Traffic(0, 0))
            now += 1.0
    told = [line.split(",")[0] for line in out.getvalue().splitlines()]
    assert told == ["training: 11 of 25", "training: 22 of 25", "training: 25 of 25"]


def test_a_bar_a_phase_on_a_terminal() -> None:
    out = io.StringIO()
    with Bars(Console(file=out, force_terminal=True, width=120)) as bars:
        steps(bars)
    last = out.getvalue()
    assert "finding common users" in last
    assert "1000/1000" in last
    assert "1.5 MB out" in last


@pytest.mark.parametrize(
    ("width", "there", "gone"),
    [
        (90, "", "validation"),
        (120, "2,500 rows/s, epoch 30", "MB"),
        (160, "2,500 rows/s, epoch 30, validation auc 0.8125, 1.5 MB out", "…"),
    ],
)
def test_what_counts_is_there_on_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, width: int, there: str, gone: str
) -> None:
    now = 100.0
    monkeypatch.setattr("parties.progress.time.monotonic", lambda: now)
    out = io.StringIO()
    with Bars(Console(file=out, force_terminal=True, color_system=None, width=width)) as bars:
        bars(Progress("agreed on rr22, email ids", 0, 0), Traffic(0, 0))
        bars(Progress("training", 0, 12_500), Traffic(0, 0))
        now += 2.0
        bars(
            Epoch("training", 6250, 12_500, 30, True, True, False, rows=5_000, metrics={"auc": 0.8125}),
            Traffic(1_500_000, 2_000_000),
        )
        bars._display.refresh()
        shown = out.getvalue()
    for part in (" 6250/12500 ", " 50% ", " 3,125/s ", " left ", "agreed on rr22, email ids", there):
        assert part in shown
    assert gone not in shown
    assert "…" not in shown


def test_nothing_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with Bars() as bars:
        steps(bars)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "training" in captured.err


def test_a_phase_of_unknown_length() -> None:
    with Bars(Console(file=io.StringIO(), force_terminal=True)) as bars:
        bars(Progress("gathering", 0, 0), Traffic(0, 0))


def test_the_phase_of_a_failure_is_told() -> None:
    out = io.StringIO()
    bars = Bars(Console(file=out))

    def fails_in_psi() -> None:
        with bars:
            bars(Progress("psi", 1, 3), Traffic(0, 0))
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fails_in_psi()
    assert out.getvalue().startswith("finding common users: 1 of 3, ")


def epoch(number: int, metrics: dict[str, float]) -> Epoch:
    judged, rows = number % 2 == 0, 5_000
    return Epoch(
        "training", 10 * number, 100, number, judged, judged, stops=False, rows=rows, metrics=metrics
    )


@pytest.mark.parametrize(("holds", "judged"), [(True, ", validation auc 0.8125"), (False, "")])
def test_epochs_are_told_with_the_newest_verdict(
    monkeypatch: pytest.MonkeyPatch, holds: bool, judged: str
) -> None:
    now = 100.0
    monkeypatch.setattr("parties.progress.time.monotonic", lambda: now)
    out, shown = io.StringIO(), io.StringIO()
    with (
        Bars(Console(file=out)) as bars,
        Bars(Console(file=shown, force_terminal=True, width=160)) as display,
    ):
        for one in (bars, display):
            now = 100.0
            one(Progress("training", 0, 100), Traffic(0, 0))
            for number in (1, 2, 3):
                now += 2.0
                metrics = {"train_loss": 0.5, "norm_leak": 0.9} | ({"auc": 0.8125} if number == 2 else {})
                one(epoch(number, metrics if holds else {}), Traffic(1_500_000, 2_000_000))
    line = f"training: 30 of 100, 6.0 s, 2,500 rows/s, 1.5 MB out, 2.0 MB in, epoch 3{judged}"
    assert out.getvalue().splitlines() == [line]
    assert f"epoch 3{judged}" in shown.getvalue()
    assert "2,500 rows/s" in shown.getvalue()


def test_a_run_that_goes_on_is_no_faster_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("parties.progress.time.monotonic", lambda: now)
    out = io.StringIO()
    with Bars(Console(file=out, force_terminal=True, width=160)) as bars:
        bars(Progress("training", 901, 1000), Traffic(0, 0))
        now += 10.0
        bars(Progress("training", 951, 1000), Traffic(0, 0))
    assert "5/s" in out.getvalue()
    assert "95/s" not in out.getvalue()
