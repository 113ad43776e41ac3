"""The star gives the plain intersection, in one order, and shows nothing else."""

import random as stdlib_random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from protos.memory import Together, together
from protos.rounds import Progress, Round, RoundsError, Save
from protos.simulator import Faults, Simulation
from psi import Setting, load, okvs, star
from psi.ecdh import Ecdh
from psi.interface import Engine

NAMES = ("lead", "b", "c", "d", "e")
Digests = Callable[[Sequence[int]], np.ndarray]


def align(
    engine: Engine, sets: Sequence[np.ndarray], on_round: Callable[[str, Round], None] = lambda *_: None
) -> Together[np.ndarray]:
    names, most = NAMES[: len(sets)], max(map(len, sets))
    parties = {
        me: star.star(engine, Setting(me, names, b"run" * 10, most), own)
        for me, own in zip(names, sets, strict=True)
    }
    return together(parties, on_round)


def test_three_parties_of_four_thousand(make_digests: Digests, check_exact: Callable[..., None]) -> None:
    rng = stdlib_random.Random(1)
    sets = [make_digests(rng.sample(range(8192), 4096)) for _ in range(3)]
    psi, seen = load("ecdh"), []
    names = NAMES[:3]

    def on_round(party: str, word: Round) -> None:
        assert not isinstance(word, Save), "keys of an attempt must not outlive it"
        if isinstance(word, Progress):
            seen.append((party, word.done, word.total))

    outcome = together(
        {
            me: psi.align(Setting(me, names, b"r" * 32, 4096), own)
            for me, own in zip(names, sets, strict=True)
        },
        on_round,
    )
    check_exact(sets, outcome)
    for party in names:
        assert [(done, total) for who, done, total in seen if who == party][-1] == (
            (4096, 4096) if party == "lead" else (8192, 8192)
        )
    # What may wait unread at a party is what it said at most.
    for sender in names:
        for receiver in names:
            sizes = [
                len(said.payload)
                for said in outcome.transcript
                if (said.sender, said.receiver) == (sender, receiver)
            ]
            assert sum(sizes) <= psi.unread(4096)  # so few ids fit into one window


def test_sixteen_parties(make_digests: Digests, plain: Engine) -> None:
    names = tuple(f"party {i}" for i in range(16))
    sets = {me: make_digests(range(i, 40 + i)) for i, me in enumerate(names)}
    outcome = together({me: star.star(plain, Setting(me, names, b"r", 40), sets[me]) for me in names})
    named = [[bytes(row) for row in sets[me][outcome.results[me]]] for me in names]
    assert all(one == named[0] for one in named)
    assert set(named[0]) == {bytes(row) for row in make_digests(range(15, 40))}


def test_two_runs_share_no_message_but_counts(make_digests: Digests) -> None:
    """Same ids, same run id: everything that could be compared with an earlier attempt is fresh."""
    sets = [make_digests(range(30)), make_digests(range(10, 40)), make_digests(range(5, 35))]
    one, two = (
        {said.payload for said in align(Ecdh(), sets).transcript if said.kind != "count"} for _ in range(2)
    )
    assert one
    assert not one & two


def test_no_message_contains_an_id(make_digests: Digests) -> None:
    sets = [make_digests(range(30)), make_digests(range(10, 40)), make_digests(range(5, 35))]
    wire = b"\n".join(said.payload for said in align(Ecdh(), sets).transcript)
    assert not any(bytes(row) in wire for own in sets for row in own)


def test_the_common_order_is_drawn_afresh_and_follows_nobodys_rows(
    make_digests: Digests, plain: Engine
) -> None:
    ids = list(range(200))
    one, two = (align(plain, [make_digests(ids)] * 3).results["lead"].tolist() for _ in range(2))
    assert sorted(one) == sorted(two) == ids
    assert len({tuple(one), tuple(two), tuple(ids)}) == 3


