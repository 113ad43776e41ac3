"""The command `party serve`: everything checked, then served until it is told to stop."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch

from parties.certs import Identity, read
from parties.config import Config
from parties.contract_secure_sum import SECURE_SUM
from parties.errors import ConfigError, StorageError
from parties.excluded import told_of_excluded
from parties.model import Model, chosen
from parties.own import leakage_of_serving, own_identity, refuse_expired
from parties.serving.answers import Answers
from parties.serving.applications import Applications
from parties.serving.cache import EmbeddingCache
from parties.serving.dial import Answering
from parties.serving.fresh import Fresh, Rows
from parties.serving.hub import PartnerHub
from parties.serving.lookout import Lookout
from parties.serving.partner import Partner
from parties.serving.rate import TokenBucket
from parties.serving.scorer import Scorer
from parties.serving.served import EVERY, Follow, Served
from parties.serving.store import Store
from parties.serving.tally import Tally, scraped
from parties.spending import check_ledger
from parties.storage import locked
from splitnn.crossing import to_feature_holders
from splitnn.scoring import scores_alone

Say = Callable[[str], None]
OnHangup = Callable[[Callable[[], None]], None]
DRAIN = 5.0
"""Seconds for requests that are under way when we are told to stop."""
LATE, SILENT = 2.0, 10.0
"""A partner is late when an answer takes so many deadlines, and hung up on after so many seconds."""


def serve_party(config: Config, run: str | None, say: Say, on_hangup: OnHangup) -> None:
    """Until KeyboardInterrupt, which ends it in good order. run: as `parties.model.chosen`; None: also what
    is promoted later. on_hangup: told what to call for table and promotions to be looked at anew.

    Raises ConfigError, ContractError, DataError, IdError, IdentityError, NetworkError, StorageError,
    AccountError.
    """
    torch.set_num_threads(1)
    _refuse(config)
    with _alone(config):
        refuse_expired(config)
        check_ledger(config)
        identity = own_identity(config)
        first = Served.read(config, identity, chosen(config, run))
        for line in [*identity.warnings(), *leakage_of_serving(config.contract)]:
            say(line)
        say(f"serves {first}")
        gc.freeze()  # what is here stays: no request waits while it is looked through for what has gone
        half = _label_holder if config.role == "label holder" else _feature_holder
        half(config, first, run is None, say, on_hangup)


def _refuse(config: Config) -> None:
    """What cannot be served, before anything is read. Raises ConfigError."""
    keys, contract = config.party.serve, config.contract
    if contract.model.fusion == SECURE_SUM:
        raise ConfigError(
            f"{config.party.contract}: model.fusion = 'secure-sum' cannot be served online: with a partner "
            "absent the label holder would learn what the sum hides; score in batches, with `party predict`"
        )
    needed: dict[str, object] = {"hub": keys.hub}
    if config.role == "label holder":
        needed = {"listen": keys.listen, "applications": keys.applications, "clients": keys.clients}
    missing = [
        f"{config.path}: serve.{key}: missing; see docs/serve.md"
        for key, value in needed.items()
        if not value
    ]
    if missing:
        raise ConfigError("\n".join(missing))
    pinned = {party.key for party in contract.parties.values()}
    if pinned & {*keys.clients}:
        raise ConfigError(
            f"{config.path}: serve.clients: names the key of a party of run.toml; applications have their own"
        )


@contextmanager
def _alone(config: Config) -> Iterator[None]:
    """Raises StorageError where another process serves from this storage."""
    try:
        with locked(config.party.storage, f"{config.name}.serve"):
            yield
    except StorageError as error:
        if "holds" not in str(error):
            raise
        raise StorageError(
            f"another `party serve` of {config.name} runs with {config.party.storage}; stop that one"
        ) from None


def _scorer(config: Config, served: Served, say: Say) -> Scorer:
    """The label holder's half of a version. Raises ConfigError where it needs all parties."""
    keys, trained, names = config.party.serve, served.trained, config.feature_holders
    if not scores_alone(trained.top(trained.run)):
        raise ConfigError(
            f"{config.party.contract}: the model has not learned to do without partners, so it could not "
            "answer when one is away; train with model.party_dropout (such as 0.1)"
        )
    deadline, crossings = keys.deadline_ms / 1000, to_feature_holders(trained.plan, names, trained.run)
    partners = [
        Partner(
            name,
            crossings[name],
            EmbeddingCache(len(served.users), trained.plan.cut, keys.cache_rows, keys.cache_seconds),
            TokenBucket(keys.ids_per_second, max(keys.ids_per_second, 4096.0)),
            keys.hold_us / 1e6,
            LATE * deadline,
            SILENT,
            say,
        )
        for name in names
    ]
    return Scorer(config, trained, served.store, served.users, partners, keys.most_ids, deadline)


