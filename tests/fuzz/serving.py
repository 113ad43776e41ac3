"""What `party serve` is told: by a feature holder, by the label holder, and by an application."""

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import torch

from parties import certs
from parties.address import Address
from parties.config import load
from parties.errors import ContractError, IdentityError
from parties.model import Model, model
from parties.own import own_identity
from parties.serving.answers import Answers
from parties.serving.applications import Applications
from parties.serving.cache import EmbeddingCache
from parties.serving.dial import Answering
from parties.serving.greeting import Host, told
from parties.serving.hub import Over, PartnerHub
from parties.serving.partner import Asked, Partner
from parties.serving.rate import TokenBucket
from parties.serving.scorer import Scorer
from parties.serving.store import Store, users_of
from parties.serving.tally import Tally
from protos.rounds import RemoteProtocolError
from protos.serving_pb2 import (
    Answer,
    FromFeatureHolder,
    FromLabelHolder,
    Greeting,
    Id,
    Proof,
    Question,
    Refusal,
    ScoreRequest,
    ScoreResponse,
)
from splitnn.crossing import to_feature_holders
from splitnn.tensors import encode
from tests.fuzz.replay import edited
from tests.fuzz.target import Target, patched
from tests.parties import small

HUB, PARTNER = "platform", "logistics"
FREE = TokenBucket(1e12, 1e12)
CUT = 3
WITH_KEY = {"x509_pem_cert": [b""]}


class Fixed(Host):
    """With the same nonce each time, so that a recorded proof fits."""

    def greeting(self) -> Greeting:
        made = super().greeting()
        made.nonce = self.identity.party.encode().ljust(32)
        return made


@cache
def trained() -> dict[str, Model]:
    root = Path(tempfile.mkdtemp())
    certs.issue(root, small.NAMES)
    identities = {
        name: certs.load(root / "ca.pem", root / f"{name}.pem", root / f"{name}.key", name)
        for name in small.NAMES
    }
    homes = small.write(root, root, identities)
    made = "{ cut = 3, bottom_hidden = [6], top_hidden = [5], party_dropout = 0.3 }"
    more = {"training": "{ epochs = 1 }", "evaluation": '{ importance = "none" }'}
    small.agree(homes, identities, reveals_membership="true", model=made, **more)
    found = small.run(homes)
    return {
        name: model(load(home / "party.toml"), small.folder_of(home, found[name]))
        for name, home in homes.items()
    }


def host_of(name: str) -> Host:
    one = trained()[name]
    return Fixed(own_identity(one.config), one.config.contract, one.digest, b"p" * 32)


def meeting() -> tuple[dict[str, Greeting], dict[str, Proof]]:
    """What both ends say at first."""
    hosts = {name: host_of(name) for name in (HUB, PARTNER)}
    said = {name: host.greeting() for name, host in hosts.items()}
    return said, {
        name: host.proof(told(name, HUB, said[HUB], PARTNER, said[PARTNER])) for name, host in hosts.items()
    }


def partner_of(one: Model) -> Partner:
    crossing = to_feature_holders(one.plan, [PARTNER], one.run)[PARTNER]
    store = EmbeddingCache(small.PEOPLE, CUT, 10, 60.0)
    return Partner(PARTNER, crossing, store, FREE, 0.0, 60.0, 60.0)


class Stream:
    """A gRPC context, or call, without a network."""

    def __init__(self, messages: Iterator[bytes]) -> None:
        self._messages = messages
        self.aborted: tuple[grpc.StatusCode, str] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        return next(self._messages)

    def add_callback(self, callback: Any) -> bool:
        return True

    def cancel(self) -> bool:
        return True

    def code(self) -> None:
        return None

    def auth_context(self) -> dict[str, list[bytes]]:
        return WITH_KEY

    def time_remaining(self) -> None:
        return None

    def abort(self, code: grpc.StatusCode, text: str) -> None:
        self.aborted = code, text
        raise Over


def several_messages(said: list[bytes]) -> list[bytes]:
    """Data that leave each of these as it is, that replace it, and that put another in its place."""
    return [
        bytes([at, how]) + bytes([other, 0, 0, 0]) + (message if how == 1 else b"")
        for at, message in enumerate(said)
        for how, other in ((0, 0), (1, 0), (5, at + 1))
    ]


