"""What a peer, or a damaged file, can hand to this program: a target for each decoder.

A target takes any bytes. It raises nothing where they are taken or refused by the error that is documented,
and what it raises otherwise is a finding. `tests/fuzz/test_targets.py` runs each for a moment,
`tests/fuzz/run.py` (make fuzz) for as long as one likes.
"""

import inspect
import itertools
import math
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import psi
from parties.certificate import key_fingerprint, verify
from parties.difference import first_difference
from parties.errors import AlignmentError, ContractError, IdentityError
from parties.examples import agree_on_examples
from parties.handshake import Brings, Meeting, handshake
from parties.previous import NOTHING, Previous
from parties.same_alignment import compare
from parties.seal import Seal
from parties.terms import settle
from protos.memory import together
from protos.rounds import RemoteProtocolError, Resume, Rounds, Save
from psi import buckets
from psi.conformance.trial import Trial, named, populate
from splitnn.codecs import BF16, FP32, INT8, Kept, RandTopk
from splitnn.crossing import Codecs
from splitnn.errors import TrainingError
from splitnn.features import Features
from splitnn.learner import Learner
from splitnn.masks import Masks
from splitnn.models import bottom_model
from splitnn.plan import Plan
from splitnn.schedule import Split, split_rows
from splitnn.schedules import SCHEDULES
from splitnn.secure_sum import SECURE_SUM
from splitnn.tasks import Labels
from splitnn.tensors import decode, encode
from tests.fuzz.files import audit_log, checkpoint_file, released_log, rows_file, run_json, status_json
from tests.fuzz.replay import Replay
from tests.fuzz.serving import score_request, to_feature_holder, to_label_holder
from tests.fuzz.streams import greeting, line, link
from tests.fuzz.target import HUB, NAMES, Target, contract_of, identities, patched, several


def hellos() -> Target:
    identity = identities()
    contract = contract_of(identity)

    def party(name: str, before: Previous) -> Rounds[Meeting]:
        exchange = X25519PrivateKey.from_private_bytes(name.encode().ljust(32))
        brings = Brings("run", ["ecdh"], ["email"], previous=before)
        return handshake(name, contract, identity[name], name.encode().ljust(32), exchange, brings)

    def judge(meeting: Meeting) -> None:
        assert {*meeting.signatures} >= {*NAMES}
        assert len(meeting.run) == 32
        assert meeting.common == NOTHING or meeting.common.run == meeting.run

    typed, replays = (ContractError, IdentityError), []
    for before in (NOTHING, Previous(b"r" * 32, True, (1, 2, 5))):

        def parties(before: Previous = before) -> dict[str, Rounds[Meeting]]:
            return {name: party(name, before) for name in NAMES}

        replays += [Replay.record(parties, me, typed, judge) for me in (HUB, "logistics")]
    return several(*replays)


def terms() -> Target:
    identity = identities()
    protocols = {name: psi.load(name) for name in ("ecdh", "rr22")}
    meeting = Meeting(bytes(32), "email", frozenset(protocols), {}, b"", {})
    replays = []
    for chosen in ({"protocol": "ecdh", "largest_ratio": 100}, {"protocol": "auto", "hide_sizes": True}):
        contract = contract_of(identity, psi={"at_most": 1000, **chosen})

        def parties(contract: Any = contract) -> dict[str, Rounds[Any]]:
            return {name: settle(name, contract, meeting, protocols, 50) for name in NAMES}

        replays += [Replay.record(parties, me, (AlignmentError,)) for me in (HUB, "logistics")]
    return several(*replays)


def examples() -> Target:
    contract = contract_of(identities(), examples={"per_entity": "several", "at_most": 50})
    ids = psi.normalise([[[10, 20, 10, 30, 40]]], ["id"], ["integer"], b"key")
    split = Split(torch.tensor([2, 0]), torch.tensor([3]), torch.tensor([1]))

    def parties() -> dict[str, Rounds[Any]]:
        rows = np.array([3, 0, 4, 1])
        return {name: agree_on_examples(name, contract, ids, rows, split, b"own") for name in NAMES}

    def judge(agreed: Any) -> None:
        assert len(agreed) <= 50

    return several(Replay.record(parties, "logistics", (AlignmentError,), judge))


def compared() -> Target:
    contract = contract_of(identities())

    def parties() -> dict[str, Rounds[None]]:
        same = np.zeros((3, 16), np.uint8)
        return {name: compare(name, contract, bytes(32), same) for name in NAMES}

    return several(*(Replay.record(parties, me) for me in (HUB, "logistics")))


