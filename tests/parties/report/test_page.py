"""Pages of whole runs: what they hold at whom, and what they never do."""

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from parties.config import load
from parties.report import charts
from parties.report.curves import Curve
from parties.report.page import NAME, write_page
from parties.storage import run_folder
from parties.train import leave_page
from tests.parties import small
from tests.parties.report.conftest import HOSTILE

FORBIDS = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


class Elements(HTMLParser):
    """tags: of all elements. text: all of it. outside: addresses that are not of this page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(folder: Path) -> Elements:
    place = write_page(folder)
    assert place == folder / NAME
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.stat().st_size < 1_000_000
    return Elements(place.read_text())


SECTIONS = {
    "platform": {"How good it is", "What gradients tell of the labels", "What the partners bring"},
    "logistics": set[str](),
}
OF_ALL = {
    "From your table to the training rows",
    "Your columns",
    "How training went",
    "What the model rests on",
    "Time and traffic",
    "What left this company",
    "What was agreed",
    "Privacy that was spent",
}


@pytest.mark.parametrize("name", small.NAMES)
def test_each_party_has_its_page(made: dict[str, Path], name: str) -> None:
    page = page_of(made[name])
    titles = {title for title in OF_ALL | SECTIONS["platform"] if title in page.text}
    assert titles == OF_ALL | SECTIONS[name]
    assert page.tags.count("svg") == page.tags.count("figure") == (8 if name == "platform" else 0)
    assert ("gradients, computed from the labels" in page.text) == (name == "platform")


@pytest.mark.parametrize("name", small.NAMES)
def test_no_script_no_address_and_nobody(made: dict[str, Path], name: str) -> None:
    folder = made[name]
    page = page_of(folder)
    text = (folder / NAME).read_text()
    assert FORBIDS in text
    assert not {"script", "link", "img", "iframe", "a", "image"} & {*page.tags}
    assert not [attribute for attribute in page.attributes if attribute.startswith("on")]
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org/)", text)
    if name == "platform":
        scores = pd.read_parquet(folder / "test_scores.parquet")
        assert not [score for score in scores["score"].head(50) if f"{score:.6g}" in text]


def test_hostile_names_are_text(made: dict[str, Path]) -> None:
    page = page_of(made["logistics"])
    assert HOSTILE in page.text
    assert "script" not in page.tags
    agreement = made["platform"] / "agreement.json"
    before = agreement.read_text()
    content = json.loads(before)
    content["contract"] |= {"name": HOSTILE, "purpose": '"><img src=x onerror=alert(1)>'}
    try:
        agreement.write_text(json.dumps(content))
        page = page_of(made["platform"])
    finally:
        agreement.write_text(before)
    assert f"Run {HOSTILE} at platform" in page.text
    assert not {"script", "img"} & {*page.tags}


def changed(folder: Path, tmp_path: Path, **parts: object) -> Elements:
    """The page of the same run, had its summary said this."""
    summary = json.loads((folder / "summary.json").read_text())
    (tmp_path / "summary.json").write_text(json.dumps(summary | parts))
    return page_of(tmp_path)


def test_what_the_company_has_today_and_what_partners_bring_are_in_the_head(
    made: dict[str, Path], tmp_path: Path
) -> None:
    page = page_of(made["platform"])
    top = page.text[: page.text.index("How good it is")]
    assert "AUC, this party alone, all its rows" in top
    assert "what partners bring (trained without)" in top
    assert "few test users" in page.text
    record = json.loads((made["platform"] / "summary.json").read_text())["contribution"]
    [lift] = record["lifts"]
    for low, chance in ((-0.1, True), (0.1, False)):
        for one in lift["metrics"].values():
            one |= {"low": low, "high": 0.3}
        page = changed(made["platform"], tmp_path, contribution=record | {"users": 500})
        assert page.text.count("may be chance: the interval includes 0") == chance * 3, "head and two metrics"
        assert "few test users" not in page.text


def test_what_gradients_tell_is_said_in_a_sentence_that_is_seen(
    made: dict[str, Path], tmp_path: Path
) -> None:
    leak = json.loads((made["platform"] / "summary.json").read_text())["leak"]
    for auc, much, said in ((1.0, "much", "nearly every label"), (0.5, "little", "told little")):
        told = dict.fromkeys(("norm", "cosine", "norm_rows", "cosine_rows"), auc)
        page = changed(made["platform"], tmp_path, leak=leak | told)
        assert said in page.text
        assert f'<p class="verdict {much}">' in (tmp_path / NAME).read_text()


def test_own_columns_are_listed_and_what_was_left_out(made: dict[str, Path], tmp_path: Path) -> None:
    folder = made["logistics"]
    (tmp_path / "pipeline.json").write_bytes((folder / "pipeline.json").read_bytes())
    page = changed(folder, tmp_path, left_out=[{"column": HOSTILE, "why": "constant in training"}])
    section = page.text[page.text.index("Your columns") : page.text.index("How training went")]
    for told in (
        "spent",
        "number",
        "flag where missing",
        "member",
        "boolean",
        "since",
        "date",
        "bag",
        HOSTILE,
    ):
        assert told in section
    assert section.count("constant in training") == 1
    (tmp_path / "pipeline.json").write_text("{")
    assert "Your columns" not in page_of(tmp_path).text


def test_lines_that_lie_on_each_other_are_all_seen() -> None:
    same = Curve(np.arange(3.0), np.ones(3))
    svg = charts.lines("two", [("norm", same), ("cosine", same)], "epoch", "AUC")
    drawn = re.findall(r'style="fill: none; stroke: var\(--line(\d)\); stroke-width: ([\d.]+)', svg)
    drawn += re.findall(
        r'stroke-dasharray: [^;]+;[^"]*stroke: var\(--line(\d)\); stroke-width: ([\d.]+)', svg
    )
    widths = {line: float(width) for line, width in drawn}
    assert widths["0"] > widths["1"], "the lower is wider, and what lies on it has gaps"


def other_task(folder: Path, tmp_path: Path, task: str, scores: pd.DataFrame) -> Elements:
    """The page of the same run, had it been of this task."""
    other = tmp_path / folder.parent.name / folder.name
    other.mkdir(parents=True)
    for path in folder.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    summary = json.loads((folder / "summary.json").read_text())
    summary["training"]["task"] = task
    summary["metrics"] = {"test": {"log_loss": 0.5}}
    (other / "summary.json").write_text(
        json.dumps({key: summary[key] for key in summary if key != "contribution"})
    )
    scores.to_parquet(other / "test_scores.parquet")
    return page_of(other)


def test_many_classes(made: dict[str, Path], tmp_path: Path) -> None:
    random, names = np.random.default_rng(1), [HOSTILE, *"abcdefghij", "帽子"]
    scores = random.dirichlet(np.ones(len(names)), 600)
    frame = pd.DataFrame({f"score.{name}": scores[:, at] for at, name in enumerate(names)})
    frame.insert(0, "label", random.choice(names, 600))
    page = other_task(made["platform"], tmp_path, "multiclass", frame)
    assert page.tags.count("svg") == 6
    assert "script" not in page.tags
    assert "AUC against the rest" in page.text


def test_several_targets_and_numbers(made: dict[str, Path], tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    truth, score = random.integers(0, 2, 300), random.random(300)
    frame = pd.DataFrame({"label.click": truth, "label.none": 0, "score.click": score, "score.none": score})
    page = other_task(made["platform"], tmp_path / "several", "multilabel", frame)
    assert page.tags.count("svg") == 5
    page = other_task(
        made["platform"],
        tmp_path / "numbers",
        "regression",
        pd.DataFrame({"label": truth + score, "score": score}),
    )
    assert page.tags.count("svg") == 5


def test_a_run_of_an_earlier_release_has_what_it_has(made: dict[str, Path], tmp_path: Path) -> None:
    summary = json.loads((made["platform"] / "summary.json").read_text())
    for key in ("funnel", "parts", "history", "contribution", "metrics", "leak", "privacy", "importance"):
        del summary[key]
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    page = page_of(tmp_path)
    assert "svg" not in page.tags
    assert "users whom all parties have" in page.text


def test_a_million_rows_take_no_longer(made: dict[str, Path], tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    frame = pd.DataFrame({"label": random.integers(0, 2, 3_000_000), "score": random.random(3_000_000)})
    began = time.monotonic()
    other_task(made["platform"], tmp_path, "binary", frame)
    assert time.monotonic() - began < 20, "some 2 s where nothing else runs"


def test_a_page_that_cannot_be_written_costs_no_run(
    made: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    home = made["platform"].parents[2]
    config, said = load(home / "party.toml"), list[str]()
    summary = json.loads((made["platform"] / "summary.json").read_text())
    folder = run_folder(config.party.storage, "small", bytes.fromhex(summary["run"]), "platform")
    assert folder == made["platform"]
    (folder / NAME).unlink(missing_ok=True)
    leave_page(config, summary, said.append)
    assert (folder / NAME).exists()
    assert said == []

    def fails(*_: object) -> None:
        raise RuntimeError("of row 7")

    monkeypatch.setattr("parties.report.page.write_page", fails)
    leave_page(config, summary, said.append)
    assert said == ["no report.html: RuntimeError; the results are whole, and `party report` makes it again"]