def _label_holder(config: Config, first: Served, promotions: bool, say: Say, on_hangup: OnHangup) -> None:
    keys, names, tally, identity = config.party.serve, config.feature_holders, Tally(), first.host.identity
    assert keys.listen is not None
    assert keys.applications is not None
    scorer = _scorer(config, first, say)
    hub = PartnerHub(first.host, first.trained, keys.listen, {one.name: one for one in scorer.partners}, say)
    applications = Applications(
        identity, keys.applications, _client_ca(config, identity), keys.clients, scorer, tally, say
    )

    def fresh_of(served: Served, scorer: Scorer) -> Fresh:
        return _fresh(config, served, lambda store: setattr(scorer, "store", store), say)

    def put(served: Served) -> None:
        scorer = _scorer(config, served, say)
        applications.scorer = scorer
        hub.serve(served.host, served.trained, {one.name: one for one in scorer.partners})
        rows.replace(fresh_of(served, scorer))
        about["model"] = served.trained.digest.hex()

    def look() -> tuple[Mapping[str, bool], Mapping[str, Mapping[str, int]]]:
        partners = applications.scorer.partners
        return (
            {one.name: one.there for one in partners},
            {one.name: one.counts.as_dict() for one in partners},
        )

    about = _about(config, first.trained)
    with ExitStack() as stack:
        stack.enter_context(scraped(config.party.metrics.listen, about, look, tally))
        hub.open()
        stack.callback(hub.close)
        applications.open()
        stack.callback(applications.drain, DRAIN)
        rows = stack.enter_context(Rows(fresh_of(first, scorer)))
        follow = stack.enter_context(Lookout("follow", Follow(first, promotions, put, say).look, EVERY))
        on_hangup(lambda: _again(rows, follow))
        say(f"answers applications at {keys.applications}; waits for {', '.join(names)} at {keys.listen}")
        _until_interrupted()
        say("stops: no more requests are taken")


def _feature_holder(config: Config, first: Served, promotions: bool, say: Say, on_hangup: OnHangup) -> None:
    keys, hub = config.party.serve, config.contract.label_holder
    assert keys.hub is not None
    cap = TokenBucket(keys.ids_per_second, max(keys.ids_per_second, 4096.0))

    def answers_of(served: Served) -> Answers:
        return Answers(config, served.trained, served.store, served.users, cap)

    def fresh_of(served: Served, answers: Answers) -> Fresh:
        return _fresh(config, served, lambda store: setattr(answers, "store", store), say)

    answers = answers_of(first)
    answering = Answering(first.host, first.trained, keys.hub, answers, say)

    def put(served: Served) -> None:
        answers = answers_of(served)
        answering.switch(served.host, served.trained, answers)
        rows.replace(fresh_of(served, answers))
        about["model"] = served.trained.digest.hex()

    def look() -> tuple[Mapping[str, bool], Mapping[str, Mapping[str, int]]]:
        answers = answering.serves.answers
        return {hub: answering.there}, {hub: {"answered": answers.answered, "refused": answers.refused}}

    about = _about(config, first.trained)
    with ExitStack() as stack:
        stack.enter_context(scraped(config.party.metrics.listen, about, look, None))
        rows = stack.enter_context(Rows(fresh_of(first, answers)))
        follow = stack.enter_context(Lookout("follow", Follow(first, promotions, put, say).look, EVERY))
        on_hangup(lambda: _again(rows, follow))
        say(f"calls {hub} at {keys.hub}")
        try:
            answering.serve()
        except KeyboardInterrupt:
            answering.stop()
            say("stops: no more is answered")


def _again(rows: Rows, follow: Lookout) -> None:
    rows.again()
    follow.again()


def _fresh(config: Config, served: Served, put: Callable[[Store], None], say: Say) -> Fresh:
    def read() -> Store:
        return Store.read(replace(config), served.trained, served.users)  # what a query gives now

    def exclude(store: Store) -> Store:
        return store.excluding(config, served.trained, served.users)

    if served.store.excluded is not None:
        say(told_of_excluded(served.store.excluded.facts()))
    return Fresh(config.source, served.store, read, put, say, exclude)


def _client_ca(config: Config, identity: Identity) -> bytes:
    own = config.party.serve.client_ca
    return identity.ca if own is None else read(own)


def _about(config: Config, trained: Model) -> dict[str, str]:
    return {"party": config.name, "role": config.role, "model": trained.digest.hex()}


def _until_interrupted() -> None:
    try:
        while True:
            time.sleep(3600.0)
    except KeyboardInterrupt:
        return