def alignment(name: str) -> Target:
    """A protocol of private set intersection, at its leader and at its last client."""
    trial = Trial(psi.load(name), 0, 20)
    replays = []
    for count in trial.parties(2, 3):
        sets = populate([2**count - 1] * 4 + [1 << at for at in range(count)] * 2, count, random.Random(0))
        begin = partial(trial.rounds, sets, 0)
        for me, own in ((("lead", sets[0])), (("lead", "b", "c")[count - 1], sets[-1])):

            def judge(rows: Any, own: Any = own) -> None:
                assert rows.dtype == np.int64
                assert len({*named(own, rows)}) == len(rows)

            replays.append(Replay.record(begin, me, judge=judge))
    return several(*replays)


def in_buckets() -> Target:
    """The messages around the buckets, of a restart, over a protocol in the clear."""
    setting = psi.Setting("", ("lead", "b", "c"), bytes(32), 100, lambda size: b"x" * size)
    draw = random.Random(1)
    sets = populate([7] * 6 + [1, 2, 4], 3, draw)
    states: dict[str, list[Resume]] = {name: [] for name in setting.parties}

    def parties(resumed: bool = True) -> dict[str, Rounds[Any]]:
        made = {}
        for me, own in zip(setting.parties, sets, strict=True):
            seeded = random.Random(me)
            its = replace(setting, me=me, random=seeded.randbytes)
            resume = states[me][0] if resumed else None
            made[me] = buckets.align(psi.load("insecure-hash"), its, own, 3, None, resume)
        return made

    def keep(name: str, word: Any) -> None:
        if isinstance(word, Save):
            states[name].append(Resume(word.step, word.state()))

    together(parties(resumed=False), keep)
    return several(*(Replay.record(parties, me) for me in ("lead", "c")))


def learning(schedule: str, codec: Codecs, **options: Any) -> Target:
    """Everything that crosses in a training, at the label holder and at a feature holder."""
    plan = Plan(
        b"public", cut=4, bottom_hidden=(3,), top_hidden=(3,), batch=8, epochs=2, dropout=0.0, codec=codec,
        schedule=schedule, in_flight=2, **({"importance": "columns"} | options),
    )  # fmt: skip
    draw = torch.Generator().manual_seed(0)
    features = {
        name: Features(torch.randn(30, 2, generator=draw), torch.zeros(30, 0, dtype=torch.int64), ())
        for name in ("p0", "p1", "p2")
    }
    rows = split_rows(30, 0.2, 0.2, b"public")
    labels = Labels(*(torch.arange(len(part), dtype=torch.float32) % 2 for part in rows))
    chosen = SCHEDULES[schedule]

    def parties() -> dict[str, Rounds[Any]]:
        made: dict[str, Rounds[Any]] = {
            "p0": chosen.label_holder(plan, rows, features["p0"], labels, ["p1", "p2"], b"p0")
        }
        holders = ("p1", "p2")
        for name in holders:
            more = {}
            if plan.fusion == SECURE_SUM:
                pairs = dict.fromkeys(set(holders) - {name}, b"what both share")
                more["masks"] = Masks(name, holders, pairs, b"r" * 32, b"a" * 32)
            made[name] = chosen.feature_holder(plan, rows, features[name], "p0", name.encode(), **more)
        return made

    def weights(rounds: Any) -> Any:
        module = inspect.getgeneratorlocals(rounds)["learner"].module
        return module, {key: value.clone() for key, value in module.state_dict().items()}

    def judge(result: Any) -> None:
        assert all(torch.isfinite(value).all() for value in result.bottom.state_dict().values())

    return several(*(Replay.record(parties, me, (TrainingError,), judge, weights) for me in ("p0", "p1")))


def tensors() -> Target:
    codecs: list[Any] = [FP32, BF16, INT8, RandTopk(2, 0.1)]
    shapes = [(2, 5), (1, 9), (3, 16)]
    cases = list(itertools.product(codecs, shapes))

    def hear(data: bytes) -> None:
        case = (data[0] if data else 0) % len(cases)
        codec, shape = cases[case]
        try:
            item = decode(patched(good[case], data[1:]), "it", shape, 7, codec)
        except RemoteProtocolError:
            return
        assert tuple(item.shape) == shape
        dense = item.dense() if isinstance(item, Kept) else item
        assert torch.isfinite(dense).all()

    good = []
    for codec, shape in cases:
        item = torch.arange(math.prod(shape), dtype=torch.float32).reshape(shape)
        good.append(encode(codec.choose(item, None) if codec.number == 3 else item, 7, codec))
    return Target(hear, [bytes([at]) + bytes(6) for at in range(len(cases))])