def to_label_holder() -> Target:
    """Everything that a feature holder says on its stream."""
    ours = trained()[HUB]
    greetings, proofs = meeting()
    hub = PartnerHub(host_of(HUB), ours, Address("127.0.0.1", 1), {PARTNER: partner_of(ours)})
    log = ours.folder / "serving" / PARTNER / "audit.jsonl"
    embeddings = [encode(torch.ones(count, CUT), number) for number, count in ((1, 2), (2, 1), (4, 1))]
    said = [
        FromFeatureHolder(greeting=greetings[PARTNER]).SerializeToString(),
        FromFeatureHolder(proof=proofs[PARTNER]).SerializeToString(),
        FromFeatureHolder(answer=Answer(number=1, embeddings=embeddings[0])).SerializeToString(),
        FromFeatureHolder(answer=Answer(number=2, embeddings=embeddings[1])).SerializeToString(),
        FromFeatureHolder(answer=Answer(number=3, refused=Refusal.RATE)).SerializeToString(),
        FromFeatureHolder(
            answer=Answer(number=4, embeddings=embeddings[2], known=b"\1\0")
        ).SerializeToString(),
    ]

    def hear(data: bytes) -> None:
        partner = partner_of(ours)
        hub.serve(hub.serves.host, ours, {PARTNER: partner})
        at, message = edited(said, data)
        asked: list[Asked | None] = []

        def incoming() -> Iterator[bytes]:
            for number, one in enumerate(said):
                if number == 5:
                    asked.append(partner.ask(np.array([bytes(16), b"a" * 16], "S16").view("V16")))
                elif number >= 2:
                    asked.append(partner.ask(np.array([5, 9][: 4 - number] or [7])))
                yield message if number == at else one

        stream = Stream(incoming())
        with suppress(RemoteProtocolError, ContractError, IdentityError, Over):
            for _ in hub._with(PARTNER, stream, stream):  # type: ignore[arg-type]
                pass
        for one in asked:
            rows = one.wait(0.0) if one is not None else None
            if rows is not None and one is not None:
                assert rows.shape == (len(one.users), CUT)
                assert (np.isfinite(rows).all(axis=1) | np.isnan(rows).all(axis=1)).all()
        assert not partner.there
        log.unlink(missing_ok=True)

    return Target(hear, several_messages(said))


def to_feature_holder() -> Target:
    """Everything that the label holder says to a feature holder."""
    theirs = trained()[PARTNER]
    greetings, proofs = meeting()
    users = users_of(theirs.config, theirs)
    store = Store.read(theirs.config, theirs, users)
    log = theirs.folder / "serving" / HUB / "audit.jsonl"

    def question(number: int, *users: int) -> bytes:
        asked = Question(number=number, users=np.array(users, "<u4").tobytes())
        return FromLabelHolder(question=asked).SerializeToString()

    said = [
        FromLabelHolder(greeting=greetings[HUB]).SerializeToString(),
        FromLabelHolder(proof=proofs[HUB]).SerializeToString(),
        question(1, 0, 3),
        question(2, 1),
        FromLabelHolder(question=Question(number=3, ids=bytes(16) + b"a" * 16)).SerializeToString(),
    ]
    answers, host = Answers(theirs.config, theirs, store, users, FREE), host_of(PARTNER)

    def hear(data: bytes) -> None:
        at, message = edited(said, data)
        one = Answering(host, theirs, Address("127.0.0.1", 1), answers)
        one._stop.set()  # there is no hub to look at
        stream = Stream(iter([*said[:at], message, *said[at + 1 :]]))
        channel: Any = Stream(iter(()))
        channel.stream_stream = lambda *_: lambda outgoing: stream
        with suppress(RemoteProtocolError, ContractError, IdentityError):
            one._converse(channel)
        log.unlink(missing_ok=True)

    return Target(hear, several_messages(said))


def score_request() -> Target:
    """Whatever an application with a pinned key asks."""
    ours = trained()[HUB]
    config, users = ours.config, users_of(ours.config, ours)
    store = Store.read(config, ours, users)
    scorer = Scorer(config, ours, store, users, [partner_of(ours)], 16, 0.0)
    said: list[str] = []
    own = own_identity(config)
    applications = Applications(
        own, Address("127.0.0.1", 1), own.ca, [], scorer, Tally(), said.append,
    )  # fmt: skip
    applications._is_client = lambda context: True  # type: ignore[method-assign]
    good = ScoreRequest(
        ids=[Id(parts=["17"]), Id(parts=["999999"])], context={"x": "0.5", "pages": "a"}
    ).SerializeToString()
    plain = ScoreRequest(ids=[Id(parts=["17"])], context={"x": ""}).SerializeToString()

    def hear(data: bytes) -> None:
        payload = patched(plain if data[:1] < b"\x80" else good, data[1:])
        context = Stream(iter(()))
        try:
            answer = applications._score(payload, context)  # type: ignore[arg-type]
        except Over:
            assert context.aborted is not None
            code, text = context.aborted
            assert code is grpc.StatusCode.INVALID_ARGUMENT, said
            assert "\n" not in text
            assert text.isascii()
            return
        found = ScoreResponse.FromString(answer)
        assert len(found.scored) == len(ScoreRequest.FromString(payload).ids)
        assert all(0.0 <= one.score[0] <= 1.0 for one in found.scored)

    starts = [(bytes([0]), plain), (bytes([128]), good)]
    whole = [first + bytes([0, 1, 0, 0, 0, 0]) + message for first, message in starts]
    return Target(hear, [*(first + bytes(6) for first, _ in starts), *whole])
