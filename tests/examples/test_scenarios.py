"""The scenarios on few people: together the made-up truth is found better than by the label holder alone."""

import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "examples" / "scenarios"
QUESTIONS = {  # the metric, by how much it has to be better, and who brings it
    "ad_conversion": ("auc", 0.1, {"advertiser", "logistics"}),
    "late_delivery": ("auc", 0.04, {"advertiser", "platform"}),
    "fraud": ("pr_auc", 0.05, {"bank", "logistics"}),
    "recommendation": ("gauc", 0.05, {"advertiser", "logistics"}),
    "merchant_analysis": ("r2", 0.3, {"advertiser", "logistics"}),
}


def test_all_are_tested() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == {"scenario", *QUESTIONS}


@pytest.mark.slow
@pytest.mark.parametrize("name", QUESTIONS)
def test_the_federation_beats_the_label_holder_alone(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    metric, better, partners = QUESTIONS[name]
    found = importlib.import_module(name).main(1000 if name == "recommendation" else 3000)
    assert found.metrics["test"][metric] > found.metrics["alone"][metric] + better
    printed = capsys.readouterr().out.splitlines()
    both = " and ".join(sorted(partners))
    table = {line[:40].strip(): line[40:].split() for line in printed if len(line) > 40}
    together, alone = table[f"{found.label_holder} with {both}"], table[f"{found.label_holder} alone"]
    assert float(together[0]) == pytest.approx(found.metrics["test"][metric], abs=1e-4)
    assert float(alone[0]) == pytest.approx(found.metrics["alone"][metric], abs=1e-4)
    assert table.keys() >= {both, *partners}
    assert float(table[both][1]) > 0  # the interval's lower end
