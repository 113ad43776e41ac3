"""The pages in headless Chromium: every chart is there, none too wide for a telephone, nothing asked for."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest

from parties.report.compare import write_comparison
from parties.report.page import write_page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: apt-get install chromium"),
]

NARROW = 380
BROWSERS_OWN = re.compile(r"\.(google|googleapis|gvt1)\.com(:\d+)?$")
"""Where it asks for itself, whatever it shows; no page of ours could name these."""

FRAME = """<!doctype html><meta charset="utf-8"><body><script>
const frame = document.createElement("iframe");
frame.style.cssText = "width:%dpx;height:4000px;border:0";
frame.onload = () => {
  const page = frame.contentDocument;
  const charts = [...page.querySelectorAll("svg")].map(one => one.getBoundingClientRect());
  document.body.dataset.seen = JSON.stringify({
    scrolls: page.documentElement.scrollWidth,
    sideways: [...page.querySelectorAll(".scroll")].filter(one => one.scrollWidth > one.clientWidth + 1)
      .map(one => one.getAttribute("aria-label")),
    charts: charts.filter(one => one.width > 200 && one.height > 60).length,
    headings: page.querySelectorAll("h1, h2").length,
  });
};
frame.srcdoc = %s;
document.body.append(frame);
</script></body>"""
"""A page that lets another one be measured, which has no script itself."""


class Seen(NamedTuple):
    """scrolls: pixels of the widest part. sideways: tables whose end is not in sight. console: its lines.
    asked: servers that were asked."""

    scrolls: int
    charts: int
    headings: int
    sideways: list[str]
    console: list[str]
    asked: set[str]


def look(page: Path, folder: Path, width: int = NARROW) -> Seen:
    text = json.dumps(page.read_text()).replace("<", "\\u003c")
    harness, log = folder / "harness.html", folder / "net.json"
    harness.write_text(FRAME % (width, text))
    switches = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    switches += ["--disable-background-networking", "--disable-component-update", "--dump-dom"]
    switches += ["--enable-logging=stderr", "--virtual-time-budget=5000", f"--log-net-log={log}"]
    assert CHROMIUM is not None
    ended = subprocess.run(
        [CHROMIUM, *switches, f"--user-data-dir={folder / 'profile'}", harness.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r'data-seen="([^"]*)"', ended.stdout)
    assert found, ended.stderr[-2000:]
    measured = json.loads(found[1].replace("&quot;", '"'))
    console = [line for line in ended.stderr.splitlines() if "CONSOLE" in line]
    asked = {*re.findall(r'"url":"((?:https?|wss?)://[^"/]*)', log.read_text())}
    return Seen(**measured, console=console, asked=asked)


def scored(folder: Path, to: Path, task: str, scores: pd.DataFrame) -> Path:
    """The page of the same run, had it been of this task."""
    shutil.copytree(folder, to)
    summary = json.loads((folder / "summary.json").read_text())
    summary["training"]["task"] = task
    (to / "summary.json").write_text(json.dumps(summary | {"metrics": {"test": {"log_loss": 0.5}}}))
    scores.to_parquet(to / "test_scores.parquet")
    return write_page(to)


def pages(runs: list[dict[str, Path]], folder: Path) -> dict[str, tuple[Path, int]]:
    """Of each page how many charts it has."""
    random, ours = np.random.default_rng(1), runs[0]["platform"]
    shares = random.dirichlet(np.ones(4), 500)
    classes = pd.DataFrame({f"score.{name * 30}": shares[:, at] for at, name in enumerate("abcd")})
    classes.insert(0, "label", random.choice([name * 30 for name in "abcd"], 500))
    numbers = pd.DataFrame({"label": random.normal(size=500), "score": random.normal(size=500)})
    return {
        "label holder": (write_page(ours), 8),
        "feature holder": (write_page(runs[0]["logistics"]), 0),
        "multi-class": (scored(ours, folder / "classes", "multiclass", classes), 6),
        "regression": (scored(ours, folder / "numbers", "regression", numbers), 5),
        "two runs": (write_comparison(ours, runs[1]["platform"], folder / "two.html"), 6),
    }


def test_every_page_in_a_browser(runs: list[dict[str, Path]], tmp_path: Path) -> None:
    for place, (name, (page, charts)) in enumerate(pages(runs, tmp_path).items()):
        (tmp_path / str(place)).mkdir()
        seen = look(page, tmp_path / str(place))
        assert seen.charts == charts, name
        assert seen.scrolls <= NARROW, name
        assert seen.headings >= 5, name
        assert seen.sideways == [], name
        assert seen.console == [], name
        assert not [url for url in seen.asked if not BROWSERS_OWN.search(url)], name
