"""Floods: refused, with the hub's memory capped; then it serves whoever behaves."""

import random
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count, islice
from pathlib import Path
from typing import Any

import grpc
import pytest

import psi
from parties.certs import Identity
from parties.dial import Spoke
from parties.hub import BEYOND_WINDOW
from protos.party_pb2 import Frame
from protos.rounds import Receive, RemoteProtocolError, Rounds, Send
from psi.conformance.trial import Trial, populate
from tests.parties.link.raw import EXCHANGE, channel_of, frame, greeting

MIB = 1 << 20
WINDOW, INBOX = MIB, 2 * MIB
FRAMES = 100_000
REFUSED = grpc.StatusCode.INVALID_ARGUMENT

FLOODS: dict[str, tuple[Callable[[], Iterator[Frame]], grpc.StatusCode]] = {
    "tiny messages": (lambda: (frame(at, payload=b"ab") for at in count(1)), REFUSED),
    "tiny pieces of one message": (
        lambda: (frame(at + 1, chunk=at, last=False, payload=b"a") for at in count()),
        REFUSED,
    ),
    "tiny messages to pass on": (
        lambda: (frame(at, receiver="advertiser", payload=b"ab") for at in count(1)),
        REFUSED,
    ),
    "one message without end": (
        lambda: (frame(at + 1, chunk=at, last=False, payload=bytes(MIB)) for at in count()),
        REFUSED,
    ),
    "large messages to pass on": (
        lambda: (frame(at, receiver="advertiser", payload=bytes(MIB)) for at in count(1)),
        REFUSED,
    ),
    "a frame that is too large": (
        lambda: (frame(at, payload=bytes(5 * MIB)) for at in count(1)),
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    ),
    "heartbeats": (lambda: (frame(0, kind="", last=False) for _ in count()), grpc.StatusCode.OK),
    "replays": (
        lambda: (frame(1, payload=b"ab") for _ in count()),
        grpc.StatusCode.OK,
    ),
}
"""What comes, and how the stream ends; OK where it is endless, and nothing of it is kept."""


@pytest.mark.slow
def test_memory_is_capped_and_the_hub_lives(folder: Path, identities: dict[str, Identity]) -> None:
    """One after another, each until the hub refuses it, or FRAMES of it."""
    command = [sys.executable, "-m", "tests.parties.link.hub", str(folder), str(WINDOW), str(INBOX)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        port = int(process.stdout.readline())

        def peak() -> int:
            assert process.stdin
            assert process.stdout
            process.stdin.write("peak\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        flood(port, identities["logistics"], islice(FLOODS["replays"][0](), 100))
        before = peak()
        grown = {}
        for session, (name, (frames, code)) in enumerate(FLOODS.items(), 10):
            got = flood(port, identities["logistics"], islice(frames(), FRAMES), session)
            assert got is code, name
            grown[name], before = peak() - before, max(before, peak())
        assert max(grown.values()) < 2 * (WINDOW + BEYOND_WINDOW) + INBOX + 24 * MIB, grown
        assert sum(grown.values()) < 64 * MIB, grown

        process.stdin.write("run\n")
        process.stdin.flush()
        with Spoke(identities["advertiser"], "platform", f"127.0.0.1:{port}", ["logistics"]) as other:
            other.open(10)
            with Spoke(identities["logistics"], "platform", f"127.0.0.1:{port}", ["advertiser"]) as spoke:
                spoke.open(10)
                assert spoke.drive(greet()) == b"hello"
                other.drive(nothing())
        assert process.stdout.readline() == "done\n"


def greet() -> Rounds[bytes]:
    yield Send("platform", "word", b"hello")
    return (yield Receive("platform", "word", 10))


def nothing() -> Rounds[None]:
    return
    yield


def flood(port: int, own: Identity, frames: Iterator[Frame], session: int = 9) -> grpc.StatusCode:
    """All of them on one stream, as fast as the hub reads; how it ended."""
    admitted, numbers = threading.Event(), [b""]

    def said() -> Iterator[bytes]:
        yield greeting(session).SerializeToString()
        admitted.wait(10)
        for one in frames:
            yield numbers[0] + one.SerializeToString()

    with channel_of(port, own) as channel:
        call = channel.stream_stream(EXCHANGE, None, None)(said(), timeout=60)
        first = Frame.FromString(next(call))
        numbers[0] = Frame(session=first.session, incarnation=first.incarnation).SerializeToString()
        admitted.set()
        with suppress(grpc.RpcError):
            for _ in call:
                pass
        return call.code()


def told_only(announced: int, rounds: Rounds[Any]) -> None:
    """What a party does whose peer says this number whatever is asked."""
    answer = None
    while True:
        word = rounds.send(answer)
        answer = announced.to_bytes(8, "big") if isinstance(word, Receive) else None


@pytest.mark.parametrize("name", ["ecdh", "rr22", "dh"])
@pytest.mark.parametrize("announced", [2**20, 2**40, 2**64 - 1])
def test_a_huge_number_announced_takes_no_memory(name: str, announced: int) -> None:
    """Neither at the leader nor at a client; what was agreed to be at most is 100."""
    sets = populate([3] * 20, 2, random.Random(0))
    for me, rounds in Trial(psi.load(name), 0, 20).rounds(sets, 0).items():
        other = "b" if me == "lead" else "lead"
        tracemalloc.start()
        with pytest.raises(RemoteProtocolError, match=f"{other} brings {announced} ids"):
            told_only(announced, rounds)
        assert tracemalloc.get_traced_memory()[1] < MIB
        tracemalloc.stop()
