"""The egress log: what left is in it, before it leaves; killed at any byte it goes on; changes are seen."""

import errno
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parties import audit
from parties.audit import compare, read
from parties.chain import FIRST, canonical, link
from parties.egress import Egress, earlier, leaving, numbered
from parties.errors import AccountError, StorageError, exit_code
from protos.memory import together
from protos.rounds import ANY, Bind, PeerFailed, Progress, Receive, Rounds, Save, Send

RUN, ATTEMPT = b"r" * 32, b"a" * 32
PIECES = (b"in ", b"three ", b"pieces")


def talk(me: str, peer: str, egress: Egress, path: Path, attempt: bytes = ATTEMPT) -> Rounds[str]:
    yield Progress("handshake", 0, 1)
    yield Send(peer, "hello", me.encode())
    yield Receive(peer, "hello", 9)
    yield Bind(RUN)
    egress.open(path, RUN, attempt)
    yield Progress("training", 1, 2)
    yield Send(peer, "pieces", iter(PIECES))
    sender, payload = yield Receive(ANY, "pieces", 99)
    assert (sender, payload) == (peer, b"".join(PIECES))
    yield Save(1, lambda: b"")
    yield Send(peer, "nothing", b"")
    assert (yield Receive(peer, "nothing", 0)) == b""
    return me


def both(folder: Path, attempt: bytes = ATTEMPT) -> tuple[Path, Path]:
    """Logs of a talk between two."""
    paths = folder / "ann.jsonl", folder / "bob.jsonl"
    logs = [Egress(name, lambda: 12.0) for name in ("ann", "bob")]
    outcome = together(
        {
            "ann": leaving(talk("ann", "bob", logs[0], paths[0], attempt), logs[0]),
            "bob": leaving(talk("bob", "ann", logs[1], paths[1], attempt), logs[1]),
        }
    )
    assert outcome.results == {"ann": "ann", "bob": "bob"}
    return paths


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_left_is_in_it(tmp_path: Path) -> None:
    path, _ = both(tmp_path)
    first, *messages, last = lines(path)
    assert (first["run"], first["attempt"], first["party"], first["cut"]) == (
        RUN.hex(),
        ATTEMPT.hex(),
        "ann",
        0,
    )
    told = [(line["to"], line["kind"], line["bytes"], line["phase"], line["step"]) for line in messages]
    assert told == [
        ("bob", "hello", 3, "handshake", 0),
        ("bob", "pieces", 15, "training", 1),
        ("bob", "nothing", 0, "training", 1),
    ]
    assert messages[1]["sha256"] == hashlib.sha256(b"".join(PIECES)).hexdigest()
    assert last["end"] == "done"
    assert (
        last["sent"] == last["received"] == {"bob": {"hello": [1, 3], "pieces": [1, 15], "nothing": [1, 0]}}
    )
    assert path.stat().st_mode & 0o077 == 0


@settings(deadline=None)
@given(
    st.text(),
    st.text(),
    st.text(),
    st.integers(0, 1 << 40),
    st.integers(0, 1 << 40),
    st.floats(0, 1e10) | st.integers(0, 1 << 40),
)
def test_a_message_is_written_like_any_entry(
    to: str, kind: str, phase: str, size: int, step: int, now: float
) -> None:
    egress = Egress("ann", lambda: now)
    egress.at(phase, step)
    egress.leaves(to, kind, size, "ab" * 32)
    entry = {"to": to, "kind": kind, "bytes": size, "sha256": "ab" * 32, "phase": phase, "step": step}
    assert egress._held == [canonical(entry | {"time": round(float(now), 3)})]


def test_both_logs_add_up(tmp_path: Path) -> None:
    ours, theirs = map(read, both(tmp_path))
    assert compare(ours, theirs) == compare(theirs, ours) == []
    assert (ours.messages, ours.size, ours.torn) == (3, 18, 0)
    assert json.loads(json.dumps(ours.described()))["attempts"][ATTEMPT.hex()]["end"] == "done"


