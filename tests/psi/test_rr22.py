"""The engine: outputs agree where ids do and nowhere else; messages tell nothing and cannot be malformed."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from protos.memory import Together, together
from protos.rounds import Progress, Receive, RemoteProtocolError, Round
from psi import okvs, vole
from psi.interface import Setting
from psi.rr22 import Rr22

Bytes = np.ndarray
ENGINE = Rr22()
NAMES = ("r", "s", "t", "u")


def setting(me: str, random: Callable[[int], bytes] = os.urandom) -> Setting:
    return Setting(me, NAMES, b"run", 1 << 22, random)


def seeded(seed: int) -> Callable[[int], bytes]:
    return np.random.default_rng(seed).bytes


def converse(own: Bytes, others: dict[str, Bytes], seed: int | None = None, **kwargs) -> Together[object]:
    def random(i: int) -> Callable[[int], bytes]:
        return os.urandom if seed is None else seeded(100 * seed + i)

    parties = {"r": ENGINE.receiver(setting("r", random(0)), list(others), own)}
    for i, (name, digests) in enumerate(others.items(), 1):
        parties[name] = ENGINE.sender(setting(name, random(i)), "r", len(own), digests)
    return together(parties, **kwargs)


def ids(values: np.ndarray) -> Bytes:
    """[n, 16] stand-ins of digests for numbers: their hash."""
    made = b"".join(hashlib.blake2b(value.tobytes(), digest_size=16).digest() for value in values)
    return np.frombuffer(made, np.uint8).reshape(-1, 16)


def agree(own: np.ndarray, theirs: np.ndarray, mine: Bytes, yours: Bytes) -> None:
    """F is the same at equal ids, and all its other values differ."""
    _, left, right = np.intersect1d(own, theirs, return_indices=True)
    assert mine.shape == (len(own), 16)
    assert yours.shape == (len(theirs), 16)
    assert (mine[left] == yours[right]).all()
    values = np.concatenate([mine, np.delete(yours, right, axis=0)])
    assert len(np.unique(values, axis=0)) == len(values)


@pytest.mark.parametrize(
    ("ours", "theirs"), [(0, 0), (0, 5), (5, 0), (1, 1), (2, 700), (700, 2), (5000, 4000)]
)
def test_outputs_agree_at_common_ids_only(ours: int, theirs: int) -> None:
    own, one, two = np.arange(ours), np.arange(theirs), np.arange(3, theirs + 3)
    outcome = converse(ids(own), {"s": ids(one), "t": ids(two)})
    received = outcome.results["r"]
    agree(own, one, received["s"], outcome.results["s"])
    agree(own, two, received["t"], outcome.results["t"])
    if ours:  # each sender has a key of its own
        assert not (received["s"] == received["t"]).all(axis=1).any()


def mixed(runs: range) -> None:
    """Seeded runs with sizes from 0 to some thousands, overlaps from none to all, one to three senders."""
    for seed in runs:
        draw = np.random.default_rng(seed)
        universe = draw.permutation(10_000)
        own = universe[: int(4000 ** draw.random())]
        others = {}
        for name in NAMES[1 : 2 + seed % 3]:
            start = int(draw.random() * len(own))
            others[name] = universe[start : start + int(5000 ** draw.random())]
        outcome = converse(ids(own), {name: ids(rows) for name, rows in others.items()}, seed)
        for name, rows in others.items():
            agree(own, rows, outcome.results["r"][name], outcome.results[name])


def test_seeded_runs_lose_and_add_no_row() -> None:
    mixed(range(30))


@pytest.mark.slow
def test_a_thousand_seeded_runs_lose_and_add_no_row() -> None:
    mixed(range(1000, 2000))


@pytest.mark.slow
def test_outputs_agree_at_2_to_the_20() -> None:
    draw = np.random.default_rng(1)
    own = draw.integers(0, 256, (1 << 20, 16), np.uint8)
    theirs = np.concatenate([own[::-2], draw.integers(0, 256, (1 << 19, 16), np.uint8)])
    outcome = converse(own, {"s": theirs})
    mine, yours = outcome.results["r"]["s"], outcome.results["s"]
    assert (mine[::-2] == yours[: 1 << 19]).all()
    assert len(np.unique(np.concatenate([mine, yours[1 << 19 :]]), axis=0)) == 3 << 19


def test_the_same_seeds_give_the_same_messages_and_others_none_of_them() -> None:
    own, theirs = ids(np.arange(100)), {"s": ids(np.arange(50))}
    first, again, other = (converse(own, theirs, seed).transcript for seed in (1, 1, 2))
    assert first == again
    assert not {said.payload for said in first} & {said.payload for said in other}


def test_traffic_is_as_declared_and_unread_covers_what_one_peer_sends() -> None:
    for ours, theirs in [(0, 7), (1, 0), (300, 20), (9000, 10)]:
        outcome = converse(ids(np.arange(ours)), {"s": ids(np.arange(theirs)), "t": ids(np.arange(theirs))})
        total = sum(len(said.payload) for said in outcome.transcript)
        assert total == 2 * ENGINE.traffic(ours, theirs)
        lines = Counter[tuple[str, str]]()
        for said in outcome.transcript:
            lines[said.sender, said.receiver] += len(said.payload)
        assert max(lines.values(), default=0) <= ENGINE.unread(ours)


def test_progress_rises_to_the_ids_in_hand() -> None:
    seen: dict[str, list[tuple[int, int]]] = {}

    def on_round(party: str, word: Round) -> None:
        if isinstance(word, Progress):
            seen.setdefault(party, []).append((word.done, word.total))

    converse(ids(np.arange(70)), {"s": ids(np.arange(20)), "t": ids(np.arange(30))}, on_round=on_round)
    assert [seen[name][-1] for name in "rst"] == [(70, 70), (90, 90), (100, 100)]
    for steps in seen.values():
        assert steps == sorted(steps)


def test_a_receive_asks_for_no_more_than_the_exact_size() -> None:
    limits = {}

    def on_round(party: str, word: Round) -> None:
        if isinstance(word, Receive):
            limits[word.kind] = word.at_most

    outcome = converse(ids(np.arange(70)), {"s": ids(np.arange(20))}, on_round=on_round)
    assert limits == {said.kind: len(said.payload) for said in outcome.transcript}


KINDS = [
    ("s", "r", "vole opening"),
    ("r", "s", "vole reply"),
    ("s", "r", "vole trees"),
    ("r", "s", "masked store"),
]


@pytest.mark.parametrize(("author", "to", "kind"), KINDS)
@pytest.mark.parametrize(
    "change", [lambda m: m[:-1], lambda m: m + b"\0", lambda m: b"", lambda m: m[: len(m) // 2]]
)
def test_a_message_of_another_length_is_refused(author: str, to: str, kind: str, change, lie) -> None:
    parties = {
        "r": ENGINE.receiver(setting("r"), ["s"], ids(np.arange(10))),
        "s": ENGINE.sender(setting("s"), "r", 10, ids(np.arange(10))),
    }

    def whole(payload: object) -> bytes:
        return change(payload if isinstance(payload, bytes) else b"".join(payload))

    parties[author] = lie(parties[author], {(to, kind): whole})
    with pytest.raises(RemoteProtocolError, match=kind):
        together(parties)


@pytest.mark.parametrize(("author", "to", "kind"), KINDS[:2])
def test_a_message_with_a_bad_point_is_refused(author: str, to: str, kind: str, lie) -> None:
    parties = {
        "r": ENGINE.receiver(setting("r"), ["s"], ids(np.arange(10))),
        "s": ENGINE.sender(setting("s"), "r", 10, ids(np.arange(10))),
    }
    parties[author] = lie(parties[author], {(to, kind): lambda payload: bytes(32) + payload[32:]})
    with pytest.raises(RemoteProtocolError, match=f"{author} sent an invalid group element"):
        together(parties)


@pytest.mark.parametrize("at", [0, 16, 40])
def test_a_changed_store_gives_no_common_output(at: int, lie) -> None:
    """Salt, seed, or one slot: the outputs that depend on it differ; all others stay."""
    parties = {
        "r": ENGINE.receiver(setting("r"), ["s"], ids(np.arange(300))),
        "s": ENGINE.sender(setting("s"), "r", 300, ids(np.arange(300))),
    }

    def change(payload: object) -> bytes:
        whole = bytearray(b"".join(payload))
        whole[at] ^= 1
        return bytes(whole)

    parties["r"] = lie(parties["r"], {("s", "masked store"): change})
    outcome = together(parties)
    same = (outcome.results["r"]["s"] == outcome.results["s"]).all(axis=1)
    assert same.sum() == 0 if at < 32 else same.sum() >= 290


def test_what_is_sent_and_what_comes_out_looks_uniform() -> None:
    """Bytes of the masked store and of F: chi-square with 255 degrees of freedom, 5 standard deviations."""
    outcome = converse(ids(np.arange(20_000)), {"s": ids(np.arange(10))})
    store = next(said.payload for said in outcome.transcript if said.kind == "masked store")
    for data in (np.frombuffer(store, np.uint8), outcome.results["r"]["s"].ravel()):
        expected = len(data) / 256
        chi_square = ((np.bincount(data, minlength=256) - expected) ** 2 / expected).sum()
        assert abs(chi_square - 255) < 5 * (2 * 255) ** 0.5


def test_two_senders_cannot_compare_what_they_get() -> None:
    """The same store goes out under independent masks: their difference is uniform, nowhere zero."""
    outcome = converse(ids(np.arange(5000)), {"s": ids(np.arange(3)), "t": ids(np.arange(3))})
    one, two = (
        np.frombuffer(said.payload[32:], "<u8").reshape(-1, 2)
        for said in outcome.transcript
        if said.kind == "masked store"
    )
    assert len(one) == okvs.slots(5000)
    difference = one ^ two
    assert (difference != 0).all()
    assert len(np.unique(difference, axis=0)) == len(difference)


def test_keys_are_drawn_from_the_injected_source_and_anew_for_each_call() -> None:
    """Of the sender: roots of the trees, choices and delta, scalars and blinds of 256 transfers."""
    drawn: list[int] = []

    def random(size: int) -> bytes:
        drawn.append(size)
        return os.urandom(size)

    for _ in range(2):
        parties = {
            "r": ENGINE.receiver(setting("r"), ["s"], ids(np.arange(5))),
            "s": ENGINE.sender(setting("s", random), "r", 5, ids(np.arange(5))),
        }
        together(parties)
    assert drawn == 2 * [vole.TREES * 16, 32, 256 * 64, 256 * 64]
