"""A caller without manners: frames by hand, over real gRPC with mutual TLS."""

import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from parties.certs import Identity
from parties.hub import SERVICE, Hub
from protos.party_pb2 import Frame

EXCHANGE = f"/{SERVICE}/Exchange"


def frame(sequence: int = 1, **fields: Any) -> Frame:
    given = {"sender": "logistics", "receiver": "platform", "kind": "word", "last": True} | fields
    return Frame(sequence=sequence, **given)


def greeting(session: int = 7, **fields: Any) -> Frame:
    """The first frame of a stream."""
    return Frame(session=session, sender="logistics", receiver="platform", **fields)


def channel_of(port: int, own: Identity) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(own.ca, own.key, own.certificate)
    options = [("grpc.ssl_target_name_override", "platform"), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.secure_channel(f"127.0.0.1:{port}", credentials, options)


@contextmanager
def in_place_of_the_hub(own: Identity, answer: Callable[..., Any]) -> Iterator[int]:
    """A server with the hub's certificate that answers every stream so; its port."""
    server = grpc.server(ThreadPoolExecutor(1))
    exchange = grpc.stream_stream_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Exchange": exchange}),))
    credentials = grpc.ssl_server_credentials([(own.key, own.certificate)], own.ca, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    try:
        yield port
    finally:
        server.stop(0)


class RawClient:
    """A gRPC client with logistics' certificate and no manners."""

    def __init__(self, port: int, own: Identity, channel: grpc.Channel | None = None) -> None:
        self.channel = channel or channel_of(port, own)
        self.queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        exchange = self.channel.stream_stream(EXCHANGE, None, None)
        self.call: Any = exchange(iter(self.queue.get, None), timeout=10)

    def greet(self, first: Frame | None = None) -> "RawClient":
        """Until the hub has answered; what is sent from then on names both numbers."""
        self.put(first or greeting())
        answer = Frame.FromString(next(self.call))
        self.numbers = {"session": answer.session, "incarnation": answer.incarnation}
        return self

    def put(self, *frames: Frame) -> "RawClient":
        for one in frames:
            self.queue.put(one.SerializeToString())
        return self

    def send(self, *frames: Frame) -> "RawClient":
        for one in frames:
            numbered = Frame(**self.numbers)
            numbered.MergeFrom(one)  # its own numbers win
            self.put(numbered)
        return self

    def end(self) -> tuple[grpc.StatusCode, str]:
        """Until the hub ends the stream."""
        try:
            for _ in self.call:
                pass
        except grpc.RpcError:
            pass
        return self.call.code(), self.call.details()

    def close(self) -> None:
        self.queue.put(None)
        self.call.cancel()
        self.channel.close()


def left(hub: Hub, client: RawClient) -> None:
    """Its end has arrived; or the hub would wait for it to come back."""
    with hub._changed:
        assert hub._changed.wait_for(lambda: "logistics" in hub._mail.left, 5), client.call
