"""The lift of each partner, as the label holder's summary and report have it."""

import json
from pathlib import Path
from typing import Any

import pytest

from parties.summary import report
from splitnn.lift import RESAMPLES
from tests.parties import small


@pytest.fixture(scope="module")
def homes(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path, identities: dict[str, Any]
) -> dict[str, Path]:
    return small.write(tmp_path_factory.mktemp("small"), certificates, identities)


def test_it_is_the_label_holders(homes: dict[str, Path], identities: dict[str, Any]) -> None:
    """With one partner, all of them together are that one."""
    model = "{ cut = 3, bottom_hidden = [6], top_hidden = [16], party_dropout = 0.3 }"
    small.agree(homes, identities, model=model)
    found = small.run(homes)
    assert "contribution" not in found["logistics"]
    summary = found["platform"]
    record, metrics = summary["contribution"], summary["metrics"]
    assert (record["rows"], record["users"], record["resamples"]) == (36, 36, RESAMPLES)
    retrained, absent = record["lifts"]
    assert (retrained["partners"], retrained["way"]) == (["logistics"], "retrained")
    assert (absent["partners"], absent["way"]) == (["logistics"], "absent")
    for entry, without in ((retrained, metrics["alone"]), (absent, metrics["test_without"]["logistics"])):
        for metric in ("auc", "log_loss"):
            one = entry["metrics"][metric]
            assert one["with"] == pytest.approx(metrics["test"][metric], abs=1e-6)
            assert one["without"] == pytest.approx(without[metric], abs=1e-6)
            assert one["low"] <= one["lift"] <= one["high"]
    written = small.folder_of(homes["platform"], summary)
    assert json.loads((written / "summary.json").read_text())["contribution"] == record
    text = (written / "report.txt").read_text()
    assert text == report(summary)
    assert f"AUC {retrained['metrics']['auc']['lift']:+.4f} (" in text
    assert "logistics (trained without)" in text
    assert "logistics (one network, absent)" in text
    assert "95% intervals over the 36 test rows" in text


def test_users_with_several_examples_are_drawn_as_one(
    homes: dict[str, Path], identities: dict[str, Any]
) -> None:
    table = homes["platform"] / "table.csv"
    once = table.read_text()
    header, *rows = once.splitlines()
    again = [f"{row[:-1]}{1 - int(row[-1])}" for row in rows[:100]]
    table.write_text("\n".join([header, *rows, *again]) + "\n")
    small.agree(homes, identities, examples='{ per_entity = "several" }')
    summary = small.run(homes)["platform"]
    record = summary["contribution"]
    assert record["users"] == 36 < record["rows"]
    assert {"auc", "gauc", "ndcg@10"} <= record["lifts"][0]["metrics"].keys()
    assert (
        "over the 36 test users" in (small.folder_of(homes["platform"], summary) / "report.txt").read_text()
    )
    table.write_text(once)
