"""The golden vectors of the wire: what docs/wire.md says in words, in bytes.

`python tests/vectors/make.py` writes them anew; `tests/test_vectors.py` fails where they are not what this
release says. A change here is a change of the wire: a new one of WIRE_VERSIONS comes with it.

Everything is drawn from SHAKE-256 of a name, signatures are those of RFC 6979, and all arithmetic on tensors
is of single products and sums of two, which every processor rounds alike.
"""

import hashlib
import json
import struct
import sys
import tomllib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from torch import Tensor, nn

import psi
from parties.certificate import key_fingerprint
from parties.certs import Identity
from parties.contract import Contract
from parties.handshake import Brings, handshake
from parties.id_kinds import digest_key
from parties.seal import seal_between
from parties.terms import settle
from protos.line import Line, chunks
from protos.memory import together
from protos.rounds import Receive, Rounds, Send
from psi import buckets
from psi.canonical import canonical
from splitnn.codecs import BF16, FP32, INT8, RandTopk
from splitnn.crossing import Codecs
from splitnn.features import Features
from splitnn.local import Local
from splitnn.plan import Plan
from splitnn.schedule import Split, batches, split_rows
from splitnn.schedules import SCHEDULES
from splitnn.stopping import epochs_between
from splitnn.tensors import encode

HERE = Path(__file__).parent
NAMES = ("advertiser", "logistics", "platform")
SINCE, UNTIL = datetime(2020, 1, 1, tzinfo=UTC), datetime(2120, 1, 1, tzinfo=UTC)


def drawn(name: str, size: int) -> bytes:
    return hashlib.shake_256(f"vertical test vector: {name}".encode()).digest(size)


def source(name: str) -> Callable[[int], bytes]:
    """A stream in place of the operating system's."""
    at = 0

    def random(size: int) -> bytes:
        nonlocal at
        at += size
        return drawn(name, at)[at - size :]

    return random


class FixedIdentity(Identity):
    """Signs the same text always alike (RFC 6979), with a key that everybody can compute."""

    @property
    def private(self) -> ec.EllipticCurvePrivateKey:
        return ec.derive_private_key(1 + int.from_bytes(drawn(self.party, 30), "big"), ec.SECP256R1())

    def sign(self, data: bytes) -> bytes:
        return self.private.sign(data, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


def identity(name: str) -> FixedIdentity:
    blank = FixedIdentity(name, b"", b"", b"", b"", Path(), Path(), UNTIL)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, blank.private.public_key(), 1, SINCE, UNTIL)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    certificate = builder.sign(blank.private, hashes.SHA256(), ecdsa_deterministic=True)
    return replace(blank, certificate_der=certificate.public_bytes(Encoding.DER))


def toml(more: str = "", names: Sequence[str] = NAMES) -> str:
    """A run.toml between these parties; `more` comes before the tables."""
    pins = {name: key_fingerprint(identity(name).certificate_der) for name in names}
    tables = "".join(f'[parties.{name}]\nkey = "{pin}"\n' for name, pin in pins.items())
    begin = 'version = 1\nname = "vectors"\nseed = 9007199254740993\nlabel_holder = "platform"\n'
    return f'{begin}ids.type = "email"\n{more}{tables}'


def contract_of(text: str) -> Contract:
    return Contract.model_validate(tomllib.loads(text))


# ---- one function a file


def contract() -> Any:
    texts = {
        "defaults": toml(),
        "numbers": toml(
            "training.learning_rate = 1\ntraining.clip_norm = 5e-7\nmodel.dropout = 0.1\n"
            "codec = { activations = 'randtopk', keep = 3, gradients = 'int8' }\n"
        ),
        "kinds of id": toml().replace(
            'ids.type = "email"\n',
            "ids = [{ name = 'person', types = ['string', 'integer'] }, { type = 'phone' }]\n",
        ),
    }
    found = {}
    for name, text in texts.items():
        made = contract_of(text)
        found[name] = {"toml": text, "canonical": made.canonical.decode(), "digest": made.digest.hex()}
    return found


def frames() -> Any:
    """What one end of a line says: each frame with its fields, in the order in which it is sent."""
    line, other = Line(session=0x5E551011), Line(session=0x5E551011, incarnation=0x1CA43A71)
    said = [line.heartbeat("logistics", "platform")]
    line.incarnation = other.incarnation
    said.append(line.post("logistics", "platform", "hello", 0, True, b"payload"))
    assert line.accept(other.post("platform", "logistics", "hellos", 0, True, b""))
    line.bind(drawn("run", 32))
    for chunk, (part, last) in enumerate(chunks(b"in three chunks", 6)):
        said.append(line.post("logistics", "platform", "tags", chunk, last, part))
    said.append(line.post("logistics", "advertiser", "pair key", 0, True, b"sealed, relayed"))
    said.append(line.post("logistics", "platform", "link/done", 0, True, b"logistics"))
    said.append(line.post("logistics", "platform", "link/failed", 0, True, b"logistics cancelled"))
    said.append(line.heartbeat("logistics", "platform"))
    return [
        {field.name: _plain(getattr(frame, field.name)) for field in frame.DESCRIPTOR.fields}
        | {"hex": frame.SerializeToString().hex()}
        for frame in said
    ]


