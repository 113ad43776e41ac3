"""A protocol under test, the sets that it is given, and its randomness: everything follows from a seed."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protos.rounds import Rounds
from psi.conformance.play import BrokenRule, Ends, Message, Post, as_sent, play
from psi.conformance.report import DoesNotApply, Violation
from psi.interface import Psi, Setting

Bytes = NDArray[np.uint8]

NAMES: Final = ("lead", "b", "c", "d", "e")


class Case(NamedTuple):
    """Sets, the seed they and all randomness come from, and how the alignment of them ended."""

    seed: int
    sets: list[Bytes]
    ends: Ends


@dataclass(frozen=True)
class Trial:
    """psi: the protocol. seed: of everything drawn. largest: ids of a party in the largest case."""

    psi: Psi
    seed: int
    largest: int

    def parties(self, *wanted: int) -> list[int]:
        """Which of these numbers of parties it supports. Raises DoesNotApply where none."""
        fit = [n for n in wanted if n in self.psi.parties]
        if not fit:
            raise DoesNotApply(f"the protocol does not take {' or '.join(map(str, wanted))} parties")
        return fit

    def rounds(
        self,
        sets: Sequence[Bytes],
        seed: int,
        streams: Mapping[str, int] | None = None,
        run: bytes = b"",
        room: int = 1,
    ) -> dict[str, Rounds[NDArray[np.int64]]]:
        """Every party's generator.

        streams: parties whose randomness comes from another seed. room: `at_most` is so many times the ids of
        the largest set.
        """
        names = NAMES[: len(sets)]
        at_most = room * max(1, *map(len, sets))
        made = {}
        for me, own in zip(names, sets, strict=True):
            drawn = stream((streams or {}).get(me, seed), me)
            setting = Setting(me, names, run or b"conformance".ljust(32), at_most, drawn)
            made[me] = self._begun(setting, own, seed)
        return made

    def _begun(self, setting: Setting, own: Bytes, seed: int) -> Rounds[NDArray[np.int64]]:
        try:
            rounds: object = self.psi.align(setting, own)
        except Exception as error:
            raise Violation(f"align raised {told(error)}", seed) from error
        if not isinstance(rounds, Generator):
            what = "an array" if isinstance(rounds, np.ndarray) else f"a {type(rounds).__name__}"
            raise Violation(f"align returned {what} without yielding: it must be a generator", seed)
        return rounds

    def play(
        self,
        sets: Sequence[Bytes],
        seed: int,
        post: Post = as_sent,
        slowest: str | None = None,
        streams: Mapping[str, int] | None = None,
        run: bytes = b"",
        room: int = 1,
    ) -> Ends:
        """All parties. Raises Violation where one fails although every message arrives as it was sent."""
        ends = play(self.rounds(sets, seed, streams, run, room), post, slowest=slowest)
        if post is as_sent:
            _ended(ends, sets, seed)
        return ends

    def replay(self, sets: Sequence[Bytes], seed: int, me: str, transcript: Sequence[Message]) -> Ends:
        """One party alone, with the randomness of a recorded run, and what it received in it."""
        mail = [message for message in transcript if message.receiver == me]
        return play({me: self.rounds(sets, seed)[me]}, mail=mail)

    def repeats(self, sets: Sequence[Bytes], seed: int, me: str, ends: Ends) -> bool:
        """Whether the recorded run, played to `me` again, gives the same: else it draws elsewhere, too."""
        again = self.replay(sets, seed, me, ends.transcript)
        return me in again.rows and np.array_equal(again.rows[me], ends.rows[me])

    @cached_property
    def cases(self) -> list[Case]:
        """Honest alignments of sets of all overlaps and sizes, for 2 to 5 parties."""
        seeds = itertools.count(self.seed * 1000)
        return [
            Case(seed, sets, self.play(sets, seed))
            for parties in self.parties(2, 3, 4, 5)
            for seed, sets in zip(seeds, self._populations(parties, random.Random(self.seed)), strict=False)
        ]

    def _populations(self, parties: int, draw: random.Random) -> Iterator[list[Bytes]]:
        everybody = 2**parties - 1
        one_each = [1 << party for party in range(parties)]
        yield populate([everybody] * draw.randint(1, 40), parties, draw)
        yield populate(one_each * draw.randint(1, 20), parties, draw)
        yield populate([everybody - 1] * draw.randint(1, 20), parties, draw)  # the leader brings nothing
        yield populate([1] * draw.randint(1, 20), parties, draw)  # only the leader brings something
        yield populate([everybody, everybody ^ 2], parties, draw)
        for ids in (7, 60, 300):
            yield populate([draw.randrange(everybody + 1) for _ in range(ids)], parties, draw)
        yield populate([everybody] * 5 + [everybody ^ 1] * 200 + [1] * 3, parties, draw)  # unbalanced
        if parties in (2, 3):
            half = self.largest // 2
            yield populate([everybody] * half + one_each * (self.largest - half), parties, draw)


def _ended(ends: Ends, sets: Sequence[Bytes], seed: int) -> None:
    names = NAMES[: len(sets)]
    sizes = "/".join(str(len(own)) for own in sets)
    for name, error in ends.errors.items():  # the first is the cause
        if isinstance(error, BrokenRule):
            raise Violation(f"{error}; {name}, sets of {sizes}", seed)
        said = "ended in" if name in ends.stopped else "align raised"
        raise Violation(f"{said} {told(error)}; {name}, sets of {sizes}", seed)
    for message in ends.transcript:
        if message.receiver == message.sender or message.receiver not in names:
            said = f"{message.sender} sends {message.kind!r} to {message.receiver!r}"
            raise Violation(f"{said}, which is no other party", seed)


def told(error: Exception) -> str:
    """In one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def populate(holders: Sequence[int], parties: int, draw: random.Random) -> list[Bytes]:
    """Sets of fresh ids, each in an order of its own: bit p of holders[i] says if party p holds id i."""
    every = ids(len(holders), draw)
    sets = []
    for party in range(parties):
        rows = [row for row, held in enumerate(holders) if held >> party & 1]
        draw.shuffle(rows)
        sets.append(every[rows])
    return sets


def ids(count: int, draw: random.Random) -> Bytes:
    """[count, 16] digests; two are equal with probability 2^-128."""
    return np.frombuffer(draw.randbytes(16 * count), np.uint8).reshape(-1, 16)


def named(own: Bytes, rows: NDArray[np.int64]) -> list[bytes]:
    return [row.tobytes() for row in own[rows]]


def intersection(sets: Sequence[Bytes]) -> set[bytes]:
    return set.intersection(*({row.tobytes() for row in own} for own in sets))


def stream(seed: int, name: str) -> Callable[[int], bytes]:
    """Randomness for one party: SHAKE-128 of seed, name and the number of the call."""
    calls = itertools.count()
    return lambda size: hashlib.shake_128(f"{seed} {name} {next(calls)}".encode()).digest(size)
