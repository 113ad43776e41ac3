"""The command `party serve`: everything checked, then served until it is told to stop."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from parties.certs import Identity, read
from parties.config import Config
from parties.contract_secure_sum import SECURE_SUM
from parties.errors import ConfigError, StorageError
from parties.model import Model, chosen, model
from parties.own import leakage_of_serving, own_identity, refuse_expired
from parties.people import digests_of
from parties.serving.answers import Answers
from parties.serving.applications import Applications
from parties.serving.cache import EmbeddingCache
from parties.serving.dial import Answering
from parties.serving.fresh import Fresh
from parties.serving.greeting import Host
from parties.serving.hub import PartnerHub
from parties.serving.partner import Partner
from parties.serving.rate import TokenBucket
from parties.serving.scorer import Scorer
from parties.serving.store import Store, users_of
from parties.serving.tally import Tally, scraped
from parties.spending import check_ledger
from parties.storage import locked
from splitnn.crossing import to_feature_holders
from splitnn.scoring import scores_alone

Say = Callable[[str], None]
DRAIN = 5.0
"""Seconds for requests that are under way when we are told to stop."""
LATE, SILENT = 2.0, 10.0
"""A partner is late when an answer takes so many deadlines, and hung up on after so many seconds."""


def serve_party(
    config: Config, run: str | None, say: Say, on_fresh: Callable[[Callable[[], None]], None]
) -> None:
    """Until KeyboardInterrupt, which ends it in good order. run: as `parties.model.chosen`. on_fresh: told
    what to call for the table to be read anew.

    Raises ConfigError, ContractError, DataError, IdError, IdentityError, NetworkError, StorageError,
    AccountError.
    """
    torch.set_num_threads(1)
    _refuse(config)
    with _alone(config):
        refuse_expired(config)
        check_ledger(config)
        trained, identity = model(config, chosen(config, run)), own_identity(config)
        users = users_of(config, trained)
        store = Store.read(config, trained, users)
        host = Host(identity, config.contract, trained.digest, digests_of(trained, [users])[-1])
        for line in [*identity.warnings(), *leakage_of_serving(config.contract)]:
            say(line)
        say(f"serves the model of run {trained.run.hex()[:12]}, digest {trained.digest.hex()[:12]}")
        again = partial(Store.read, config, trained, users)
        if config.role == "label holder":
            _label_holder(config, trained, host, store, users, again, say, on_fresh)
        else:
            _feature_holder(config, trained, host, store, again, say, on_fresh)


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


def _label_holder(
    config: Config,
    trained: Model,
    host: Host,
    store: Store,
    users: NDArray[np.uint8],
    again: Callable[[], Store],
    say: Say,
    on_fresh: Callable[[Callable[[], None]], None],
) -> None:
    keys, plan, names = config.party.serve, trained.plan, config.feature_holders
    if not scores_alone(trained.top(trained.run)):
        raise ConfigError(
            f"{config.party.contract}: the model has not learned to do without partners, so it could not "
            "answer when one is away; train with model.party_dropout (such as 0.1)"
        )
    assert keys.listen is not None
    assert keys.applications is not None
    deadline, crossings = keys.deadline_ms / 1000, to_feature_holders(plan, names, trained.run)
    partners = [
        Partner(
            name,
            crossings[name],
            EmbeddingCache(len(store.rows), plan.cut, keys.cache_rows, keys.cache_seconds),
            TokenBucket(keys.ids_per_second, max(keys.ids_per_second, 4096.0)),
            keys.hold_us / 1e6,
            LATE * deadline,
            SILENT,
            say,
        )
        for name in names
    ]
    target = trained.target()
    scorer = Scorer(config, trained, store, users, partners, target, keys.most_ids, deadline)
    tally = Tally()
    hub = PartnerHub(host, trained, keys.listen, {one.name: one for one in partners}, say)
    applications = Applications(
        host.identity,
        keys.applications,
        _client_ca(config, host.identity),
        keys.clients,
        scorer,
        trained.digest,
        target.names,
        tally,
        say,
    )

    def put(fresh: Store) -> None:
        scorer.store = fresh

    def look() -> tuple[Mapping[str, bool], Mapping[str, Mapping[str, int]]]:
        return (
            {one.name: one.there for one in partners},
            {one.name: one.counts.as_dict() for one in partners},
        )

    with ExitStack() as stack:
        stack.enter_context(scraped(config.party.metrics.listen, _about(config, trained), look, tally))
        fresh = stack.enter_context(Fresh(config.party.data.file, store, again, put, say))
        on_fresh(fresh.again)
        hub.open()
        stack.callback(hub.close)
        applications.open()
        stack.callback(applications.drain, DRAIN)
        say(f"answers applications at {keys.applications}; waits for {', '.join(names)} at {keys.listen}")
        _until_interrupted()
        say("stops: no more requests are taken")


def _feature_holder(
    config: Config,
    trained: Model,
    host: Host,
    store: Store,
    again: Callable[[], Store],
    say: Say,
    on_fresh: Callable[[Callable[[], None]], None],
) -> None:
    keys = config.party.serve
    assert keys.hub is not None
    cap = TokenBucket(keys.ids_per_second, max(keys.ids_per_second, 4096.0))
    answers = Answers(config, trained, store, cap)
    answering = Answering(host, trained, keys.hub, answers, say)
    hub = config.contract.label_holder

    def put(fresh: Store) -> None:
        answers.store = fresh

    def look() -> tuple[Mapping[str, bool], Mapping[str, Mapping[str, int]]]:
        counts = {"answered": answers.answered, "refused": answers.refused}
        return {hub: answering.there}, {hub: counts}

    with ExitStack() as stack:
        stack.enter_context(scraped(config.party.metrics.listen, _about(config, trained), look, None))
        fresh = stack.enter_context(Fresh(config.party.data.file, store, again, put, say))
        on_fresh(fresh.again)
        say(f"calls {hub} at {keys.hub}")
        try:
            answering.serve()
        except KeyboardInterrupt:
            answering.stop()
            say("stops: no more is answered")


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
