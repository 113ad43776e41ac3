"""The line without the wire: whatever is lost, repeated or reordered, messages come once and in order."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.line import CHUNK, FRAME_COST, Gap, Inbox, Line, chunks
from protos.party_pb2 import Frame
from protos.rounds import RemoteProtocolError


@given(st.one_of(st.binary(max_size=50), st.lists(st.binary(max_size=20), max_size=5)), st.integers(1, 12))
def test_chunks_are_the_payload_cut(payload: bytes | list[bytes], size: int) -> None:
    cut = list(chunks(payload, size))
    assert b"".join(chunk for chunk, _ in cut) == (
        payload if isinstance(payload, bytes) else b"".join(payload)
    )
    assert [last for _, last in cut] == [False] * (len(cut) - 1) + [True]
    assert all(chunk for chunk, _ in cut[:-1])
    assert all(len(chunk) <= size + size // 8 for chunk, _ in cut)


def test_a_header_makes_no_frame_of_its_own() -> None:
    assert [len(chunk) for chunk, _ in chunks(bytes(CHUNK + 24))] == [CHUNK + 24]
    assert [len(chunk) for chunk, _ in chunks(bytes(2 * CHUNK + 24))] == [CHUNK, CHUNK + 24]


@given(st.lists(st.binary(max_size=30), min_size=1, max_size=8), st.data())
def test_messages_survive_cuts_and_duplicates(messages: list[bytes], data: st.DataObject) -> None:
    a, b, inbox = Line(), Line(), Inbox("a", at_most=10_000)
    for payload in messages:
        for index, (chunk, last) in enumerate(chunks(payload, 7)):
            a.post("a", "b", "m", index, last, chunk)
    got: list[bytes] = []
    first = [bytes(frame.payload) for frame in a.resend()]
    for attempt in range(50):
        arriving = a.resend()
        assert [frame.payload for frame in arriving] == first[len(first) - len(arriving) :]  # never others
        if attempt < 45:  # a cut: a prefix arrives, some of it twice
            arriving = arriving[: data.draw(st.integers(0, len(arriving)))]
            arriving += arriving[: data.draw(st.integers(0, len(arriving)))]
        for frame in arriving:
            wire = Frame.FromString(frame.SerializeToString())
            if b.accept(wire) and inbox.put(wire):
                got.append(inbox.take("m", 30))  # type: ignore[arg-type]
        a.accept(b.heartbeat("b", "a"))
        if len(got) == len(messages):
            break
    assert got == messages
    assert a.unacknowledged_bytes == 0
    assert a.resend() == []
    assert not inbox


def posted(**changes: object) -> tuple[Line, Frame]:
    frame = Line().post("a", "b", "m", 0, True, b"x")
    for field, value in changes.items():
        setattr(frame, field, value)
    return Line(), frame


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"session": 1}, "another session"),
        ({"incarnation": 1}, "another session or incarnation"),
        ({"acknowledgement": 1}, "never sent"),
        ({"payload": bytes((1 << 20) + 1)}, "1048577 bytes"),
    ],
)
def test_foreign_frames_are_refused(changes: dict[str, object], says: str) -> None:
    line, frame = posted(**changes)
    with pytest.raises(RemoteProtocolError, match=says):
        line.accept(frame)
    assert line.accept(posted()[1]), "the state is unchanged"


def test_a_gap_is_refused() -> None:
    line, frame = posted(sequence=3)
    with pytest.raises(Gap, match="2 frames are missing"):
        line.accept(frame)


def test_a_bound_line_refuses_other_runs() -> None:
    a, b = Line(), Line()
    assert b.accept(a.post("a", "b", "hello", 0, True, b""))
    a.bind(b"r" * 32)
    assert b.accept(a.post("a", "b", "hellos", 0, True, b"")), "the peer may bind first"
    b.bind(b"r" * 32)
    frame = a.post("a", "b", "m", 0, True, b"")
    for other in (b"", b"s" * 32):
        frame.run = other
        with pytest.raises(RemoteProtocolError, match="another run"):
            b.accept(frame)
    frame.run = b"r" * 32
    assert b.accept(frame)


def test_binding_to_another_run_than_the_peer() -> None:
    a, b = Line(), Line()
    a.bind(b"r" * 32)
    b.accept(a.post("a", "b", "m", 0, True, b""))
    with pytest.raises(RemoteProtocolError, match="another run"):
        b.bind(b"s" * 32)


def chunk(kind: str, index: int, last: bool, payload: bytes = b"x") -> Frame:
    return Frame(sender="a", kind=kind, chunk=index, last=last, payload=payload)


@pytest.mark.parametrize(
    "frames",
    [
        [chunk("m", 1, True)],
        [chunk("m", 0, False), chunk("m", 0, True)],
        [chunk("m", 0, False), chunk("n", 1, True)],
        [chunk("", 0, True)],
        [chunk("m", 0, False, b"")],
        [chunk("m", 0, False, b"x" * 9), chunk("m", 1, True, b"xx")],
        [chunk("m", 0, True, b"x" * 9), chunk("m", 0, True, b"xx")],
    ],
)
def test_mixed_up_or_too_many_chunks(frames: list[Frame]) -> None:
    inbox = Inbox("a", at_most=10 + 2 * FRAME_COST)
    for frame in frames[:-1]:
        inbox.put(frame)
    with pytest.raises(RemoteProtocolError, match="'a'"):
        inbox.put(frames[-1])


def test_kind_and_size_are_refused_before_the_message_is_whole() -> None:
    inbox = Inbox("a", at_most=1000)
    inbox.put(chunk("m", 0, False, b"x" * 100))
    assert inbox.take("m", 100) is None
    with pytest.raises(RemoteProtocolError, match="over its 99 bytes"):
        inbox.take("m", 99)
    with pytest.raises(RemoteProtocolError, match="expected 'n' from 'a', got 'm'"):
        inbox.take("n", 100)
