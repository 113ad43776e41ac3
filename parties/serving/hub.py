"""Where feature holders come to answer: each has a stream of its own, on which it is asked."""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar

import grpc
from google.protobuf.message import DecodeError

from parties.address import Address
from parties.channels import listen, named_by, server_options
from parties.crash import report
from parties.errors import ContractError, IdentityError, PartyError, StorageError
from parties.model import Model
from parties.serving.greeting import Host, session_of, told
from parties.serving.notes import Notes, kind_of
from parties.serving.partner import OTHERS, Partner, People
from protos.rounds import RemoteProtocolError
from protos.serving_pb2 import DESCRIPTOR, FromFeatureHolder, FromLabelHolder, Question, Refusal

SILENCE: Final = 10.0
"""Seconds until a line on which nothing is heard is over."""

SERVICE = DESCRIPTOR.services_by_name["Embeddings"].full_name
REFUSED = {Refusal.RATE: "it is asked too often", Refusal.BUDGET: "its privacy budget is used up"}
F = TypeVar("F")


class Over(Exception):
    """The stream has ended."""


class Stream:
    """One feature holder's line, as `Partner` asks on it."""

    def __init__(self, notes: Notes, hang_up: Callable[[], object]) -> None:
        self.notes, self._hang_up = notes, hang_up
        self.out: queue.SimpleQueue[Question | None] = queue.SimpleQueue()
        self.verdict = ""

    def ask(self, number: int, users: People) -> None:
        if users.dtype.kind == OTHERS:
            self.out.put(Question(number=number, ids=users.tobytes()))
        else:
            self.out.put(Question(number=number, users=users.astype("<u4").tobytes()))

    def questions(self) -> Iterator[bytes]:
        """As they leave, each after its line in the log. Raises StorageError."""
        while (question := self.out.get()) is not None:
            payload = FromLabelHolder(question=question).SerializeToString()
            if self.notes.leaves(kind_of(question), question.number, payload):
                yield payload

    def hang_up(self) -> None:
        self.out.put(None)
        self._hang_up()


class Serves(NamedTuple):
    """What lines are of: one version. partners: by name."""

    host: Host
    model: Model
    partners: Mapping[str, Partner]


