"""Two small companies with a trained model, and their halves of serving, over real gRPC in this process."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import torch

from parties import certs
from parties.address import Address
from parties.config import load
from parties.model import Model, model
from parties.own import own_identity
from parties.people import digests_of
from parties.serving.answers import Answers
from parties.serving.applications import SERVICE, Applications
from parties.serving.cache import EmbeddingCache
from parties.serving.dial import Answering
from parties.serving.greeting import Host
from parties.serving.hub import PartnerHub
from parties.serving.partner import Partner
from parties.serving.rate import TokenBucket
from parties.serving.scorer import Scorer
from parties.serving.store import Store, users_of
from parties.serving.tally import Tally
from protos.serving_pb2 import Id, ScoreRequest, ScoreResponse
from splitnn.crossing import to_feature_holders
from tests.parties import small

HUB, PARTNER = "platform", "logistics"
PEOPLE = small.PEOPLE


@pytest.fixture(scope="session")
def trained(
    tmp_path_factory: pytest.TempPathFactory, certificates: Path, identities: dict[str, certs.Identity]
) -> dict[str, Model]:
    """Each party's part of a model that has learned to do without the other."""
    root = tmp_path_factory.mktemp("trained")
    asked = {HUB: 'evaluation.calibration = "temperature"\n'}
    homes = small.write(root, certificates, identities, asked)
    made = "{ cut = 3, bottom_hidden = [6], top_hidden = [16], party_dropout = 0.3 }"
    small.agree(homes, identities, model=made)
    found = small.run(homes)
    return {
        name: model(load(home / "party.toml"), small.folder_of(home, found[name]))
        for name, home in homes.items()
    }


@dataclass
class Serving:
    """The label holder's half; `answer` starts the partner's."""

    trained: dict[str, Model]
    scorer: Scorer
    partner: Partner
    hub: PartnerHub
    applications: Applications
    tally: Tally
    client: certs.Identity
    said: list[str] = field(default_factory=list)
    stack: ExitStack = field(default_factory=ExitStack)

    def answers(self, per_second: float = 1e9) -> Answers:
        theirs = self.trained[PARTNER]
        users = users_of(theirs.config, theirs)
        store, cap = Store.read(theirs.config, theirs, users), TokenBucket(per_second, per_second)
        return Answers(theirs.config, theirs, store, users, cap)

    def answering(
        self, answers: Answers | None = None, digest: bytes | None = None, people: bytes | None = None
    ) -> Answering:
        theirs = self.trained[PARTNER]
        users = users_of(theirs.config, theirs)
        people = people or digests_of(theirs, [users])[-1]
        host = Host(own_identity(theirs.config), theirs.config.contract, digest or theirs.digest, people)
        where = Address("127.0.0.1", self.hub.port)
        return Answering(host, theirs, where, answers or self.answers(), self.said.append)

    def answer(self, answers: Answers | None = None) -> Answering:
        """Until the partner is there."""
        one = self.answering(answers)
        thread = threading.Thread(target=one.serve, daemon=True)
        thread.start()
        self.stack.callback(thread.join, 5.0)
        self.stack.callback(one.stop)
        until(lambda: self.partner.there)
        return one

    def ask(
        self,
        ids: list[Any],
        timeout: float | None = 5.0,
        identity: certs.Identity | None = None,
        **context: str,
    ) -> ScoreResponse:
        parts = [Id(parts=one if isinstance(one, list) else [str(one)]) for one in ids]
        request = ScoreRequest(ids=parts, context=context)
        return ScoreResponse.FromString(self.send(request.SerializeToString(), timeout, identity))

    def send(
        self, request: bytes, timeout: float | None = 5.0, identity: certs.Identity | None = None
    ) -> bytes:
        own = identity or self.client
        credentials = grpc.ssl_channel_credentials(own.ca, own.key, own.certificate)
        options = [("grpc.ssl_target_name_override", HUB), ("grpc.enable_http_proxy", 0)]
        with grpc.secure_channel(f"127.0.0.1:{self.applications.port}", credentials, options) as channel:
            answer: bytes = channel.unary_unary(f"/{SERVICE}/Score")(request, timeout=timeout)
            return answer


def scores(found: ScoreResponse) -> np.ndarray:
    return np.array([one.score[0] for one in found.scored])


def who(found: ScoreResponse) -> list[list[str]]:
    return [[*found.took_part[one.took_part].parties] for one in found.scored]


def until(condition: Callable[[], bool], within: float = 10.0) -> None:
    waiting = threading.Event()
    for _ in range(int(within * 100)):
        if condition():
            return
        waiting.wait(0.01)
    pytest.fail("it never came to be")


@pytest.fixture(scope="session")
def client(certificates: Path) -> certs.Identity:
    certs.issue(certificates, ["webshop"])
    files = (certificates / "ca.pem", certificates / "webshop.pem", certificates / "webshop.key")
    return certs.load(*files, "webshop")


@pytest.fixture
def serving(trained: dict[str, Model], client: certs.Identity) -> Iterator[Callable[..., Serving]]:
    """Made with the seconds that a request waits, and those that the cache keeps."""
    torch.set_num_threads(1)
    stack = ExitStack()

    def make(deadline: float = 2.0, cached: float = 0.0, most: int = 300, rate: float = 1e9) -> Serving:
        ours = trained[HUB]
        config = ours.config
        users = users_of(config, ours)
        store, said = Store.read(config, ours, users), list[str]()
        crossing = to_feature_holders(ours.plan, [PARTNER], ours.run)[PARTNER]
        cache = EmbeddingCache(len(store.rows), ours.plan.cut, 10_000, cached)
        partner = Partner(
            PARTNER, crossing, cache, TokenBucket(rate, rate), 3e-4, 2 * deadline, 10.0, said.append
        )
        scorer = Scorer(config, ours, store, users, [partner], most, deadline)
        host = Host(own_identity(config), config.contract, ours.digest, digests_of(ours, [users])[-1])
        hub = PartnerHub(host, ours, free(), {PARTNER: partner}, said.append)
        tally = Tally()
        applications = Applications(
            host.identity, free(), host.identity.ca, [client.fingerprint], scorer,
            tally, said.append,
        )  # fmt: skip
        made = Serving(trained, scorer, partner, hub, applications, tally, client, said, stack)
        hub.open()
        stack.callback(hub.close)
        applications.open()
        stack.callback(applications.drain, 1.0)
        return made

    with stack:
        yield make


def free() -> Address:
    """Where the system finds a port as somebody listens."""
    return Address("127.0.0.1", 0)


@pytest.fixture(scope="session")
def offline(trained: dict[str, Model]) -> np.ndarray:
    """The score of each person by all parties, as one process with both halves gives it."""
    cut = []
    for name in (HUB, PARTNER):
        one = trained[name]
        store = Store.read(one.config, one, users_of(one.config, one))
        with torch.no_grad():
            cut.append(one.bottom(one.run).eval()(*store.columns(store.rows)))
    ours = trained[HUB]
    with torch.no_grad():
        scores = ours.target().scores(ours.top(ours.run).eval()(cut))
    import pandas as pd

    people = pd.read_parquet(ours.folder / "alignment.parquet").filter(regex="^k|id").iloc[:, -1].astype(int)
    found = np.full(PEOPLE, np.nan)
    found[people.to_numpy()] = scores.numpy()
    return found
