"""Small federations, each prepared once: what its parties have read of their own files, and what a run with
nothing going wrong leaves. Every seed runs in a storage of its own, from the same beginning."""

import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partialmethod
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import sklearn
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from parties import certs
from parties.changes import described
from parties.config import Config, load
from parties.phases import Outcome, Prepared, prepare
from protos.rounds import Rounds

PARTIES = ("platform", "logistics", "advertiser", "insurer")
RUN_ID = bytes(range(32))

CONTRACT = """version = 1
name = "faults"
label_holder = "platform"
seed = 3
ids.type = "email"
evaluation = {{ validation = 0.3, test = 0.3, importance = "none"{evaluation} }}
psi = {{ protocol = "{psi}", allow_insecure = true, minimum = 10 }}
model = {{ task = "{task}", cut = 2, bottom_hidden = [3], top_hidden = [16], dropout = 0.2{model} }}
training = {{ batch = 8, epochs = {epochs}, patience = 9, learning_rate = 0.01{training} }}
{further}
"""
PARTY = """contract = "../run.toml"
party = "{name}"
data = {{ file = "table.csv", id = "email", numeric = ["x"], categorical = ["c"]{bags}, {label} }}
tls = {{ ca = "../ca.pem", certificate = "../{name}.pem", key = "../{name}.key" }}
link = {{ {link} }}
"""


@dataclass(frozen=True)
class Shape:
    """Of a federation. buckets: most ids in one of an alignment's, None for the product's own number."""

    parties: int = 3
    people: int = 45
    epochs: int = 2
    task: str = "regression"
    psi: str = "insecure-hash"
    training: str = ""
    model: str = ""
    evaluation: str = ""
    further: str = ""
    several: bool = False
    buckets: int | None = None


SHAPES: dict[str, Shape] = {
    "plain": Shape(),
    "two": Shape(2, epochs=4),
    "buckets": Shape(2, people=60, buckets=24),
    "pipelined": Shape(2, training=', schedule = "pipelined", in_flight = 2'),
    "fedbcd": Shape(2, training=', schedule = "fedbcd", local_steps = 2'),
    "celu": Shape(2, training=', schedule = "celu", cache = 2, reuse = 1, in_flight = 1'),
    "int8": Shape(
        2,
        task="binary",
        further='codec = { activations = "int8", gradients = "int8" }\n'
        'privacy = { label_defence = "marvell", label_strength = 1.0 }',
    ),
    "randtopk": Shape(3, further='codec = { activations = "randtopk", keep = 1 }'),
    "several": Shape(2, further='examples.per_entity = "several"', several=True),
    "four": Shape(4),
    "retrained": Shape(
        3, evaluation=', contribution = "retrain"', further='privacy.purpose = "to see what each brings"'
    ),
    "secure sum": Shape(3, model=', fusion = "secure-sum"'),
    "noise": Shape(
        3,
        task="binary",
        further="privacy = { embedding_clip = 1.0, embedding_sigma = 4.0, embedding_budget = 9.0, "
        "label_epsilon = 3.0, label_budget = 3.0 }",
    ),
    "ecdh": Shape(3, psi="ecdh"),
    "rr22": Shape(2, psi="rr22"),
}
OFTEN = ["plain"] * 8 + ["two"] * 6 + ["buckets"] * 4 + [*SHAPES]
"""What a seed draws from: the plain ones are the fastest."""


@dataclass(frozen=True)
class World:
    """A federation. own: what each party's run depends on (`parties.changes`)."""

    shape: Shape
    prepared: dict[str, Prepared]
    own: dict[str, dict[str, Any]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.prepared)

    def at(self, storage: Path, name: str) -> Prepared:
        """The same party with another storage."""
        prepared = self.prepared[name]
        party = prepared.config.party.model_copy(update={"storage": storage / name})
        return replace(prepared, config=replace(prepared.config, party=party))