def handshakes() -> Any:
    agreed = contract_of(toml())
    parties = {}
    found: dict[str, Any] = {"contract": agreed.canonical.decode(), "parties": {}}
    for name in NAMES:
        exchange, who = drawn(f"exchange {name}", 32), identity(name)
        key = X25519PrivateKey.from_private_bytes(exchange)
        brings = Brings("run", ["ecdh", "rr22"], ["email"])
        parties[name] = handshake(name, agreed, who, drawn(f"nonce {name}", 32), key, brings)
        found["parties"][name] = {
            "exchange key, private": exchange.hex(),
            "signing key, private": f"{who.private.private_numbers().private_value:064x}",
            "certificate": who.certificate_der.hex(),
        }
    done = together(parties)
    meeting = done.results["platform"]
    found["transcript"] = _transcript(done.transcript)
    found["run"], found["agreed"] = meeting.run.hex(), meeting.agreed.hex()
    return found


def seal() -> Any:
    """Three messages from one feature holder to another, and one back."""
    one, other = (X25519PrivateKey.from_private_bytes(drawn(f"exchange {name}", 32)) for name in NAMES[:2])
    pins = [key_fingerprint(identity(name).certificate_der) for name in NAMES[:2]]
    run = drawn("run", 32)
    there = seal_between(one, other.public_key().public_bytes_raw(), run, *pins)
    back = seal_between(other, one.public_key().public_bytes_raw(), run, *reversed(pins))
    found: dict[str, Any] = {"run": run.hex(), "pins": pins}
    found["private keys"] = [key.private_bytes_raw().hex() for key in (one, other)]
    found["there"], found["back"] = [], []
    for way, sealing, kind, text in [
        ("there", there, "pair key", b"first"),
        ("there", there, "result digest", b""),
        ("there", there, "pair key", b"first"),
        ("back", back, "pair key", b"first"),
    ]:
        nonce = len(found[way])
        found[way].append(
            {"nonce": nonce, "kind": kind, "plain": text.hex(), "sealed": sealing.close(kind, text).hex()}
        )
    return found


def terms() -> Any:
    cases = {
        "plain": ("", (1000, 900, 800)),
        "auto": ('psi.protocol = "auto"\n', (1000, 70_000, 800)),
        "hidden sizes": ("psi.hide_sizes = true\npsi.at_most = 5000\n", (1000, 900, 800)),
        "several buckets": ("psi.at_most = 3000000\n", (1000, 2_000_000, 800)),
        "over": ("psi.at_most = 950\n", (1000, 900, 1200)),
        "uneven": ("psi.largest_ratio = 10\n", (1000, 20_000, 800)),
    }
    found = {}
    for title, (more, counts) in cases.items():
        agreed = contract_of(toml(more))
        meeting: Any = SimpleNamespace(kind="email", protocols={"ecdh", "rr22"})
        protocols = {name: psi.load(name) for name in meeting.protocols}
        said: list[Any] = []
        rounds = {
            name: _to_the_end(settle(name, agreed, meeting, protocols, count))
            for name, count in zip(NAMES, counts, strict=True)
        }
        done = together(rounds, lambda name, word, said=said: said.append((name, word)))
        found[title] = {
            "toml": more,
            "ids": dict(zip(NAMES, counts, strict=True)),
            "transcript": _transcript(done.transcript),
            "ends": done.results,
        }
    return found


def ids() -> Any:
    cells: dict[str, list[str]] = {
        "string": [" Ann ", "ANN", "José", "Jose\u0301", "a\u200bb", "\ufeff1", "001", "", " \u00a0 "],
        "integer": ["1", "+1", "001", "1.0", "1.", "-0", "-07", "12345678901234567890123", "1.5", "1e3", ""],
        "email": ["Ann@Example.ORG", " a n n@x.org", "JOSE\u0301@x.org", "a@b@c", "@x.org", "ann", ""],
        "phone": ["+49 30 1234567", "0049 (0)30/123-45.67", "030 1234567", "+1", "+49301234567890123", ""],
    }
    digest = drawn("contract", 32)
    found: dict[str, Any] = {"contract": digest.hex(), "single": {}}
    for kind, texts in cells.items():
        key = digest_key(digest, kind)
        found["single"][kind] = {"key": key.hex(), "cells": []}
        for cell in texts:
            form = canonical(cell, kind)  # type: ignore[arg-type]
            told = psi.normalise([[[cell]]], ["id"], [kind], key).digests.tobytes() if form else b""  # type: ignore[list-item]
            found["single"][kind]["cells"].append({"cell": cell, "canonical": form, "digest": told.hex()})
    key, rows = digest_key(digest, "person"), [["ab", "a"], ["7", "07"]]
    whole = psi.normalise([rows], ["name", "number"], ["string", "integer"], key)
    found["composite"] = {
        "types": ["string", "integer"],
        "kind": "person",
        "key": key.hex(),
        "ids": [[*row] for row in zip(*rows, strict=True)],
        "digests": [row.tobytes().hex() for row in whole.digests],
    }
    return found


