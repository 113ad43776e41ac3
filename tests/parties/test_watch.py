"""What is seen from outside of a party's process: the status file, `party status`, metrics, JSON lines."""

import fcntl
import json
import os
import re
import socket
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from parties.address import Address
from parties.errors import AlignmentError, NetworkError
from parties.party_toml import Metrics
from parties.seen import Seen
from parties.status import status, text
from parties.storage import is_locked, locked
from parties.watch import Watch, status_file
from protos.rounds import PeerFailed, Progress, Traffic


@pytest.fixture
def config(tmp_path: Path) -> Any:
    """As much of a configuration as is looked at."""
    contract = SimpleNamespace(name="trial", digest=bytes(32))
    party = SimpleNamespace(storage=tmp_path, metrics=Metrics())
    return SimpleNamespace(name="platform", role="label holder", contract=contract, party=party)


class FakeLink:
    def __init__(self, **seen: Seen) -> None:
        self.seen = seen

    def peers_seen(self) -> dict[str, Seen]:
        return self.seen


def written(config: Any) -> dict[str, Any]:
    return dict(json.loads(status_file(config).read_text()))


def test_the_file_tells_phase_step_peers_and_end(config: Any) -> None:
    with Watch(config, "run") as one:
        on_progress = one.over(lambda progress, traffic: None)
        one.linked(FakeLink(logistics=Seen(True, 2.0, 10, 20, 3, 4)))  # type: ignore[arg-type]
        on_progress(Progress("training", 12, 400), Traffic(0, 0))
        one.checkpoint(0.25)
        one._write()
        now = written(config)
        assert (now["phase"], now["step"], now["of"], now["checkpoints"]) == ("training", 12, 400, 1)
        assert (now["pid"], now["end"]) == (os.getpid(), None)
        assert now["peers"]["logistics"]["bytes_sent"] == now["bytes_sent"] == 10
        assert now["peers"]["logistics"]["last_seen"] < now["updated"]
    assert written(config)["end"] == {"exit_code": 0}
    assert [path.name for path in status_file(config).parent.iterdir()] == ["platform.status.json"]


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (AlignmentError("too few"), {"exit_code": 10, "class": "AlignmentError", "message": "too few"}),
        (ValueError("ann@x.org"), {"exit_code": 1, "class": "ValueError"}),
    ],
)
def test_the_end_quotes_no_unforeseen_error(config: Any, error: Exception, end: dict[str, Any]) -> None:
    with pytest.raises(type(error)), Watch(config, "run"):
        raise error
    assert written(config)["end"] == end


def test_counts_go_on_over_another_link(config: Any) -> None:
    """A peer that restarted gets a new link: what a counter says may never fall."""
    one = Watch(config, "run")
    one.linked(FakeLink(logistics=Seen(True, 0.0, 10, 20, 3, 4, 1, 2)))  # type: ignore[arg-type]
    one.linked(FakeLink())  # type: ignore[arg-type]
    assert one.now().peers == {"logistics": Seen(False, 0.0, 10, 20, 3, 4, 1, 2)}
    one.linked(FakeLink(logistics=Seen(True, 1.0, 1, 1, 1, 1)))  # type: ignore[arg-type]
    assert one.now().peers == {"logistics": Seen(True, 1.0, 11, 21, 4, 5, 1, 2)}


def test_who_comes_and_goes_is_told_once(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, bool]] = []
    one = Watch(config, "run", lambda peer, there: told.append((peer, there)))
    for there in (True, True, False, True):
        one.linked(FakeLink(logistics=Seen(there, 0.0)))  # type: ignore[arg-type]
        one._look()
    assert told == [("logistics", True), ("logistics", False), ("logistics", True)]


def test_a_status_that_cannot_be_written_ends_no_run(config: Any) -> None:
    config.party.storage = Path("/nonexistent/folder")
    with Watch(config, "run"):
        pass


