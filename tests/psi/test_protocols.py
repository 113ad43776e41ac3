"""Every protocol is set intersection, in one order, whatever the engine, the topology and the overlap."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import psi
from protos.memory import Said, Together, together
from protos.rounds import Progress, Round, Save
from psi.interface import Engine
from psi.protocols import OverEngine

NAMES = ("lead", "b", "c", "d", "e", "f")
Digests = Callable[[Sequence[int]], np.ndarray]
Exact = Callable[..., None]
ALL = ("ecdh", "rr22", "dh", "insecure-hash")


def align(
    protocol: psi.Psi,
    sets: Sequence[np.ndarray],
    on_round: Callable[[str, Round], None] = lambda *_: None,
    run: bytes = b"run",
) -> Together[np.ndarray]:
    names, most = NAMES[: len(sets)], max(map(len, sets))
    parties = {
        me: protocol.align(psi.Setting(me, names, run, most), own)
        for me, own in zip(names, sets, strict=True)
    }
    return together(parties, on_round)


@st.composite
def populations(draw: st.DrawFn, parties: range, each: int) -> list[list[int]]:
    """The parties' ids: for each possible set of holders a number of ids that just these hold."""
    count = draw(st.integers(parties.start, parties.stop - 1))
    held_by = draw(st.lists(st.integers(0, each), min_size=2**count, max_size=2**count))
    holders = np.repeat(np.arange(2**count), held_by)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return [rng.permutation(np.flatnonzero(holders >> party & 1)).tolist() for party in range(count)]


class Plain(OverEngine):
    """The topologies over the tests' engine that hides nothing."""

    name: ClassVar[str] = "plain"
    cost: ClassVar[str] = "nothing"
    maturity: ClassVar[str] = "a test"

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def engine(self) -> Engine:
        return self._engine


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_the_topologies_are_set_intersection(
    make_digests: Digests, check_exact: Exact, plain: Engine, data: st.DataObject
) -> None:
    population = data.draw(populations(range(2, 7), data.draw(st.sampled_from([1, 5, 100]))))
    sets = [make_digests(ids) for ids in population]
    check_exact(sets, align(Plain(plain), sets))


