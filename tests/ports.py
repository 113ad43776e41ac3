"""Ports for processes that are told beforehand where to listen."""

import random
import socket
from contextlib import suppress


def free_port() -> int:
    """Free now, and below those that systems give to callers (RFC 6335, 6; Linux from 32768 on), so that none
    of these takes it meanwhile."""
    while True:
        port = random.randrange(12_000, 32_000)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