def alignments() -> Any:
    """Whole alignments; of `rr22`, whose messages are long, their hashes."""
    held = {"platform": range(12), "logistics": range(4, 17), "advertiser": range(2, 13)}
    cases = {
        "ecdh, two parties": ("ecdh", ("platform", "logistics"), 1),
        "ecdh, two parties, two buckets": ("ecdh", ("platform", "logistics"), 2),
        "ecdh, three parties": ("ecdh", ("platform", "advertiser", "logistics"), 1),
        "dh": ("dh", ("platform", "logistics"), 1),
        "insecure-hash": ("insecure-hash", ("platform", "advertiser", "logistics"), 1),
        "rr22, two parties": ("rr22", ("platform", "logistics"), 1),
        "rr22, three parties": ("rr22", ("platform", "advertiser", "logistics"), 1),
    }
    found = {}
    for title, (name, names, count) in cases.items():
        run, sizes = drawn(f"run {title}", 32), {one: len(held[one]) for one in names}
        own = {
            me: np.frombuffer(b"".join(drawn(f"id {n}", 16) for n in held[me]), np.uint8).reshape(-1, 16)
            for me in names
        }
        rounds = {
            me: buckets.align(
                psi.load(name),
                psi.Setting(me, names, run, 1000, source(f"{title} {me}"), sizes),
                own[me],
                count,
            )
            for me in names
        }
        done = together(rounds)
        found[title] = {
            "run": run.hex(),
            "parties": names,
            "digests": {me: [row.tobytes().hex() for row in own[me]] for me in names},
            "transcript": _transcript(done.transcript, longest=2048),
            "rows": {me: done.results[me].tolist() for me in names},
        }
    return found


VALUES = [[0.0, 1.0, -2.5, 3.0e-5, 127.0], [-0.0, 0.3333333432674408, -0.25, 100.0, -1.0e-3]]


def tensors() -> Any:
    """[2, 5], exchange 258; without the sender's draws. `read` is what the receiver makes of it."""
    values = torch.tensor(VALUES)
    topk = RandTopk(2, 0.1)
    kept = topk.choose(values, None)
    found = {
        "fp32": (encode(values, 258), values),
        "bf16": (encode(values, 258, BF16), values.to(torch.bfloat16).float()),
        "int8": (message := encode(values, 258, INT8), INT8.read(memoryview(message)[24:], (2, 5))),
        "randtopk": (encode(kept, 258, topk), kept.dense()),
    }
    return {
        "values": [[*map(float, row)] for row in VALUES],
        "messages": {
            codec: {
                "hex": message.hex(),
                "read": FP32.write(read, None)[0].tobytes().hex(),  # type: ignore[union-attr]
            }
            for codec, (message, read) in found.items()
        },
    }


def schedule() -> Any:
    """Who is in which part and batch; which epochs are judged. Of the seed in run.toml, 8 bytes."""
    seed = (9007199254740993).to_bytes(8, "big")
    parts = split_rows(30, 0.15, 0.15, seed)
    every = []
    for train, validation, batch in [
        (21, 5, 2),
        (22_271, 4_773, 256),
        (22_271, 4_773, 1024),
        (100, 9000, 100),
    ]:
        rows = Split(torch.arange(train), torch.arange(validation), torch.arange(1))
        asked = {"training": train, "validation": validation, "batch": batch}
        every.append(asked | {"every": epochs_between(Plan(seed, batch=batch), rows)})
    return {
        "seed": seed.hex(),
        "users": 30,
        "parts": {name: part.tolist() for name, part in parts._asdict().items()},
        "batches of epochs": [[one.tolist() for one in batches(21, 8, seed, epoch)] for epoch in range(2)],
        "judged every": every,
    }


class Scale(nn.Module):
    """A bottom model of two weights, in whose arithmetic the order of sums cannot matter."""

    def __init__(self, numeric: int, levels: Sequence[int], cut: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((cut,), 0.5))

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        return categorical.float() * self.weight


