"""Lines on which nothing is said."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from parties.address import Address
from parties.certs import Identity
from parties.channels import dial, listen, server_options


@pytest.mark.slow
def test_a_line_on_which_nothing_is_said_is_not_cut(identities: dict[str, Identity]) -> None:
    """The caller's pings are no abuse: a server that takes them for one ends the line after the third."""
    over = threading.Event()

    def say(incoming: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"here"
        over.wait(60.0)
        yield b"still here"

    server = grpc.server(ThreadPoolExecutor(2), options=server_options(10.0))
    handler = grpc.stream_stream_rpc_method_handler(say)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Line", {"Say": handler}),))
    port = listen(server, Address("127.0.0.1", 0), identities["platform"], "link.listen")
    server.start()
    address = Address("127.0.0.1", port)
    with dial(address, "platform", identities["logistics"], 10.0) as channel:
        said: Any = channel.stream_stream("/Line/Say")(_nothing(over))
        assert next(said) == b"here"
        assert not over.wait(45.0)  # four pings
        over.set()
        assert next(said) == b"still here"
    server.stop(None).wait(5.0)


def _nothing(until: threading.Event) -> Iterator[bytes]:
    until.wait(60.0)
    yield from ()
