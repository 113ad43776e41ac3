"""A wide-area line on one machine: a TCP proxy with delay, jitter and rate.

Each direction of each connection is limited by itself, as if every stream had such a line to itself. What is
emulated is the line, not TCP over it: no loss, no slow start, no congestion; and the proxy accepts a
connection at once, so that TCP's own handshake (one round trip) is not counted. TLS and all above pay.
"""

import math
import queue
import random
import socket
import struct
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

CHUNK = 16 << 10
"""Bytes forwarded at a time: 1.3 ms at 100 Mbit/s, below any delay worth emulating."""

BACKLOG = 0.02
"""Seconds of transmission that may wait before the line; beyond them the sender is not read from."""

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a reset, as a cut does to both ends


class Line(NamedTuple):
    """delay: seconds one way. rate: bytes/s each way. jitter: up to so many seconds more for each chunk,
    uniform, from `seed`; the order is kept, so that a late chunk delays those behind it.
    """

    delay: float
    rate: float
    jitter: float = 0.0
    seed: int = 0


AT_ONCE = Line(0.0, math.inf)


class EmulatedLine:
    """Listens on 127.0.0.1:`port`; forwards each connection to port `target` over a `line` of its own."""

    def __init__(self, target: int, line: Line = AT_ONCE) -> None:
        self.line = line
        self.target = target
        self._open: list[tuple[socket.socket, socket.socket, threading.Event]] = []
        self._opening = threading.Lock()  # a cut meets no connection half open
        self._draws = random.Random(line.seed)
        self._passing = threading.Event()
        self._passing.set()
        self._refusing = False
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown(socket.SHUT_RDWR)  # `close` alone does not wake the thread that accepts
        self._server.close()
        self.cut()

    def fail(self, *, noticed: bool) -> None:
        """Until `mend`, nothing passes. noticed: connections are reset, and new ones too; otherwise neither
        end is told anything, as where a router has lost its way, and what was sent arrives after `mend`."""
        if noticed:
            self._refusing = True
            self.cut()
        else:
            self._passing.clear()

    def mend(self) -> None:
        self._refusing = False
        self._passing.set()

    def cut(self) -> None:
        """Reset every open connection at both ends; what was under way is lost. New ones are accepted."""
        with self._opening:
            while self._open:
                *ends, is_cut = self._open.pop()
                is_cut.set()
                for end in ends:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    with suppress(OSError):  # it may be gone already
                        end.shutdown(socket.SHUT_RD)
                    end.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._server.accept()
            except OSError:  # closed
                return
            with self._opening:
                self._open_one(near)

    def _open_one(self, near: socket.socket) -> None:
        try:
            if self._refusing:
                raise ConnectionRefusedError
            far = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            near.close()
            return
        is_cut = threading.Event()
        self._open.append((near, far, is_cut))
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._carry(near, far, is_cut)
        self._carry(far, near, is_cut)

    def _carry(self, source: socket.socket, sink: socket.socket, is_cut: threading.Event) -> None:
        _Direction(source, sink, is_cut, self.line, self._draws.random(), self._passing)


class _Direction:
    """One thread reads and says when each chunk arrives, one writes it then."""

    def __init__(
        self,
        source: socket.socket,
        sink: socket.socket,
        is_cut: threading.Event,
        line: Line,
        seed: float,
        passing: threading.Event,
    ) -> None:
        self._source, self._sink, self._is_cut, self._line, self._passing = (
            source,
            sink,
            is_cut,
            line,
            passing,
        )
        self._draws = random.Random(seed)
        self._under_way: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=self._write, daemon=True).start()

    def _read(self) -> None:
        free = arrival = 0.0  # when the line's near end is free; when the last chunk arrives at the far end
        while True:
            try:
                data = self._source.recv(CHUNK)
            except OSError:
                data = b""
            now = time.monotonic()
            free = max(now, free) + len(data) / self._line.rate
            late = self._draws.uniform(0, self._line.jitter)
            arrival = max(arrival, free + self._line.delay + late)
            self._under_way.put((arrival, data))
            if not data:
                return
            if free - now > BACKLOG:
                time.sleep(free - now - BACKLOG)

    def _write(self) -> None:
        while True:
            arrival, data = self._under_way.get()
            time.sleep(max(arrival - time.monotonic(), 0))
            self._passing.wait()
            try:
                if not data:
                    if not self._is_cut.is_set():  # a cut stream has no end
                        self._sink.shutdown(socket.SHUT_WR)
                    return
                self._sink.sendall(data)
            except OSError:  # cut
                return