@pytest.mark.parametrize(("name", "parties"), [("ecdh", 4), ("rr22", 4), ("dh", 2), ("insecure-hash", 6)])
@settings(deadline=None, max_examples=12)
@given(data=st.data())
def test_each_protocol_is_set_intersection(
    make_digests: Digests, check_exact: Exact, name: str, parties: int, data: st.DataObject
) -> None:
    population = data.draw(populations(range(2, parties + 1), data.draw(st.sampled_from([1, 12]))))
    sets = [make_digests(ids) for ids in population]
    check_exact(sets, align(psi.load(name), sets))


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("sizes", [(0, 0), (0, 3), (3, 0), (1, 1), (2500, 2300), (40, 5000)])
def test_two_parties_of_unequal_sizes(
    make_digests: Digests, check_exact: Exact, name: str, sizes: tuple[int, int]
) -> None:
    """Beyond one message of elements; the progress of each reaches its end; nothing is saved."""
    one, two = sizes
    sets = [make_digests(range(one)), make_digests(range(one // 2, one // 2 + two))]
    seen: dict[str, list[tuple[int, int]]] = {"lead": [], "b": []}

    def on_round(party: str, word: Round) -> None:
        assert not isinstance(word, Save), "keys of an attempt must not outlive it"
        if isinstance(word, Progress):
            assert word.phase == "psi"
            seen[party].append((word.done, word.total))

    outcome = align(psi.load(name), sets, on_round)
    check_exact(sets, outcome)
    for steps in seen.values():
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert not steps or steps[-1][0] == steps[-1][1]
        assert steps or not sum(sizes)
        assert len({total for _, total in steps}) <= 1


def test_the_protocols_agree(make_digests: Digests, check_exact: Exact) -> None:
    """Differential: four ways to the same ids."""
    rng = np.random.default_rng(3)
    for parties, names in ((2, ALL), (3, [name for name in ALL if name != "dh"])):
        sets = [
            make_digests(rng.choice(6000, 3000 + 500 * party, False).tolist()) for party in range(parties)
        ]
        for name in names:
            check_exact(sets, align(psi.load(name), sets))


def seeded_run_of_rr22(seed: int, check_exact: Exact) -> None:
    """2 to 4 parties, from no ids to thousands, any overlap; all that is random follows from the seed."""
    rng = np.random.default_rng(seed)
    parties = int(rng.integers(2, 5))
    universe = rng.integers(0, 256, (int(2 ** rng.uniform(0, 13)), 16), np.uint8)
    sets = [
        universe[rng.permutation(len(universe))[: rng.integers(len(universe) + 1)]] for _ in range(parties)
    ]
    names = NAMES[:parties]
    outcome = together(
        {
            me: psi.load("rr22").align(
                psi.Setting(me, names, b"run", len(universe), np.random.default_rng([seed, i]).bytes), sets[i]
            )
            for i, me in enumerate(names)
        }
    )
    check_exact(sets, outcome, seed)


def test_seeded_runs_of_rr22_lose_no_row(check_exact: Exact) -> None:
    for seed in range(10):
        seeded_run_of_rr22(seed, check_exact)


@pytest.mark.slow
def test_a_thousand_seeded_runs_of_rr22_lose_no_row(check_exact: Exact) -> None:
    for seed in range(1000):
        seeded_run_of_rr22(seed, check_exact)


CASES = [(name, n) for name in ALL for n in (2, 3) if (name, n) != ("dh", 3)]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def measured(
    request: pytest.FixtureRequest,
) -> Iterator[tuple[psi.Psi, tuple[int, ...], Together[np.ndarray]]]:
    """An alignment of a thousand ids and more, half of them common."""
    name, parties = request.param
    counts = (1200, 1024, 1500)[:parties]
    rng = np.random.default_rng(5)
    shared = rng.integers(0, 256, (600, 16), np.uint8)
    sets = [np.concatenate([shared, rng.integers(0, 256, (n - 600, 16), np.uint8)]) for n in counts]
    protocol = psi.load(name)
    return protocol, counts, align(protocol, sets)


def test_the_declared_bytes_are_the_bytes(
    measured: tuple[psi.Psi, tuple[int, ...], Together[np.ndarray]],
) -> None:
    protocol, counts, outcome = measured
    said = sum(len(message.payload) for message in outcome.transcript)
    assert protocol.traffic(counts, 600) == pytest.approx(said, rel=0.001)


def test_nobody_says_more_unread_than_declared(
    measured: tuple[psi.Psi, tuple[int, ...], Together[np.ndarray]],
) -> None:
    """So few ids fit into one window, so nothing need be read before all is said."""
    protocol, counts, outcome = measured
    for sender in outcome.results:
        for receiver in outcome.results:
            sent = sum(
                len(said.payload)
                for said in outcome.transcript
                if (said.sender, said.receiver) == (sender, receiver)
            )
            assert sent <= protocol.unread(max(counts))


@pytest.mark.parametrize("name", ALL)
def test_a_second_attempt_has_nothing_in_common_with_the_first(make_digests: Digests, name: str) -> None:
    """Same ids, same run id: every message that depends on a secret is fresh, and so is the order."""
    sets = [make_digests(range(60)), make_digests(range(10, 70))]
    first, second = (align(psi.load(name), sets) for _ in range(2))

    def pieces(transcript: list[Said]) -> set[bytes]:
        whole = [said.payload for said in transcript if said.kind != "count"]
        return {payload[i : i + 16] for payload in whole for i in range(0, len(payload) - 15, 16)}

    assert pieces(first.transcript)
    if name == "insecure-hash":
        assert pieces(first.transcript) == pieces(second.transcript)
    else:
        assert not pieces(first.transcript) & pieces(second.transcript)
    assert first.results["lead"].tolist() != second.results["lead"].tolist()
    assert sorted(first.results["lead"]) == sorted(second.results["lead"]) == list(range(10, 60))


@pytest.mark.parametrize("name", ALL)
def test_no_message_contains_an_id(make_digests: Digests, name: str) -> None:
    sets = [make_digests(range(60)), make_digests(range(10, 70))]
    wire = b"\n".join(said.payload for said in align(psi.load(name), sets).transcript)
    assert not any(bytes(row) in wire for own in sets for row in own)


@pytest.mark.parametrize("name", ALL)
def test_own_mistakes_are_found_before_anything_is_sent(make_digests: Digests, name: str) -> None:
    protocol, setting = psi.load(name), psi.Setting("b", ("lead", "b"), b"run", 10)
    for ids, error, says in [
        (range(11), psi.IdError, "11 ids here, and the contract allows 10"),
        ([1, 2, 1], "LocalProtocolError", "repeat"),
    ]:
        with pytest.raises(Exception, match=says) as caught:
            next(protocol.align(setting, make_digests(ids)))
        assert getattr(error, "__name__", error) == type(caught.value).__name__
    for me, parties in (("x", ("lead", "b")), ("lead", ("lead",))):
        with pytest.raises(Exception, match="cannot align"):
            next(protocol.align(psi.Setting(me, parties, b"run", 10), make_digests([1])))


def test_what_each_says_of_itself() -> None:
    for name in ALL:
        protocol = psi.load(name)
        assert protocol.name == name
        assert protocol.secure == (name != "insecure-hash")
        assert ("unaudited" in protocol.maturity) == protocol.secure
        assert protocol.leakage
        assert protocol.cost
        assert 2 in protocol.parties


def test_loading_every_protocol_is_light() -> None:
    """`party psi list` and the handshake do it; what computes is imported when it runs."""
    code = (
        "import sys, psi; [psi.load(name) for name in psi.installed() if ':' not in name]; "
        "print({'numpy', 'numba', 'rbcl', 'Crypto', 'torch', 'grpc', 'parties'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