def unmasked(
    engine: Engine, sets: Sequence[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> dict[str, np.ndarray]:
    """For each client, what the leader has for each of its own ids after it took the mask off."""
    names = NAMES[: len(sets)]
    decoded: list[np.ndarray] = []
    masks: dict[str, np.ndarray] = {}
    real_decode, real_mask = okvs.decode, star._mask

    def decode(seed: bytes, slots: np.ndarray, count: int, keys: np.ndarray) -> np.ndarray:
        decoded.append(real_decode(seed, slots, count, keys))
        return decoded[-1]

    def mask(setting: Setting, client: str, outputs: np.ndarray) -> np.ndarray:
        made = real_mask(setting, client, outputs)
        if setting.me == names[0]:
            masks[client] = made
        return made

    monkeypatch.setattr(okvs, "decode", decode)
    monkeypatch.setattr(star, "_mask", mask)
    align(engine, sets)
    return {client: decoded[i][:, 0] ^ masks[client] for i, client in enumerate(names[1:])}


def bit_deviation(values: np.ndarray) -> float:
    """The largest distance of any of 64 bits from fair, in standard deviations."""
    ones = np.unpackbits(values.view(np.uint8)).reshape(-1, 64).sum(axis=0, dtype=np.int64)
    return float(np.abs(ones - len(values) / 2).max() / np.sqrt(len(values) / 4))


def test_the_leader_cannot_tell_ids_of_one_client_from_ids_of_none(
    make_digests: Digests, plain: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Leader 0-5999; b holds 0-1999 and 2000-3999, c holds 0-1999 and 4000-4999: 5000 on are nobody's."""
    sets = [
        make_digests(range(6000)),
        make_digests(range(4000)),
        make_digests([*range(2000), *range(4000, 5000)]),
    ]
    seen = unmasked(plain, sets, monkeypatch)
    both, only_b, only_c, nobody = (slice(0, 2000), slice(2000, 4000), slice(4000, 5000), slice(5000, 6000))
    assert (seen["b"][both] == seen["c"][both]).all()
    for group in (only_b, only_c, nobody):
        for values in (seen["b"][group], seen["c"][group], seen["b"][group] ^ seen["c"][group]):
            assert bit_deviation(values) < 6.5
            assert len(np.unique(values)) == len(values)
    # Shares of zero would pass none of this: also on the intersection each alone is noise.
    assert bit_deviation(seen["b"][both]) < 6.5


def test_with_four_parties_no_two_clients_shares_cancel(
    make_digests: Digests, plain: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets = [
        make_digests(range(2000)),
        make_digests(range(1500)),
        make_digests(range(1500)),
        make_digests(range(500)),
    ]
    seen = unmasked(plain, sets, monkeypatch)
    b, c, d = seen.values()
    assert not (b ^ c ^ d)[:500].any()
    for values in (b[500:], c[500:], d[500:], (b ^ c)[500:], (b ^ c ^ d)[500:], (b ^ c)[:500]):
        assert bit_deviation(values) < 6.5
        assert values.all()


def test_under_faults_the_right_result_or_a_typed_error(make_digests: Digests, plain: Engine) -> None:
    """A killed party comes back and the attempt starts afresh, every key included."""
    sets = {
        "lead": make_digests(range(30)),
        "b": make_digests(range(5, 40)),
        "c": make_digests(range(10, 45)),
    }
    wanted = {bytes(row) for row in make_digests(range(10, 30))}
    aligned = 0
    for seed in range(60):
        factories = {
            me: lambda resume, me=me: star.star(plain, Setting(me, tuple(sets), b"run", 40), sets[me])
            for me in sets
        }
        outcomes = Simulation(factories, "lead", seed, Faults.drawn(seed)).run()
        stories = []
        for me, outcome in outcomes.items():
            if isinstance(outcome, Exception):
                assert isinstance(outcome, RoundsError), outcome
            else:
                stories.append([bytes(row) for row in sets[me][outcome]])
        assert all(story == stories[0] and set(story) == wanted for story in stories)
        aligned += len(stories) == 3
    assert aligned > 20
