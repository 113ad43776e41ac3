"""The emulated line against arithmetic: what n bytes take at a rate, what a ping-pong takes, order, cuts."""

import math
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from benchmarks.emulated_line import EmulatedLine, Line

MBIT = 125_000.0


def read(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return bytes(data)


@contextmanager
def connected(line: Line) -> Iterator[tuple[EmulatedLine, socket.socket, socket.socket]]:
    """The line, and the two ends of a connection over it."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        EmulatedLine(server.getsockname()[1], line) as emulated,
        connection(emulated, server) as (dialled, answered),
    ):
        yield emulated, dialled, answered


@contextmanager
def connection(
    emulated: EmulatedLine, server: socket.socket
) -> Iterator[tuple[socket.socket, socket.socket]]:
    with socket.create_connection(("127.0.0.1", emulated.port), 20) as dialled:
        answered, _ = server.accept()
        with answered:
            answered.settimeout(20)
            yield dialled, answered


def assert_takes(seconds: float, attempt: Callable[[], object]) -> None:
    """Never less; and in one of ten tries hardly more: other work on the machine only adds."""
    took = []
    while len(took) < 10 and min(took, default=math.inf) > 1.1 * seconds:
        start = time.monotonic()
        attempt()
        took.append(time.monotonic() - start)
        assert took[-1] >= seconds - 1e-6
    assert min(took) <= 1.1 * seconds, took


@pytest.mark.parametrize("size", [1, 4096, 131_072])
def test_a_ping_pong_takes_twice_delay_and_transmission(size: int) -> None:
    line = Line(delay=0.025, rate=100 * MBIT)
    with connected(line) as (_, dialled, answered):

        def ping_pong() -> None:
            dialled.sendall(bytes(size))
            read(answered, size)
            answered.sendall(bytes(size))
            read(dialled, size)

        assert_takes(2 * (line.delay + size / line.rate), ping_pong)


@pytest.mark.parametrize("mbit", [10, 100])
def test_a_transfer_takes_its_bytes_over_the_rate(mbit: int) -> None:
    line = Line(delay=0.02, rate=mbit * MBIT)
    size = int(0.4 * line.rate)
    with connected(line) as (_, dialled, answered):

        def transfer() -> None:
            threading.Thread(target=dialled.sendall, args=(bytes(size),)).start()
            read(answered, size)

        assert_takes(line.delay + size / line.rate, transfer)


def test_directions_and_streams_do_not_share_a_rate() -> None:
    line = Line(delay=0.01, rate=20 * MBIT)
    size = int(0.3 * line.rate)
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        EmulatedLine(server.getsockname()[1], line) as emulated,
        connection(emulated, server) as (dialled, answered),
        connection(emulated, server) as (other, far),
    ):
        pairs = [(dialled, answered), (answered, dialled), (other, far)]

        def all_at_once() -> None:
            threads = [threading.Thread(target=source.sendall, args=(bytes(size),)) for source, _ in pairs]
            threads += [threading.Thread(target=read, args=(sink, size)) for _, sink in pairs]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        assert_takes(line.delay + size / line.rate, all_at_once)


def test_jitter_delays_keeps_the_order_and_is_bounded() -> None:
    line = Line(delay=0.005, rate=1000 * MBIT, jitter=0.02, seed=1)
    sent = random.Random(2).randbytes(400_000)
    with connected(line) as (_, dialled, answered):
        threading.Thread(target=dialled.sendall, args=(sent,)).start()
        assert read(answered, len(sent)) == sent
        took = []
        for _ in range(10):
            start = time.monotonic()
            dialled.sendall(b"x")
            read(answered, 1)
            took.append(time.monotonic() - start)
    assert min(took) >= line.delay
    assert max(took) - min(took) > 0.005, "ten draws from 20 ms are not that close"
    assert min(took) < line.delay + line.jitter, "other work on the machine only adds"


def test_the_end_of_a_stream_arrives_after_its_bytes() -> None:
    with connected(Line(delay=0.02, rate=100 * MBIT)) as (_, dialled, answered):
        dialled.sendall(b"last words")
        dialled.shutdown(socket.SHUT_WR)
        assert read(answered, 10) == b"last words"
        assert answered.recv(1) == b""
        answered.sendall(b"heard")
        assert read(dialled, 5) == b"heard"


def test_a_cut_resets_both_ends_and_a_new_connection_works() -> None:
    with connected(Line(delay=0.01, rate=100 * MBIT)) as (emulated, dialled, answered):
        dialled.sendall(b"before")
        read(answered, 6)
        emulated.cut()
        for end in (dialled, answered):
            with pytest.raises(ConnectionResetError):
                read(end, 1)
        with socket.create_connection(("127.0.0.1", emulated.port)) as again:
            again.sendall(b"after")


def test_a_line_that_fails_unnoticed_delivers_what_was_sent_once_it_is_mended() -> None:
    with connected(Line(delay=0.0, rate=100 * MBIT)) as (emulated, dialled, answered):
        emulated.fail(noticed=False)
        dialled.sendall(b"held")
        answered.settimeout(0.2)
        with pytest.raises(TimeoutError):
            read(answered, 4)
        emulated.mend()
        answered.settimeout(20)
        assert read(answered, 4) == b"held"


def test_a_line_that_fails_noticed_resets_and_refuses_until_it_is_mended() -> None:
    with connected(Line(delay=0.0, rate=100 * MBIT)) as (emulated, dialled, _):
        emulated.fail(noticed=True)
        with pytest.raises(ConnectionResetError):
            read(dialled, 1)
        with (
            socket.create_connection(("127.0.0.1", emulated.port), 20) as refused,
            pytest.raises((EOFError, ConnectionResetError)),
        ):
            read(refused, 1)
        emulated.mend()
        with socket.create_connection(("127.0.0.1", emulated.port), 20) as again:
            again.sendall(b"after")


def test_a_cut_meets_no_connection_half_open() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        EmulatedLine(server.getsockname()[1]) as emulated,
    ):
        for _ in range(100):
            with connection(emulated, server) as (dialled, answered):
                emulated.cut()
                for end in (dialled, answered):
                    with pytest.raises(ConnectionResetError):
                        read(end, 1)


def test_an_absent_target_closes_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with (
        EmulatedLine(port, Line(0.0, MBIT)) as emulated,
        socket.create_connection(("127.0.0.1", emulated.port), 5) as dialled,
    ):
        assert dialled.recv(1) == b""