def trainings() -> Any:
    """A feature holder's whole training, against a label holder that makes its gradients up."""
    found = {}
    for title, changes in {
        "exact": {},
        "exact, stopped in the second epoch, importance by columns": {"importance": "columns", "stop": True},
        "exact, bf16 and int8": {"codec": Codecs("bf16", "int8")},
        "exact, randtopk": {"codec": Codecs("randtopk", "fp32", 1, 0.0)},
        "pipelined": {"schedule": "pipelined", "in_flight": 3},
        "fedbcd": {"schedule": "fedbcd", "local_steps": 2},
    }.items():
        verdicts = [1, 2] if changes.pop("stop", False) else [1, 0]
        plan = Plan((7).to_bytes(8, "big"), cut=2, batch=2, epochs=2, every=1, optimizer="sgd")
        plan = replace(plan, learning_rate=0.125, weight_decay=0.0, **changes)  # type: ignore[arg-type]
        rows = split_rows(12, 0.15, 0.25, plan.seed)
        codes = torch.tensor([[n % 5, n % 3] for n in range(12)])
        features = Features(torch.empty(12, 0), codes, (5, 3))
        local = Local(bottom=f"{__name__}:Scale")
        holder = SCHEDULES[plan.schedule].feature_holder(
            plan, rows, features, "platform", drawn("seed", 32), local=local
        )
        said, weights = _answered(holder, plan, deque(verdicts))
        found[title] = {
            "plan": {"cut": 2, "batch": 2, "epochs": 2, "every": 1, "learning rate": 0.125}
            | _plainly(changes),
            "columns": codes.tolist(),
            "parts": {name: part.tolist() for name, part in rows._asdict().items()},
            "transcript": said,
            "weights": [float(one) for one in weights],
        }
    return found


def _answered(rounds: Rounds[Any], plan: Plan, verdicts: deque[int]) -> tuple[list[list[str]], Tensor]:
    """Each activation gets a gradient of small fractions, the epochs these verdicts, each group a drop."""
    said: list[list[str]] = []
    waiting: deque[tuple[int, int]] = deque()  # exchange and rows of activations without a gradient
    answer: Any = None
    while True:
        try:
            word = rounds.send(answer)
        except StopIteration as stop:
            return said, stop.value.bottom.module.weight.detach()
        answer = None
        if isinstance(word, Send):
            assert isinstance(word.payload, bytes)
            if word.kind == "activation":
                waiting.append(struct.unpack_from("<QI", word.payload, 8))
            said.append(["to the hub", word.kind, word.payload.hex()])
        elif isinstance(word, Receive):
            if word.kind == "gradient":
                exchange, rows = waiting.popleft()
                shape = (rows, plan.codec.keep or plan.cut)
                numbers = torch.arange(rows * shape[1]).reshape(shape)
                gradient = ((numbers * 3 + exchange) % 7 - 3).float() / 8
                answer = encode(gradient, exchange, INT8 if plan.codec.gradients == "int8" else FP32)
            elif word.kind == "verdict":
                answer = bytes([verdicts.popleft()])
            else:
                answer = {"scored": b"", "drop": struct.pack("<2f", 0.25, 0.125)}[word.kind]
            said.append(["from the hub", word.kind, answer.hex()])


# ---- how they are written


def _transcript(said: Sequence[Any], longest: int = 1 << 20) -> list[dict[str, str]]:
    """Longer payloads by their hashes."""
    found = []
    for one in said:
        entry = {"from": one.sender, "to": one.receiver, "kind": one.kind}
        if len(one.payload) <= longest:
            entry["payload"] = one.payload.hex()
        else:
            entry |= {"bytes": len(one.payload), "sha256": hashlib.sha256(one.payload).hexdigest()}
        found.append(entry)
    return found


def _to_the_end(rounds: Rounds[Any]) -> Rounds[str]:
    """An error is how a party ends, as its result is."""
    try:
        settled = yield from rounds
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return f"{settled.protocol}, {settled.kind} ids, {settled.buckets} buckets"


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value


def _plainly(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value.__dict__ if isinstance(value, Codecs) else value for name, value in changes.items()}


FILES: dict[str, Callable[[], Any]] = {
    "contract": contract,
    "frames": frames,
    "handshake": handshakes,
    "seal": seal,
    "terms": terms,
    "ids": ids,
    "psi": alignments,
    "tensors": tensors,
    "schedule": schedule,
    "training": trainings,
}


def main() -> None:
    torch.set_num_threads(1)
    for name, made in FILES.items():
        (HERE / f"{name}.json").write_text(json.dumps(made(), indent=1) + "\n")
        sys.stdout.write(f"{name}.json\n")


if __name__ == "__main__":
    main()
