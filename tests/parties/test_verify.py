"""`party certs verify`: every fault of one's own files, each by itself, and what is well."""

import json
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from parties import process
from parties.certificate import key_fingerprint
from parties.certs import Identity, issue
from parties.config import Config, load
from parties.verify import Finding, verify_own

PARTS = ["key", "pair", "name", "chain", "dates", "dates", "pin", "denied"]

Home = Callable[..., Config]


@pytest.fixture
def home(tmp_path: Path, certificates: Path, identities: dict[str, Identity]) -> Home:
    """The folder of logistics. tls: more of that table."""

    def make(tls: str = "") -> Config:
        for file in ("ca.pem", "logistics.pem", "logistics.key"):
            if not (tmp_path / file).exists():
                shutil.copy(certificates / file, tmp_path / file)
        parties = "".join(
            f'[parties.{name}]\nkey = "{one.fingerprint}"\n' for name, one in identities.items()
        )
        (tmp_path / "run.toml").write_text(
            f'version = 1\nname = "t"\nlabel_holder = "platform"\nseed = 1\nids.type = "email"\n{parties}'
        )
        (tmp_path / "data.csv").write_text("email\n")
        (tmp_path / "party.toml").write_text(
            'party = "logistics"\ndata = { file = "data.csv", id = "email" }\n'
            'link.hub = "localhost:50051"\n[tls]\nca = "ca.pem"\ncertificate = "logistics.pem"\n'
            f'key = "logistics.key"\n{tls}\n'
        )
        return load(tmp_path / "party.toml")

    return make


def faults(found: list[Finding]) -> dict[str, str]:
    return {one.what: one.line for one in found if one.outcome == "fault"}


def test_all_is_well(home: Home) -> None:
    found = verify_own(home())
    assert [one.what for one in found] == PARTS
    assert {one.outcome for one in found} == {"ok"}


def test_each_fault_is_found_beside_the_others(home: Home, tmp_path: Path) -> None:
    issue(tmp_path / "other", ["platform"], now=datetime.now(UTC) - timedelta(days=3), days=1)
    shutil.copy(tmp_path / "other" / "platform.pem", tmp_path / "logistics.pem")
    assert {what: line.partition(": ")[2] for what, line in faults(verify_own(home())).items()}.keys() == {
        "pair",
        "name",
        "chain",
        "dates",
        "pin",
    }
    assert "names platform, localhost" in faults(verify_own(home()))["name"]
    assert "expired on" in faults(verify_own(home()))["dates"]


@pytest.mark.parametrize(
    ("file", "what"), [("ca.pem", "ca"), ("logistics.pem", "certificate"), ("logistics.key", "key")]
)
def test_a_file_that_is_something_else(home: Home, tmp_path: Path, file: str, what: str) -> None:
    (tmp_path / file).write_text("hello")
    found = faults(verify_own(home()))
    assert set(found) == {what}
    assert file in found[what]


def test_what_is_not_wrong_yet(home: Home, tmp_path: Path) -> None:
    config = home()
    (tmp_path / "logistics.key").chmod(0o644)
    found = verify_own(config, datetime.now(UTC) + timedelta(days=360))
    assert [(one.what, one.outcome) for one in found if one.outcome != "ok"] == [
        ("key", "warning"),
        ("dates", "warning"),
    ]
    assert "expires in 4 days" in next(
        one.line for one in found if one.what == "dates" and one.outcome != "ok"
    )


def test_keys_that_are_denied_here(home: Home, identities: dict[str, Identity]) -> None:
    peer = key_fingerprint(identities["platform"].certificate_der)
    assert "pins for platform; agree on" in faults(verify_own(home(f'denied = ["{peer}"]')))["denied"]
    own = identities["logistics"].fingerprint
    assert "your own tls.denied names it" in faults(verify_own(home(f'denied = ["{own}"]')))["denied"]


@pytest.mark.parametrize("broken", [False, True])
def test_the_command(
    home: Home,
    tmp_path: Path,
    broken: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home()
    if broken:
        (tmp_path / "logistics.key").write_text("hello")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    printed = []
    for words in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["party", "certs", "verify", *words])
        with pytest.raises(SystemExit) as ended:
            process.main()
        assert ended.value.code == (4 if broken else 0)
        printed.append(capsys.readouterr().out)
    document = json.loads(printed[1])
    assert [line.split()[:2] for line in printed[0].splitlines()] == [
        [one["outcome"], one["what"]] for one in document["findings"]
    ]
    assert ("error" in document) == broken
