"""Buckets: the same result as without, sizes that tell nothing, restarts that reuse results and no key."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import binom

from protos.memory import Together, together
from protos.rounds import LocalProtocolError, Progress, RemoteProtocolError, Resume, Rounds, Save
from protos.simulator import Faults, Simulation
from psi import IdError, Setting, buckets, star

NAMES = ("lead", "ann", "bob")
SETS = {"lead": range(0, 90), "ann": range(20, 120), "bob": range(50, 130)}
COMMON = set(range(50, 90))

Bytes = NDArray[np.uint8]
Make = Callable[[Sequence[int]], Bytes]


class Watched:
    """The star over an engine in the clear, as a protocol; notes each bucket that it aligns."""

    name = "watched"

    def __init__(self, engine: Any) -> None:
        self.engine, self.runs, self.counts = engine, [], []

    def align(self, setting: Setting, digests: Bytes) -> Rounds[NDArray[np.int64]]:
        self.runs.append(setting.run)
        self.counts.append(len(digests))
        yield Progress("psi", 0, len(digests))
        return (yield from star.star(self.engine, setting, digests))


def setting_of(name: str, run: bytes = bytes(32), random: Callable[[int], bytes] | None = None) -> Setting:
    rest = {} if random is None else {"random": random}
    return Setting(name, NAMES, run, at_most=1000, **rest)


def in_buckets(
    plain: Any,
    make: Make,
    count: int,
    sets: Any = SETS,
    resumes: Any = None,
    run: bytes = bytes(32),
    **options: Any,
) -> tuple[dict[str, list[int]], Together[Any], dict[str, Watched], dict[str, list[Any]]]:
    """All parties in lockstep: (common ids in each one's order, the run, protocols, words by party)."""
    protocols = {name: Watched(plain) for name in NAMES}
    words: dict[str, list[Any]] = {name: [] for name in NAMES}
    aligning = {
        name: buckets.align(
            protocols[name],
            setting_of(name, run),
            make(sets[name]),
            count,
            resume=(resumes or {}).get(name),
            **options,
        )
        for name in NAMES
    }
    done = together(aligning, on_round=lambda name, word: words[name].append(word))
    found = {name: [list(sets[name])[row] for row in done.results[name]] for name in NAMES}
    return found, done, protocols, words


def saves(words: Sequence[Any]) -> list[Save]:
    return [word for word in words if isinstance(word, Save)]


def resumes_at(words: dict[str, list[Any]], steps: dict[str, int]) -> dict[str, Resume]:
    """What each party would bring back of a run of which it kept so many buckets."""
    return {name: Resume(step, saves(words[name])[step - 1].state()) for name, step in steps.items() if step}


@settings(deadline=None, max_examples=200)
@given(st.integers(1, 1 << 30), st.integers(2, 2000))
def test_the_load_bound_is_below_the_exact_tail(ids: int, many: int) -> None:
    size = buckets.padded(ids, many)
    assert ids / many <= size <= ids
    if size < ids:
        assert many * binom.sf(size, ids, 1 / many) <= 2**-40
        assert binom.sf(size, ids, 1 / many) > 0 or size > 10 * ids / many  # not far beyond what is needed


@pytest.mark.parametrize(
    ("largest", "expected"),
    [(0, 1), (1, 1), (1 << 20, 1), ((1 << 20) + 1, 2), (10_000_000, 10), (1 << 30, 1033)],
)
def test_no_bucket_is_larger_than_a_parameter_set(largest: int, expected: int) -> None:
    assert buckets.count(largest) == expected
    assert buckets.padded(largest, expected) <= 1 << 20


def test_filling_costs_little() -> None:
    assert buckets.padded(10_000_000, 10) < 1.01 * 1_000_000


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("padded_to", [None, 200])
def test_the_intersection_in_one_order(
    plain: Any, make_digests: Make, count: int, padded_to: int | None
) -> None:
    found, _, protocols, _ = in_buckets(plain, make_digests, count, padded_to=padded_to)
    assert set(found["lead"]) == COMMON
    assert len(found["lead"]) == len(COMMON)
    assert found["lead"] == found["ann"] == found["bob"]
    for name in NAMES:
        whole = padded_to or len(SETS[name])
        assert protocols[name].counts == [buckets.padded(whole, count)] * count
        assert len(set(protocols[name].runs)) == count


@settings(deadline=None, max_examples=25)
@given(st.lists(st.sets(st.integers(0, 60)), min_size=3, max_size=3), st.integers(1, 6))
def test_any_sets_in_any_number_of_buckets(
    plain: Any, make_digests: Make, sets: list[set[int]], count: int
) -> None:
    by_name = {name: sorted(ids) for name, ids in zip(NAMES, sets, strict=True)}
    found = in_buckets(plain, make_digests, count, by_name)[0]
    assert sorted(found["lead"]) == sorted(set.intersection(*sets))
    assert found["lead"] == found["ann"] == found["bob"]


def test_one_bucket_is_the_bare_protocol(plain: Any, make_digests: Make) -> None:
    bare = together({name: star.star(plain, setting_of(name), make_digests(SETS[name])) for name in NAMES})
    _, done, _, words = in_buckets(plain, make_digests, 1)
    shape = [(said.sender, said.receiver, said.kind, len(said.payload)) for said in done.transcript]
    assert shape == [(said.sender, said.receiver, said.kind, len(said.payload)) for said in bare.transcript]
    assert not any(saves(words[name]) for name in NAMES)
    assert {word.total for word in words["ann"] if isinstance(word, Progress)} <= {len(SETS["ann"]), 190}


def test_one_bucket_holds_no_more_than_any(plain: Any, make_digests: Make, lie: Any) -> None:
    """However many the contract allows, a set that large would have been parted."""
    aligning = {
        name: buckets.align(Watched(plain), replace(setting_of(name), at_most=1 << 30), make_digests(ids), 1)
        for name, ids in SETS.items()
    }
    told = (buckets.LARGEST + 1).to_bytes(8, "big")
    aligning["lead"] = lie(aligning["lead"], {("bob", "count"): lambda _: told})
    with pytest.raises(RemoteProtocolError, match="lead brings 1048577 ids"):
        together(aligning)


def test_sizes_of_buckets_follow_from_the_number_of_ids_alone(plain: Any, make_digests: Make) -> None:
    one = in_buckets(plain, make_digests, 4)[1].transcript
    moved = {name: range(ids.start + 1000, ids.stop + 1000) for name, ids in SETS.items()}
    other = in_buckets(plain, make_digests, 4, moved)[1].transcript
    of_sets = [said for said in one if said.kind not in ("tags",)]  # as many as are common in the bucket
    assert [len(said.payload) for said in of_sets] == [
        len(said.payload) for said in other if said.kind not in ("tags",)
    ]


def test_hidden_sizes_are_hidden(plain: Any, make_digests: Make) -> None:
    few = SETS | {"ann": range(60, 70)}
    sizes = [
        [len(said.payload) for said in in_buckets(plain, make_digests, 3, sets, padded_to=150)[1].transcript
         if said.sender == "ann" and said.kind in ("count", "hint")]
        for sets in (SETS, few)
    ]  # fmt: skip
    assert sizes[0] == sizes[1]
    with pytest.raises(IdError, match="100 ids here, and sets are padded to 99"):
        in_buckets(plain, make_digests, 3, padded_to=99)


def test_progress_is_one_count_over_all_buckets(plain: Any, make_digests: Make) -> None:
    words = in_buckets(plain, make_digests, 4)[3]
    for name in NAMES:
        told = [word for word in words[name] if isinstance(word, Progress)]
        size = buckets.padded(len(SETS[name]), 4)
        assert {word.total for word in told} == {4 * size}
        assert [word.done for word in told] == sorted(word.done for word in told)
        assert told[-1].done == 4 * size


@pytest.mark.parametrize(
    ("steps", "start"),
    [
        ({"lead": 3, "ann": 3, "bob": 3}, 3),
        ({"lead": 2, "ann": 3, "bob": 2}, 2),
        ({"lead": 4, "ann": 1, "bob": 3}, 1),
        ({"lead": 4, "ann": 4, "bob": 0}, 0),
        ({"lead": 0, "ann": 4, "bob": 4}, 0),
        ({"lead": 4, "ann": 4, "bob": 4}, 4),
    ],
)
def test_a_restart_does_what_not_all_have_finished(
    plain: Any, make_digests: Make, steps: dict[str, int], start: int
) -> None:
    before, _, first, words = in_buckets(plain, make_digests, 4, run=b"1" * 32)
    resumes = resumes_at(words, steps)
    found, _, again, _ = in_buckets(plain, make_digests, 4, resumes=resumes, run=b"2" * 32)
    assert set(found["lead"]) == COMMON
    assert found["lead"] == found["ann"] == found["bob"]
    for name in NAMES:
        assert len(again[name].runs) == 4 - start
        assert not set(again[name].runs) & set(first[name].runs)
    kept = sum(len(rows) for rows in buckets.Finished.from_bytes(saves(words["ann"])[3].state()).rows[:start])
    assert found["ann"][:kept] == before["ann"][:kept]


def test_a_bucket_of_another_attempt_is_done_again(plain: Any, make_digests: Make) -> None:
    """Two parties come back with the third bucket of one attempt, the third party with that of another."""
    words = {run: in_buckets(plain, make_digests, 4, run=run * 32)[3] for run in (b"1", b"2")}
    resumes = resumes_at(words[b"1"], {"lead": 3, "ann": 3}) | resumes_at(words[b"2"], {"bob": 3})
    found, _, protocols, _ = in_buckets(plain, make_digests, 4, resumes=resumes, run=b"3" * 32)
    assert found["lead"] == found["ann"] == found["bob"]
    assert len(protocols["bob"].runs) == 4


@pytest.mark.parametrize("change", ["ids", "buckets"])
def test_finished_buckets_of_other_ids_are_not_used(plain: Any, make_digests: Make, change: str) -> None:
    words = in_buckets(plain, make_digests, 4, run=b"1" * 32)[3]
    resumes = resumes_at(words, dict.fromkeys(NAMES, 4))
    sets, count = (SETS | {"bob": range(50, 129)}, 4) if change == "ids" else (SETS, 5)
    found, _, protocols, _ = in_buckets(plain, make_digests, count, sets, resumes, b"2" * 32)
    assert set(found["lead"]) == COMMON
    assert len(protocols["lead"].runs) == count


def test_no_key_is_in_a_state(plain: Any, make_digests: Make) -> None:
    drawn, states = bytearray(), []
    source = np.random.default_rng(3)

    def random(size: int) -> bytes:
        drawn.extend(made := source.bytes(size))
        return made

    aligning = {
        name: buckets.align(Watched(plain), setting_of(name, random=random), make_digests(SETS[name]), 3)
        for name in NAMES
    }
    done = together(
        aligning, on_round=lambda _, word: states.append(word.state()) if isinstance(word, Save) else None
    )
    assert len(states) == 9
    secrets = {bytes(drawn[at : at + 8]) for at in range(len(drawn) - 7)}
    keys = {said.payload for said in done.transcript if said.kind == "key"}
    assert all(key[:8] in secrets for key in keys)  # what is looked for would be found
    for state in states:
        assert not any(state[at : at + 8] in secrets for at in range(len(state) - 7))


@pytest.mark.parametrize(
    ("sender", "kind", "told"),
    [
        ("lead", "finished buckets", bytes(32 * 5)),
        ("lead", "first bucket", (2).to_bytes(8, "big")),
        ("lead", "first bucket", b"1"),
        ("ann", "kept buckets", (3).to_bytes(8, "big")),
        ("ann", "kept buckets", b""),
    ],
)
def test_lies_about_what_was_finished(
    plain: Any, make_digests: Make, lie: Any, sender: str, kind: str, told: bytes
) -> None:
    words = in_buckets(plain, make_digests, 4, run=b"1" * 32)[3]
    resumes = resumes_at(words, {"lead": 2, "ann": 1, "bob": 1})
    aligning = {
        name: buckets.align(
            Watched(plain), setting_of(name, b"2" * 32), make_digests(SETS[name]), 4, resume=resumes[name]
        )
        for name in NAMES
    }
    to = "ann" if sender == "lead" else "lead"
    aligning[sender] = lie(aligning[sender], {(to, kind): lambda _: told})
    with pytest.raises(RemoteProtocolError):
        together(aligning)


def test_digests_that_are_no_hashes_are_refused(plain: Any) -> None:
    alike = np.zeros((500, 16), np.uint8)
    alike[:, 0] = np.arange(500) % 256
    alike[:, 1] = np.arange(500) // 256
    with pytest.raises(LocalProtocolError, match="not at random"):
        together({name: buckets.align(Watched(plain), setting_of(name), alike, 4) for name in NAMES})


def test_killed_parties_end_with_the_intersection(plain: Any, make_digests: Make) -> None:
    restarts = 0
    for seed in range(40):
        protocols = {name: Watched(plain) for name in NAMES}
        attempts = dict.fromkeys(NAMES, 0)

        def start(
            name: str, resume: Resume | None, protocols: Any = protocols, attempts: Any = attempts
        ) -> Rounds[NDArray[np.int64]]:
            attempts[name] += 1
            run = bytes([attempts[name]]) * 32  # the handshake's, fresh in each attempt
            digests = make_digests(SETS[name])
            return buckets.align(protocols[name], setting_of(name, run), digests, 6, resume=resume)

        factories = {name: lambda resume, name=name: start(name, resume) for name in NAMES}
        faults = Faults(delay=0.05, drop=0.02, kills=3, chunk=4096)
        results = Simulation(factories, "lead", seed, faults).run()
        found = {name: [SETS[name][row] for row in results[name]] for name in NAMES}
        assert set(found["lead"]) == COMMON, seed
        assert found["lead"] == found["ann"] == found["bob"], seed
        for name in NAMES:
            runs = protocols[name].runs
            assert len(set(runs)) == len(runs), "a bucket was done twice under one run id"
            # Again: the one that was interrupted, and one more where this party was a bucket ahead.
            assert len(runs) <= 6 + 2 * (attempts[name] - 1), seed
        restarts += attempts["lead"] - 1
    assert restarts > 40