def no_baselines(prepared: Prepared, outcome: Outcome) -> Rounds[dict[str, Any]]:
    return {}
    yield


@contextmanager
def small(shape: Shape) -> Iterator[None]:
    """What is too large for a simulation, or would only cost time there: a checkpoint every epoch, small
    buckets, no baselines, no thread but this one; and signatures that are the same each time."""
    with (
        sklearn.config_context(assume_finite=True, skip_parameter_validation=True),
        patch.object(certs.Identity, "sign", sign),
        patch("parties.checkpoints.STEPS", 1),
        patch("parties.train.baselines", no_baselines),
        patch("psi.cores.available", lambda: 1),
        patch("time.time", lambda: 1.8e9),  # a log of another length would be cut at another place
        patch("psi.buckets.LARGEST", shape.buckets or 1 << 20),
    ):
        yield


def issue(folder: Path, names: Iterable[str]) -> None:
    """Certificates that are the same bytes every time: what is hashed from them is of the seed alone."""
    draw = random.Random(7)

    def key() -> ec.EllipticCurvePrivateKey:
        return ec.derive_private_key(draw.getrandbits(250), ec.SECP256R1())

    sign = partialmethod(x509.CertificateBuilder.sign, ecdsa_deterministic=True)
    with (
        patch("parties.authority.new_key", key),
        patch("cryptography.x509.random_serial_number", lambda: draw.getrandbits(150)),
        patch("cryptography.x509.CertificateBuilder.sign", sign),
    ):
        certs.issue(folder, names, days=36_500, now=datetime(2026, 1, 1, tzinfo=UTC))


def sign(self: certs.Identity, data: bytes) -> bytes:
    """As `Identity.sign`, but the same each time (RFC 6979)."""
    return certs.read_key(self.key, self.key_file).sign(
        data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True)
    )


def make(folder: Path, shape: Shape) -> World:
    """In a new folder."""
    torch.set_num_threads(1)
    label = 'label = "y", positive = [1]' if shape.task == "binary" else 'label = "y"'
    names, draw = PARTIES[: shape.parties], random.Random(5)
    issue(folder, names)
    contract = CONTRACT.format(
        psi=shape.psi,
        task=shape.task,
        epochs=shape.epochs,
        training=shape.training,
        model=shape.model,
        evaluation=shape.evaluation,
        further=shape.further,
    )
    for name in names:
        pin = certs.key_fingerprint((folder / f"{name}.pem").read_bytes())
        contract += f'[parties.{name}]\nkey = "{pin}"\n'
    (folder / "run.toml").write_text(contract)
    prepared = {}
    for index, name in enumerate(names):
        people = [number for number in range(shape.people) if number % 9 != index]
        draw.shuffle(people)
        if shape.several and not index:
            people += people[::3]
        frame = pd.DataFrame({"email": [f"person{number}@mail.example" for number in people]})
        frame["x"] = [draw.random() for _ in people]
        frame["c"] = [draw.choice("pqr") for _ in people]
        frame["seen"] = [" ".join(draw.choices("stu", k=draw.randrange(4))) for _ in people]
        frame["y"] = [number % 2 for number in people]
        (folder / name).mkdir()
        frame.to_csv(folder / name / "table.csv", index=False)
        party = PARTY.format(
            name=name,
            bags=', bags.seen = " "' if shape.several else "",
            label=label if not index else 'exclude = ["y"]',
            link='listen = "127.0.0.1:1"' if not index else 'hub = "127.0.0.1:1"',
        )
        if not shape.several:
            party = party.replace('exclude = ["y"]', 'exclude = ["y", "seen"]')
            party = party.replace('label = "y"', 'exclude = ["seen"], label = "y"')
        (folder / name / "party.toml").write_text(party)
        prepared[name] = prepare(config_of(folder, name))
    return World(shape, prepared, {name: described(one.config) for name, one in prepared.items()})


def config_of(folder: Path, name: str) -> Config:
    return load(folder / name / "party.toml")