def contracts() -> Target:
    own = contract_of(identities()).canonical

    def hear(data: bytes) -> None:
        there = patched(own, data)
        try:
            told = first_difference(own, there, "logistics")
        except RemoteProtocolError:
            return
        assert told is None or (told.isprintable() and len(told) < 1000)

    return Target(hear, [bytes(6), bytes([0, 1, 0, 0, 0, 0]) + own])


def seal() -> Target:
    sealed = Seal(b"k" * 32, b"l" * 32, b"m" * 32).close("word", b"something said")

    def hear(data: bytes) -> None:
        closed = patched(sealed, data)
        own = Seal(b"l" * 32, b"k" * 32, b"m" * 32)
        try:
            assert own.open("word", closed) == b"something said"
        except ValueError:
            assert own == Seal(b"l" * 32, b"k" * 32, b"m" * 32)

    return Target(hear, [bytes(6), bytes([0, 1, 0, 0, 0, 0]) + sealed])


def certificate() -> Target:
    good = identities()["logistics"].certificate_der

    def hear(data: bytes) -> None:
        der = patched(good, data)
        try:
            key_fingerprint(der)
            verify(der, b"said", b"signed")
        except ValueError:
            return

    return Target(hear, [bytes(6), bytes([0, 1, 0, 0, 0, 0]) + good])


def checkpoint() -> Target:
    """`Learner.load`: what it takes, training can go on from."""
    plan = Plan(b"public", cut=2, bottom_hidden=(3,), batch=4, epochs=3, dropout=0.1)

    def learner() -> Learner:
        return Learner(plan, bottom_model(plan, 2, (3,), b"seed"), 4)

    trained = learner()
    for epoch in range(2):
        trained.module(torch.ones(4, 2), torch.zeros(4, 1, dtype=torch.int64)).sum().backward()
        trained.step()
        trained.end_epoch(improved=not epoch, stop=False)
    state = trained.state()

    def hear(data: bytes) -> None:
        damaged = patched(state, data)
        loaded = learner()
        try:
            loaded.load(damaged)
        except TrainingError:
            return
        loaded.module(torch.ones(4, 2), torch.zeros(4, 1, dtype=torch.int64)).sum().backward()
        loaded.step()
        loaded.end_epoch(improved=False, stop=False)
        if loaded.position.best_epoch:
            loaded.restore_best()
        loaded.state()

    return Target(hear, [bytes(6), bytes([0, 1, 0, 0, 0, 0]) + state])


TARGETS: dict[str, Callable[[], Target]] = {
    "line": line,
    "link": link,
    "greeting": greeting,
    "handshake": hellos,
    "certificate": certificate,
    "contract": contracts,
    "terms": terms,
    "examples": examples,
    "aligned": compared,
    "seal": seal,
    "psi-ecdh": partial(alignment, "ecdh"),
    "psi-rr22": partial(alignment, "rr22"),
    "psi-dh": partial(alignment, "dh"),
    "psi-insecure-hash": partial(alignment, "insecure-hash"),
    "psi-buckets": in_buckets,
    "tensor": tensors,
    "train-exact": partial(learning, "exact", Codecs()),
    "train-secure-sum": partial(learning, "exact", Codecs(), fusion=SECURE_SUM, importance="none"),
    "train-pipelined": partial(learning, "pipelined", Codecs("int8", "bf16")),
    "train-fedbcd": partial(learning, "fedbcd", Codecs("randtopk", "int8", keep=2), local_steps=2),
    "train-celu": partial(learning, "celu", Codecs(), party_dropout=0.2),
    "checkpoint": checkpoint,
    "checkpoint-file": checkpoint_file,
    "run.json": run_json,
    "alignment.parquet": partial(rows_file, "alignment"),
    "bucket.parquet": partial(rows_file, "bucket"),
    "status.json": status_json,
    "audit.jsonl": audit_log,
    "released.jsonl": released_log,
    "serve-label-holder": to_label_holder,
    "serve-feature-holder": to_feature_holder,
    "serve-request": score_request,
}
"""By name; each is made when it is first needed."""
