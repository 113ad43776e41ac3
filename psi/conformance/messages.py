"""What messages contain: no id, no hash of one that needs no secret, and nothing of an earlier run."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Iterator
from typing import Final

from psi.conformance.play import Message
from psi.conformance.report import Violation
from psi.conformance.trial import Trial, populate

HASHES: Final = (
    "md5",
    "sha1",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "sha3_256",
    "sha3_512",
    "blake2b",
    "blake2s",
)
WINDOW: Final = 16
"""Bytes that two messages must have in common, anywhere, to count as sharing something."""
VARIED: Final = 9
"""Different bytes in a window that can come from a cipher or a hash: random ones have fewer with probability
2^-30; padding and numbers have fewer."""


def no_ids(trial: Trial) -> str:
    """No message contains eight bytes of a digest, or of a hash of one that anybody could compute."""
    forms = 0
    for parties in trial.parties(2, 3):
        draw = random.Random(trial.seed)
        sets = populate([2**parties - 1] * 20 + [1 << party for party in range(parties)] * 20, parties, draw)
        run = draw.randbytes(32)
        sent = _windows(trial.play(sets, trial.seed, run=run).transcript, 8)
        for own in sets:
            for row in own:
                for form, value in _forms(row.tobytes(), run):
                    if value[:8] in sent:
                        raise Violation(f"{sent[value[:8]]!r} contains {form}", trial.seed)
                    forms += 1
    return f"{forms} hashes looked for in every message"


def fresh(trial: Trial) -> str:
    """Two alignments of the same ids under the same run id, with fresh randomness, share no message.

    Nor a part of one: 16 bytes at any place, unless an alignment of other ids has them as well (a header).
    A message shorter than that, such as a count, may repeat.
    """
    compared = 0
    for parties in trial.parties(2, 3):
        draw = random.Random(trial.seed)
        holders = [2**parties - 1] * 20 + [1 << party for party in range(parties)] * 20
        sets, others = populate(holders, parties, draw), populate(holders, parties, draw)
        one = trial.play(sets, trial.seed).transcript
        two = trial.play(sets, trial.seed + 1).transcript
        unrelated = trial.play(others, trial.seed + 2, run=draw.randbytes(32)).transcript
        whole = {message.payload for message in [*two, *unrelated] if len(message.payload) >= WINDOW}
        for message in one:
            if message.payload in whole:
                raise Violation(f"{message.kind!r} of {message.sender} is the same in two runs", trial.seed)
        constant = _windows(unrelated, WINDOW)
        again = _windows(two, WINDOW)
        for window, kind in _windows(one, WINDOW).items():
            if window in again and window not in constant and len(set(window)) >= VARIED:
                raise Violation(f"{kind!r} has 16 bytes that an earlier run of these ids had", trial.seed)
        compared += sum(len(message.payload) for message in one)
    return f"{compared} bytes of messages compared with another run of the same ids"


def _windows(transcript: Iterable[Message], size: int) -> dict[bytes, str]:
    """Every stretch of `size` bytes in the messages, with the kind of the message."""
    found: dict[bytes, str] = {}
    for message in transcript:
        payload = message.payload
        found.update((payload[i : i + size], message.kind) for i in range(len(payload) - size + 1))
    return found


def _forms(digest: bytes, run: bytes) -> Iterator[tuple[str, bytes]]:
    """What anybody who knows an id and the run's public facts can compute of it."""
    yield "a digest", digest
    yield "a digest in hexadecimal", digest.hex().encode()
    for name in HASHES:
        for what, data in (
            ("a digest", digest),
            ("a digest in hexadecimal", digest.hex().encode()),
            ("the run id and a digest", run + digest),
            ("a digest and the run id", digest + run),
        ):
            hashed = hashlib.new(name, data)
            yield f"{name} of {what}", hashed.digest()
            yield f"{name} of {what}, in hexadecimal", hashed.hexdigest().encode()