def test_the_line_is_on_disk_before_the_message_is_with_the_driver(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    egress = Egress("ann")
    egress.open(path, RUN, ATTEMPT)

    def speak() -> Rounds[None]:
        yield Send("bob", "whole", b"x")
        yield Send("bob", "pieces", iter(PIECES))

    rounds = leaving(speak(), egress)
    assert isinstance(next(rounds), Send)
    assert lines(path)[-1]["kind"] == "whole"
    word = rounds.send(None)
    assert isinstance(word, Send)
    assert not isinstance(word.payload, bytes)
    for piece, expected in zip(word.payload, PIECES, strict=True):
        assert piece == expected
        assert (lines(path)[-1]["kind"] == "pieces") == (piece == PIECES[-1])
    rounds.close()  # as a process that is killed: no end is written
    assert "end" not in lines(path)[-1]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_killed_at_any_byte_it_goes_on(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("killed")
    path, other = both(folder)
    whole = path.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:cut])
    torn = cut - (whole[:cut].rfind(b"\n") + 1)
    if cut - torn:
        found = read(path)
        assert found.torn == torn
        assert bool(compare(found, read(other))) == (found.messages < 3)  # a peer that has more says so
    path, other = both(folder, b"b" * 32)
    found = read(path)
    assert found.torn == 0
    assert [line["cut"] for line in lines(path) if "cut" in line][-1] == torn
    assert found.attempts[(b"b" * 32).hex()].end == "done"


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_any_change_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path, _ = both(tmp_path_factory.mktemp("changed"))
    whole = path.read_bytes()
    every = whole.splitlines(keepends=True)
    kind = data.draw(st.sampled_from(["bit", "dropped", "twice", "swapped"]))
    place = data.draw(st.integers(0, len(every) - 2))
    if kind == "bit":
        bit = data.draw(st.integers(0, 8 * (len(whole) - 1) - 1))  # without the last newline: a cut
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
    elif kind == "dropped":
        changed = bytearray(b"".join(every[:place] + every[place + 1 :]))
    elif kind == "twice":
        changed = bytearray(b"".join([*every[: place + 1], *every[place:]]))
    else:
        changed = bytearray(b"".join([*every[:place], every[place + 1], every[place], *every[place + 2 :]]))
    path.write_bytes(changed)
    with pytest.raises(AccountError, match=r"changed from here on|holds no attempt") as raised:
        read(path)
    assert exit_code(raised.value) == 15
    assert "\n" not in str(raised.value)


def rewritten(path: Path, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> None:
    """By somebody who knows how to make a chain."""
    entries = change([{k: v for k, v in line.items() if k != "chain"} for line in lines(path)])
    path.unlink()
    egress = Egress("ann")
    egress._held, egress._path = None, path
    egress._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    for entry in entries:
        egress._write(canonical(entry))


HOSTILE: list[dict[str, Any]] = [
    {"party": "\x1b[2J"},
    {"attempt": 3},
    {"run": ["cc"]},
    {"end": "\x1b]0;"},
    {"bytes": -1},
    {"bytes": True},
    {"bytes": 1e300},
    {"to": "p\n"},
    {"kind": 1},
    {"received": [1]},
    {"received": {"bob": 3}},
    {"received": {"bob": {"pieces": [1]}}},
    {"received": {"bob": {"pieces": 3}}},
    {"received": {"bob": {"pieces": ["1", "2"]}}},
    {"received": {"bob\x1b": {}}},
]


@pytest.mark.parametrize("change", HOSTILE, ids=str)
def test_a_log_with_a_good_chain_may_hold_anything(tmp_path: Path, change: dict[str, Any]) -> None:
    path, _ = both(tmp_path)
    rewritten(
        path, lambda entries: [entry | (change if change.keys() <= entry.keys() else {}) for entry in entries]
    )
    with pytest.raises(AccountError, match=r"is no entry of such a log|other totals") as raised:
        read(path)
    assert str(raised.value).isprintable()


def test_a_log_may_be_nested_deeply(tmp_path: Path) -> None:
    path, _ = both(tmp_path)
    depth = 200_000
    body = b'{"deep":' + b"[" * depth + b"]" * depth + b"}"
    path.write_bytes(body[:-1] + b',"chain":"' + link("egress", FIRST, body).hex().encode() + b'"}\n')
    with pytest.raises(AccountError, match="line 1: is nested too deeply"):
        read(path)
    with pytest.raises(AccountError, match="nested too deeply, so it was changed"):
        Egress("ann").open(path, RUN, ATTEMPT)


def test_a_chain_made_anew_does_not_add_up(tmp_path: Path) -> None:
    path, other = both(tmp_path)
    rewritten(path, lambda entries: [entry for entry in entries if entry.get("kind") != "pieces"])
    with pytest.raises(AccountError, match="other totals than its messages"):
        read(path)

    def forget(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
        entries[-1]["sent"]["bob"]["nothing"] = [2, 7]
        extra = next(entry for entry in entries if entry.get("kind") == "nothing")
        return [*entries[:-1], extra | {"bytes": 7}, entries[-1]]

    (tmp_path / "again").mkdir()
    path, _ = both(tmp_path / "again")
    rewritten(path, forget)
    [line] = compare(read(path), read(other))
    assert "ann logged 2 'nothing' of 7 bytes for bob, which received 1 of 0 bytes" in line


def test_a_log_that_lacks_an_attempt_does_not_add_up(tmp_path: Path) -> None:
    path, other = both(tmp_path)
    kept = path.read_bytes()
    both(tmp_path, b"b" * 32)
    path.write_bytes(kept)
    [line] = compare(read(path), read(other))
    assert "in one log only" in line


def test_an_attempt_that_failed_and_is_lacking_does_not_add_up(tmp_path: Path) -> None:
    """Cut out of a log, of which a new chain was made. An attempt that never got beyond the handshake there
    has no line there."""

    def failed(paths: tuple[Path, Path]) -> tuple[audit.Log, audit.Log]:
        ours, theirs = map(read, paths)
        for attempt in ours.attempts.values():
            attempt.end = "PeerFailed"
        return ours, audit.Log(theirs.path, theirs.run, theirs.party)

    ours, theirs = failed(both(tmp_path))
    [line] = compare(ours, theirs)
    assert "bob logged none, though ann received 'nothing', 'pieces' of it" in line
    assert compare(theirs, ours) == [line]
    for attempt in ours.attempts.values():
        assert attempt.received is not None
        attempt.received = {"bob": {"hello": attempt.received["bob"]["hello"]}}
    assert compare(ours, theirs) == []


def test_who_failed_has_told_how_it_ended(tmp_path: Path) -> None:
    egress, path = Egress("ann"), tmp_path / "audit.jsonl"

    def fails() -> Rounds[None]:
        egress.open(path, RUN, ATTEMPT)
        yield Send("bob", "word", b"1")
        yield Receive("bob", "word", 1)

    rounds = leaving(fails(), egress)
    next(rounds)
    next(rounds)
    with pytest.raises(PeerFailed):
        rounds.throw(PeerFailed("bob", "training", "it died"))
    assert lines(path)[-1]["end"] == "PeerFailed"
    assert compare(read(path), audit.Log(tmp_path, read(path).run, "bob")) == []


def test_what_cannot_be_logged_does_not_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    egress = Egress("ann")
    egress.open(tmp_path / "audit.jsonl", RUN, ATTEMPT)

    def speak() -> Rounds[None]:
        yield Send("bob", "whole", b"x")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageError, match="nothing leaves without its line"):
        next(leaving(speak(), egress))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.sampled_from(["message", "turn", "killed"]), max_size=12), st.data())
