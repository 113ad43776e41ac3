"""The download script's parsing, on made-up lines: the publisher cannot be asked in a test."""

import importlib.util
import io
import json
import urllib.error
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

DATA = Path(__file__).parents[2] / "examples" / "data"
SPLIT = {
    "name": "made_up",
    "member": "made-up.csv",
    "rows": 2,
    "label": "Y",
    "not_features": ["z"],
    "parties": {"platform": ["b"], "logistics": ["a"]},
}


@pytest.fixture(scope="module")
def download() -> ModuleType:
    spec = importlib.util.spec_from_file_location("download", DATA / "download.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def zipped(name: str, content: bytes) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr("readme.txt", "made up")
        archive.writestr(name, content)
    return held.getvalue()


@pytest.mark.parametrize("separator", [",", ";"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_publishers_file_is_understood(download: ModuleType, separator: str, mark: str, end: str) -> None:
    lines = [
        ["a", " b", "Y", "z", "more"],
        ["1", "x y", "TRUE", "0", "m"],
        [],
        ["", '"u,v"', "FALSE", "0", "m"],
    ]
    text = mark + end.join(separator.join(cells) for cells in lines) + end
    assert download.convert(text, SPLIT) == 'b,a,z,Y\nx y,1,0,TRUE\n"u,v",,0,FALSE\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no column 'b'"),
        ("<html>not found</html>", "no column 'b'"),
        ("a,c,Y,z\n1,2,3,4\n1,2,3,4\n", "no column 'b'"),
        ("a,b,Y,z\n1,2,3,4\n", "1 rows, not 2"),
        ("a,b,Y,z\n1,2,3,4\n1,2,3\n", "row 3"),
    ],
)
def test_another_file_is_refused(download: ModuleType, text: str, said: str) -> None:
    with pytest.raises(download.DownloadError, match=said):
        download.convert(text, SPLIT)


def test_the_member_is_found_in_any_folder_of_the_archive(download: ModuleType) -> None:
    assert download.member_of(zipped("data/made-up.csv", "\ufeffa,b\n".encode()), "made-up.csv") == "a,b\n"


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (b"<html>busy</html>", "not a zip archive"),
        (zipped("other.csv", b"a"), "no made-up.csv"),
        (zipped("made-up.csv", b"\xff\xfe"), "UTF-8"),
    ],
)
def test_another_archive_is_refused(download: ModuleType, archive: bytes, said: str) -> None:
    with pytest.raises(download.DownloadError, match=said):
        download.member_of(archive, "made-up.csv")


def test_the_whole_command(
    download: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "made_up").mkdir()
    facts = {"title": "Made up", "license": "none", "doi": "none", "url": "https://made.up"}
    (tmp_path / "made_up" / "split.json").write_text(json.dumps(SPLIT | facts))
    monkeypatch.setattr(download, "HERE", tmp_path)
    monkeypatch.setattr("sys.argv", ["download.py", "made_up"])
    sent = io.BytesIO(zipped("made-up.csv", b"a,b,Y,z\n1,2,0,4\n1,2,1,4\n"))
    monkeypatch.setattr("urllib.request.urlopen", lambda url, timeout: sent)
    assert download.main() == 0
    assert (tmp_path / "made_up" / "made_up.csv").read_text() == "b,a,z,Y\n2,1,4,0\n2,1,4,1\n"

    def refuse(url: str, timeout: float) -> None:
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    capsys.readouterr()
    assert download.main() == 1
    assert capsys.readouterr().err == "https://made.up: no route\n"


@pytest.mark.parametrize("name", ["online_shoppers", "in_vehicle_coupon"])
def test_each_split_is_whole(name: str) -> None:
    split = json.loads((DATA / name / "split.json").read_text())
    columns = [column for party in split["parties"].values() for column in party]
    assert split["name"] == name
    assert split["label_holder"] in split["parties"]
    assert len(columns) == len(set(columns))
    assert set(split["categorical"]) <= set(columns)
    assert not {split["label"], *split["not_features"]} & set(columns)
    assert split["url"].startswith("https://archive.ics.uci.edu/")