def test_states(config: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert status(config)["state"] == "none"
    assert "nothing was started here" in text(status(config))
    with locked(tmp_path, "platform"), Watch(config, "run"):
        found = status(config)
        assert (found["state"], found["pid"]) == ("running", os.getpid())
        assert "running since" in text(found)
        monkeypatch.setattr("parties.status.STALE", -1.0)
        assert status(config)["state"] == "frozen"
        left = status_file(config).read_text()
    assert status(config)["state"] == "ended"
    assert "exit code 0" in text(status(config))
    status_file(config).write_text(left)  # as after kill -9
    assert status(config)["state"] == "died"
    status_file(config).write_text("{half")
    assert status(config)["state"] == "none"


def test_an_end_by_a_peer_is_told(config: Any) -> None:
    with pytest.raises(PeerFailed), Watch(config, "run"):
        raise PeerFailed("logistics", "training", "its connection broke")
    assert "exit code 8: logistics failed during training: its connection broke" in text(status(config))


def test_a_process_that_serves_is_told_of(config: Any) -> None:
    config.party.storage.mkdir(exist_ok=True)
    assert not status(config)["serves"]
    assert "party serve" not in text(status(config))
    with locked(config.party.storage, f"{config.name}.serve"):
        assert status(config)["serves"]
        assert status(config)["state"] == "none"  # of `party run`
        assert "a `party serve` runs" in text(status(config))
    assert not status(config)["serves"]


def test_results_and_what_is_unfinished(config: Any, tmp_path: Path) -> None:
    for folder in ("trial-1234", "trial-00-unfinished"):
        (tmp_path / folder / "platform").mkdir(parents=True)
    (tmp_path / "trial-1234" / "platform" / "summary.json").write_text("{}")
    (tmp_path / "trial-00-unfinished" / "platform" / "run.json").write_text("{}")
    found = status(config)
    assert found["results"] == str(tmp_path / "trial-1234" / "platform")
    assert found["unfinished"] == str(tmp_path / "trial-00-unfinished" / "platform")


def test_looking_at_the_lock_does_not_refuse_a_run(tmp_path: Path) -> None:
    """Somebody who looks holds the lock, shared, for a moment."""
    assert not is_locked(tmp_path, "platform")
    with locked(tmp_path, "platform"):
        assert is_locked(tmp_path, "platform")
    assert not is_locked(tmp_path, "platform")
    with (tmp_path / "platform.lock").open() as looking:
        fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)
        assert not is_locked(tmp_path, "platform")


def test_what_was_left_of_a_status_goes(tmp_path: Path) -> None:
    (tmp_path / ".platform.status.json.7.partial").write_text("{")
    (tmp_path / ".logistics.status.json.7.partial").write_text("{")
    with locked(tmp_path, "platform"):
        assert [path.name for path in tmp_path.glob(".*")] == [".logistics.status.json.7.partial"]


def free() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return Address("127.0.0.1", server.getsockname()[1])


def test_metrics(config: Any) -> None:
    config.party.metrics = Metrics.model_construct(listen=free())
    with Watch(config, "run") as one:
        one.linked(FakeLink(logistics=Seen(True, 2.0, 10, 20, 3, 4, 5, 6)))  # type: ignore[arg-type]
        one.over(lambda progress, traffic: None)(Progress("training", 12, 400), Traffic(0, 0))
        one.checkpoint(0.25)
        with urllib.request.urlopen(f"http://{config.party.metrics.listen}/metrics", timeout=5) as answer:
            page = answer.read().decode()
        with pytest.raises(NetworkError, match=r"in use.*metrics\.listen"), Watch(config, "run"):
            pass
    values = dict(re.findall(r"^(party_\w+(?:\{[^}]*\})?) (\S+)$", page, re.MULTILINE))
    peer = '{peer="logistics"}'
    assert float(values['party_phase{phase="training"}']) == 1
    expected = {
        "party_step": 12,
        "party_steps": 400,
        "party_checkpoints_total": 1,
        "party_checkpoint_seconds_total": 0.25,
        f"party_connected{peer}": 1,
        f"party_seconds_since_heard{peer}": 2,
        f"party_sent_bytes_total{peer}": 10,
        f"party_received_bytes_total{peer}": 20,
        f"party_messages_sent_total{peer}": 3,
        f"party_messages_received_total{peer}": 4,
        f"party_reconnects_total{peer}": 5,
        f"party_resent_total{peer}": 6,
    }
    assert {name: float(values[name]) for name in expected} == expected
    with pytest.raises(OSError):  # noqa: PT011 - closed with the run
        urllib.request.urlopen(f"http://{config.party.metrics.listen}/metrics", timeout=5)


def test_a_process_that_has_not_told_yet(config: Any) -> None:
    """It holds the lock; its status is not there yet, or damaged."""
    with locked(config.party.storage, "platform"):
        for content in (None, b"[]", b'{"updated": 5}', b"\xff"):
            if content is not None:
                status_file(config).write_bytes(content)
            assert text(status(config)).endswith("its process has told nothing yet")