def test_a_log_of_several_files_is_one_log(
    tmp_path_factory: pytest.TempPathFactory, events: list[str], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("log")
    path, attempts, left = folder / "audit.jsonl", 1, 0

    def opened() -> Egress:
        made = Egress("ann", lambda: 12.0)
        made.open(path, RUN, bytes([attempts]) * 32)
        made.at("serving", 0)
        return made

    egress = opened()
    for event in events:
        if event == "message":
            egress.leaves("bob", "question", 7, "ab" * 32)
            left += 1
        elif event == "turn":
            egress.turn()
            assert egress.size == 0
        else:
            egress.close()
            attempts += 1
            egress = opened()
    egress.end("done")
    egress.close()
    log = read(path)
    assert (log.messages, len(log.attempts), log.head) == (left, attempts, egress.head)
    assert [*log.attempts.values()][-1].end == "done"
    before = earlier(path)
    assert bool(before) == ("turn" in events)
    if before:
        lost = data.draw(st.sampled_from(before))
        if lost.stat().st_size:
            lost.rename(folder / "elsewhere")
            with pytest.raises(AccountError, match="line 1: does not follow"):
                read(path)


def test_killed_between_two_files_it_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for attempt in (b"a", b"b"):
        egress = Egress("ann", lambda: 12.0)
        egress.open(path, RUN, attempt * 32)
        egress.close()
        path.rename(numbered(path, len(earlier(path)) + 1))
        assert len(read(path).attempts) == len(earlier(path))


def test_a_file_that_is_no_log(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for content, why in ((b"", "holds no attempt"), (b"{}\n", "changed"), (b"x" * 3_000_000, "line 1")):
        path.write_bytes(content)
        with pytest.raises(AccountError, match=why):
            read(path)
    for none in (tmp_path / "none", tmp_path):
        with pytest.raises(StorageError, match="cannot read"):
            read(none)
    for content in (b"{}\n", b"x" * 3_000_000):
        path.write_bytes(content)
        with pytest.raises(AccountError, match="move the file away"):
            Egress("ann").open(path, RUN, ATTEMPT)
        assert path.read_bytes() == content


def test_only_logs_of_one_run_and_two_parties_are_compared(tmp_path: Path) -> None:
    path, _ = both(tmp_path)
    with pytest.raises(AccountError, match="not of one run and two parties"):
        compare(read(path), read(path))


@pytest.fixture
def party() -> Callable[..., Any]:
    from typer.testing import CliRunner

    from parties.cli import app

    return lambda *words: CliRunner().invoke(app, ["audit", "verify", *map(str, words)])


def test_the_command(tmp_path: Path, party: Callable[..., Any]) -> None:
    path, other = both(tmp_path)
    said = party(path, "--peer", other)
    assert said.exit_code == 0
    assert "3 messages, 18 bytes left" in said.output
    assert f"adds up with {other}" in said.output.replace("\n", " ").replace("  ", " ")
    told = json.loads(party(path, "--json").output)
    assert told["head"] == lines(path)[-1]["chain"]
    path.write_bytes(path.read_bytes().replace(b'"bytes":15', b'"bytes":16'))
    assert isinstance(party(path).exception, AccountError)