class PartnerHub:
    """`open` it; `close` ends all lines. partners: by name. say: what the operator should see."""

    def __init__(
        self,
        host: Host,
        model: Model,
        listen: Address,
        partners: Mapping[str, Partner],
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.serves, self._address = Serves(host, model, partners), listen
        self._pins = {name: host.contract.parties[name].key for name in partners}
        self._say, self._said = say, dict[str, str]()
        self._lock = threading.Lock()
        self._turn, self._streams = threading.Lock(), dict[str, Stream]()
        self._callers: dict[str, grpc.ServicerContext] = {}
        self._server: grpc.Server | None = None
        self.port = 0

    def open(self) -> None:
        """Raises NetworkError if the address cannot be had."""
        server = grpc.server(
            ThreadPoolExecutor(4 * len(self._pins) + 4, thread_name_prefix="partners"),
            options=server_options(SILENCE),
            maximum_concurrent_rpcs=4 * len(self._pins) + 4,
        )
        handler = grpc.stream_stream_rpc_method_handler(self._answer)
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Answer": handler}),))
        self.port = listen(server, self._address, self.serves.host.identity, "serve.listen")
        server.start()
        self._server = server

    def serve(self, host: Host, model: Model, partners: Mapping[str, Partner]) -> None:
        """From here on another version: lines of the one before end, and who dials again is greeted by it."""
        self.serves = Serves(host, model, partners)
        with self._turn:
            for stream in self._streams.values():
                stream.hang_up()

    def close(self) -> None:
        if self._server is not None:
            self._server.stop(grace=None).wait(3.0)
        with self._turn, suppress(StorageError):  # the line's thread has told of it
            for stream in self._streams.values():
                stream.notes.end("done")

    def _answer(self, incoming: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        name, refused = named_by(context, self._pins, self.serves.host.identity)
        for claimed, why in refused.items():
            self._tell(claimed, f"a caller named {claimed} was refused: {why}; ask {claimed}")
        if name is None:
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "not a feature holder of this contract")
        assert name is not None
        with self._lock:
            before, self._callers[name] = self._callers.get(name), context
        if before is not None:
            before.cancel()  # type: ignore[no-untyped-call]  # who dials knows best that its last stream is broken
        try:
            yield from self._with(name, incoming, context)
        except (ContractError, IdentityError) as error:
            self._tell(name, f"{error}; scores go on without it")
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "another contract, model or key")
        except RemoteProtocolError as error:
            self._tell(name, f"{error}; scores go on without it")
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the stream broke the protocol")
        except PartyError as error:
            self._tell(name, f"{error}; scores go on without {name}")
            context.abort(grpc.StatusCode.INTERNAL, "an error of the label holder")
        except Over:
            return
        except Exception as error:
            if context.code() is None:  # type: ignore[attr-defined]
                self._tell(name, report(error))
                context.abort(grpc.StatusCode.INTERNAL, "an error of the label holder")
            raise
        finally:
            with self._lock:
                if self._callers.get(name) is context:
                    del self._callers[name]

    def _with(self, name: str, incoming: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        serves = self.serves
        host, me, partner = serves.host, serves.host.identity.party, serves.partners[name]
        theirs = field_of(heard(incoming, FromFeatureHolder, name), "greeting", name)
        ours = host.greeting()
        try:
            host.check(theirs, name)
        except ContractError as error:
            self._tell(name, f"{error}; scores go on without it")
            yield FromLabelHolder(greeting=ours).SerializeToString()  # so that it can say what differs
            raise
        said = told(me, me, ours, name, theirs)
        yield FromLabelHolder(greeting=ours).SerializeToString()
        yield FromLabelHolder(proof=host.proof(said)).SerializeToString()
        proof = field_of(heard(incoming, FromFeatureHolder, name), "proof", name)
        host.check_proof(proof, name, told(name, me, ours, name, theirs))

        stream = self._newest(name, serves, session_of(said), context)
        if not context.add_callback(lambda: stream.out.put(None)):
            stream.out.put(None)
        partner.attach(stream)
        self._tell(name, f"{name} is here")
        reader = threading.Thread(
            target=self._read, args=(partner, stream, incoming), name=f"from {name}", daemon=True
        )
        reader.start()
        try:
            yield from stream.questions()
            if stream.verdict:
                raise RemoteProtocolError(stream.verdict)
        finally:
            partner.detach(stream)
            stream.notes.end("done")
            with self._lock:
                newest = self._callers.get(name) is context
            if newest:
                self._tell(name, f"{name} is away; scores go on without it")

    def _newest(self, name: str, serves: Serves, session: bytes, context: grpc.ServicerContext) -> Stream:
        """In place of its stream before, whose log ends here. Raises StorageError, AccountError, and Over
        where meanwhile another version is served."""
        with self._turn:
            if self.serves is not serves:
                raise Over
            if (before := self._streams.pop(name, None)) is not None:
                serves.partners[name].detach(before)
                before.hang_up()
                before.notes.end("done")
            notes = Notes(serves.model, serves.host.identity.party, name, session)
            self._streams[name] = Stream(notes, context.cancel)
            return self._streams[name]

    def _read(self, partner: Partner, stream: Stream, incoming: Iterator[bytes]) -> None:
        try:
            while True:
                message = heard(incoming, FromFeatureHolder, partner.name)
                answer = field_of(message, "answer", partner.name)
                stream.notes.came(kind_of(answer), message.ByteSize())
                if answer.refused:
                    why = REFUSED.get(answer.refused, "for a reason that this release does not know")
                    for_good = answer.refused != Refusal.RATE
                    partner.refused(stream, answer.number, why, for_good)
                else:
                    partner.answered(stream, answer.number, answer.embeddings, answer.known)
        except Over:
            pass
        except RemoteProtocolError as error:
            stream.verdict = str(error)
        except Exception as error:
            self._tell(partner.name, report(error))
        finally:
            partner.detach(stream)
            stream.out.put(None)

    def _tell(self, name: str, line: str) -> None:
        """Not the same line about somebody twice: a peer that dials again and again would fill the log."""
        with self._lock:
            if self._said.get(name) == line:
                return
            self._said[name] = line
        self._say(line)


def heard(incoming: Iterator[bytes], kind: type[F], name: str) -> F:
    """The next message. Raises Over at the end, RemoteProtocolError."""
    try:
        payload = next(incoming)
    except (StopIteration, grpc.RpcError) as error:
        raise Over from error
    try:
        return kind.FromString(payload)  # type: ignore[attr-defined,no-any-return]
    except DecodeError as error:
        raise RemoteProtocolError(f"{name!r} sent a message that is none") from error


def field_of(message: FromFeatureHolder | FromLabelHolder, wanted: str, name: str):  # type: ignore[no-untyped-def]
    """Raises RemoteProtocolError for a message of another kind."""
    if message.WhichOneof("is") != wanted:
        raise RemoteProtocolError(f"{name!r} sent something else than its {wanted}")
    return getattr(message, wanted)
