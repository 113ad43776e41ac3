"""A message that is damaged, lost, repeated or old ends in a typed error, and never in a wrong result."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from protos.rounds import PeerFailed, RemoteProtocolError
from psi.conformance.play import Ends, Message, Post
from psi.conformance.report import Violation
from psi.conformance.trial import NAMES, Bytes, Trial, intersection, named, populate


class Damage(NamedTuple):
    """One way to spoil a message. noticed: no protocol may overlook it."""

    name: str
    post: Post
    noticed: bool


def damaged_messages(trial: Trial) -> str:
    """Each kind of message of an alignment, spoilt in every way, one at a time.

    Who sends the spoilt message counts as a liar; the others are honest. Always: nobody raises anything but
    RemoteProtocolError, or PeerFailed where the driver says so; its text is one line without an id; an
    honest party that returns has a subset of the intersection, each id once; and all such have the same in
    the same order. (A liar can make ids go missing: it could have brought fewer. It cannot bring in an id.)
    A message that is a byte too short or too long, of the wrong kind, lost, sent twice or far too long: never
    do all return.
    """
    spoilt = refused = 0
    for parties in trial.parties(2, 3):
        draw = random.Random(trial.seed)
        holders = [2**parties - 1] * 20 + [1 << party for party in range(parties)] * 12
        sets = populate(holders, parties, draw)
        honest = trial.play(sets, trial.seed, room=2).transcript
        old = trial.play(sets, trial.seed + 1, room=2).transcript
        seen: set[tuple[bool, bool, str]] = set()
        for index, message in enumerate(honest):
            role = message.sender == NAMES[0], message.receiver == NAMES[0], message.kind
            if role in seen:
                continue
            seen.add(role)
            for damage in _damages(index, message, old, draw):
                ends = trial.play(sets, trial.seed, damage.post, room=2)
                said = f"{message.kind!r} of {message.sender} to {message.receiver}, {damage.name}"
                try:
                    _judge(ends, sets, message.sender, damage.noticed)
                except Violation as fault:
                    raise Violation(f"{said}: {fault}", trial.seed) from None
                spoilt += 1
                refused += bool(ends.errors)
    return f"{spoilt} spoilt alignments: {refused} refused, {spoilt - refused} end in a subset, agreed by all"


def _judge(ends: Ends, sets: list[Bytes], liar: str, noticed: bool) -> None:
    digests = [row.tobytes().hex() for own in sets for row in own]
    for name, error in ends.errors.items():
        if not isinstance(error, RemoteProtocolError | PeerFailed):
            raise Violation(f"{name} raises {type(error).__name__}, not RemoteProtocolError", 0)
        if "\n" in str(error) or any(digest in str(error) for digest in digests):
            raise Violation(f"{name} ends in an error that is not one line, or names an id", 0)
    if noticed and not ends.errors and not ends.leftover:
        raise Violation("nobody notices", 0)
    expected = intersection(sets)
    results = {
        name: named(own, ends.rows[name])
        for name, own in zip(NAMES, sets, strict=False)
        if name in ends.rows and name != liar
    }
    for name, result in results.items():
        if not set(result) <= expected or len(set(result)) < len(result):
            raise Violation(f"{name} takes an id for common that is not, or twice", 0)
        if result != next(iter(results.values())):
            raise Violation(f"{name} and {next(iter(results))} return different results", 0)


def _damages(index: int, message: Message, old: list[Message], draw: random.Random) -> Iterator[Damage]:
    payload, size = message.payload, len(message.payload)

    def to(name: str, changed: bytes, noticed: bool = False) -> Iterator[Damage]:
        if changed != payload:
            yield Damage(name, _instead(index, message._replace(payload=changed)), noticed)

    yield from to("one byte short", payload[:-1], noticed=True)
    yield from to("one byte long", payload + b"\0", noticed=True)
    yield from to("far too long", payload + bytes(1 << 24), noticed=True)
    yield Damage("of another kind", _instead(index, message._replace(kind="nonsense")), noticed=True)
    yield Damage("lost", _instead(index), noticed=True)
    yield Damage("sent twice", _instead(index, message, message), noticed=True)
    yield Damage("after the next", _late(index), noticed=False)
    yield from to("emptied", b"")
    yield from to("cut in half", payload[: size // 2])
    yield from to("its halves swapped", payload[size // 2 :] + payload[: size // 2])
    yield from to("all zeros", bytes(size))
    yield from to("all ones", b"\xff" * size)
    yield from to("all noise", draw.randbytes(size))
    for at in {0, size // 2, size - 1} if size else ():
        flipped = bytearray(payload)
        flipped[at] ^= 1 << draw.randrange(8)
        yield from to(f"a bit of byte {at} flipped", bytes(flipped))
    for one in old:
        if one[:3] == message[:3]:
            yield from to("from another run", one.payload)
            break


def _instead(index: int, *arrives: Message) -> Post:
    """What arrives in place of the message of this number."""
    numbers = itertools.count()
    return lambda message: arrives if next(numbers) == index else (message,)


def _late(index: int) -> Post:
    """The message of this number arrives after the sender's next one to the same party."""
    numbers, held = itertools.count(), list[Message]()

    def post(message: Message) -> Iterable[Message]:
        if next(numbers) == index:
            held.append(message)
            return ()
        if held and held[0][:2] == message[:2]:
            return (message, held.pop())
        return (message,)

    return post
