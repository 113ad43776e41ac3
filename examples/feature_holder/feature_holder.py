"""A feature holder from docs/wire.md and protos/party.proto alone: it imports nothing of this project.

It takes part in a run of two parties: mutual TLS, handshake, terms, PSI by `ecdh`, training by the schedule
`exact`, evaluation, verdicts, the end. Read this file from `main` at its bottom, or in the order of a run:

    python feature_holder.py party.toml
"""

import copy
import hashlib
import json
import os
import secrets
import struct
import sys
import tomllib
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import party_pb2 as wire
import torch
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from google.protobuf.message import DecodeError
from intersection import digests_of, intersect
from line import Refused, dial, require

WIRE_VERSION = 3
ROWS = 8192  # a chunk of rows that nobody trains on

# ---- The contract: run.toml with every default spelled out (docs/wire.md, "The contract")

DEFAULTS = """{
"psi": {"protocol": "ecdh", "allow_insecure": false, "minimum": 100, "at_most": 1000000,
  "largest_ratio": null, "hide_sizes": false},
"examples": {"per_entity": "one", "at_most": 10000000},
"model": {"task": "binary", "loss": null, "cut": 32, "bottom_hidden": [128], "top_hidden": [64],
  "dropout": 0.2, "norm": "none", "residual": false, "fusion": "bi-interaction", "top": "mlp",
  "party_dropout": 0.0},
"training": {"schedule": "exact", "in_flight": 8, "local_steps": 5, "cache": 5, "reuse": 5,
  "similarity": 0.5, "optimizer": "adam", "learning_rate": 0.001, "learning_rate_schedule": "constant",
  "warmup": 0, "decay": 0.1, "decay_epochs": 10, "clip_norm": null, "weight_decay": 0.0001, "batch": 256,
  "epochs": 50, "patience": 8},
"codec": {"activations": "fp32", "gradients": "fp32", "keep": null, "explore": 0.1},
"evaluation": {"validation": 0.15, "test": 0.15, "every": "auto", "importance": "parties"}}"""

POSSIBLE = {  # here, where a contract may ask for more
    "psi": {"protocol": ["ecdh"], "largest_ratio": [None], "hide_sizes": [False]},
    "examples": {"per_entity": ["one"]},
    "training": {"schedule": ["exact"], "learning_rate_schedule": ["constant"], "warmup": [0]},
    "codec": {"activations": ["fp32"], "gradients": ["fp32"]},
    "evaluation": {"importance": ["none", "parties"]},
}


def contract_of(agreed):
    """run.toml, parsed -> the contract with all its fields. That their values are valid, the hub checks."""
    contract = json.loads(DEFAULTS)
    for section, fields in contract.items():
        for name, value in agreed.get(section, {}).items():
            require(name in fields, f"run.toml: {section}.{name} is not known here")
            fields[name] = float(value) if isinstance(fields[name], float) else value
    for section, fields in POSSIBLE.items():
        for name, values in fields.items():
            asked = contract[section][name]
            require(asked in values, f"run.toml: {section}.{name} = {asked} is more than is possible here")
    clip, model, kind = contract["training"]["clip_norm"], contract["model"], agreed["ids"]
    contract["training"]["clip_norm"] = clip and float(clip)
    model["loss"] = model["loss"] or ("squared" if model["task"] == "regression" else "cross-entropy")
    possible = isinstance(kind, dict) and kind.get("type") in ("string", "email")
    require(possible, "run.toml: ids: only one kind, of type string or email, is possible here")
    contract["ids"] = [{"name": kind.get("name") or kind["type"], "type": kind["type"], "types": []}]
    require(len(agreed["parties"]) == 2, "run.toml: only two parties are possible here")
    return contract | {name: agreed[name] for name in ("version", "name", "seed", "label_holder", "parties")}


# ---- Handshake and terms


def parsed(kind, payload):
    try:
        return kind.FromString(payload)
    except DecodeError:
        raise Refused(f"bytes that are no {kind.__name__}") from None


def handshake(line, contract, canonical, tls):
    """Agree with the hub on the contract and a run id, which both sign. The run id, and that of the attempt.

    Nothing is kept from an attempt that failed, so every run is a new one: the hello names no previous one.
    """
    me, hub, names, kind = line.me, line.hub, sorted(contract["parties"]), contract["ids"][0]["name"]
    certificate = x509.load_pem_x509_certificate(Path(tls["certificate"]).read_bytes())
    own = wire.Hello(
        party=me,
        versions=[WIRE_VERSION],
        contract=canonical,
        nonce=secrets.token_bytes(32),
        exchange_key=x25519.X25519PrivateKey.generate().public_key().public_bytes_raw(),  # two need none
        certificate=certificate.public_bytes(Encoding.DER),
        purpose="run",
        protocols=["ecdh"],
        kinds=[kind],
    )
    line.send("hello", own.SerializeToString())
    everyone = line.receive("hellos", 2 * (96 << 10), exact=False)
    hellos = {hello.party: hello for hello in parsed(wire.Hellos, everyone).hello}
    require(list(hellos) == names and hellos[me] == own, f"{hub} met other parties, or changed our hello")
    theirs = hellos[hub]
    require(WIRE_VERSION in theirs.versions, f"{hub} speaks only versions {theirs.versions} of the wire")
    require(theirs.contract == canonical, f"{hub} has another contract: compare run.toml")
    require(theirs.purpose == "run", f"{hub} started `party {theirs.purpose}`")
    require("ecdh" in theirs.protocols and kind in theirs.kinds, f"{hub} has no ecdh, or no {kind} ids")
    require(len(theirs.nonce) == 32, f"{hub} sent a wrong nonce")
    public = x509.load_der_x509_certificate(theirs.certificate).public_key()
    pin = hashlib.sha256(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
    require(f"sha256:{pin}" == contract["parties"][hub]["key"], f"{hub} has another key than is pinned")

    nonces = b"".join(hellos[name].nonce for name in names)
    run = hashlib.sha256(b"vertical run v1\0" + hashlib.sha256(canonical).digest() + nonces).digest()
    line.bind(run)
    agreed = b"vertical agreement v1\0" + run + hashlib.sha256(everyone).digest()
    key = load_pem_private_key(Path(tls["key"]).read_bytes(), None)
    line.send("agree", key.sign(agreed, ec.ECDSA(SHA256())))
    signatures = parsed(wire.Agreement, line.receive("agreed", 256, exact=False)).signature
    try:
        public.verify(signatures[hub], agreed, ec.ECDSA(SHA256()))
    except InvalidSignature:
        raise Refused(f"{hub} did not sign the contract with its pinned key") from None
    return run, hashlib.sha256(b"vertical attempt v1\0" + agreed).digest()


def settle(line, contract, own):
    """Tell the hub how many ids we bring. Its own number, if its terms follow from what we know."""
    most = min(contract["psi"]["at_most"], 1 << 20)  # more are aligned in several buckets
    require(own <= most, f"{own} ids are more than the {most} that are possible here")
    line.send("offer", wire.Offer(ids=own).SerializeToString())
    payload = line.receive("terms", 8 << 10, exact=False)
    terms = parsed(wire.Terms, payload)
    require(not terms.over and not terms.uneven, f"too many ids at {', '.join(terms.over)}")
    told = (terms.protocol, terms.kind, terms.buckets, terms.scale, set(terms.ids), terms.ids[line.me])
    expected = ("ecdh", contract["ids"][0]["name"], 1, 0, {line.me, line.hub}, own)
    require(told == expected and terms.ids[line.hub] <= most, f"{line.hub} sent terms that do not follow")
    line.send("confirm", hashlib.sha256(payload).digest())
    line.receive("go", 0)
    return terms.ids[line.hub]


def compare(line, run, digests, found):
    """Has the hub the same common users in the same order?"""

    def said(by):
        told = b"vertical alignment v1\0" + run + b"".join(bytes(digests[row]) for row in found)
        return hashlib.sha256(told + by.encode()).digest()

    line.send("aligned", said(line.me))
    require(line.receive("aligned", 32) == said(line.hub), f"{line.hub} has another alignment")


# ---- Training


def permutation(seed, purpose, n):
    """Public: every party computes by itself who is in which part and batch."""
    name = purpose.encode()
    stream = hashlib.shake_256(len(name).to_bytes(4, "little") + name + seed).digest(8 * n)
    return torch.from_numpy(np.argsort(np.frombuffer(stream, "<u8"), kind="stable"))


def parts_of(contract, common, seed):
    """The rows of the common users as training, validation and test rows."""
    n, test = len(common), round(len(common) * contract["evaluation"]["test"])
    validation = round(n * contract["evaluation"]["validation"])
    require(min(test, validation, n - test - validation) > 0, f"{n} common users are too few to split")
    return torch.from_numpy(common)[permutation(seed, "split", n)].split(
        [n - test - validation, validation, test]
    )


def features_of(table, data, training):
    """[rows, width]: the table's columns as numbers, fitted to the training rows alone."""
    columns = []
    for name in data.get("numeric", []):
        numbers = pd.to_numeric(table[name], errors="coerce")
        known = numbers.iloc[training]
        columns += [((numbers - known.mean()) / (known.std() or 1.0)).fillna(0.0), numbers.isna()]
    for name in data.get("categorical", []):
        columns += [table[name] == level for level in table[name].iloc[training].value_counts().index[:100]]
    return torch.tensor(np.stack([np.asarray(column, np.float32) for column in columns], 1))


def train(line, contract, features, parts, seed):
    """The bottom model with the weights of the best epoch, how many epochs there were, and which it was."""
    plan, cut, every = contract["training"], contract["model"]["cut"], contract["evaluation"]["every"]
    training, validation, test = parts
    steps, checks = -(-len(training) // plan["batch"]), -(-len(validation) // ROWS)
    if every == "auto":
        every = 20 * 2 * len(validation) // (4 * len(training) + 1600 * steps) + 1
    nn, width = torch.nn, features.shape[1]
    bottom = nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, cut))
    optimizer = torch.optim.AdamW(bottom.parameters(), plan["learning_rate"])

    def header(rows, exchange):
        return struct.pack("<2sBBBBHQ2I", b"VT", 1, 0, 1, 2, 0, exchange, rows, cut)

    def send(kind, activation, exchange):
        require(bool(torch.isfinite(activation).all()), "the model diverged: lower learning_rate")
        body = activation.detach().numpy().astype("<f4").tobytes()
        line.send(kind, header(len(activation), exchange) + body)

    def be_scored(kind, rows, exchange):
        bottom.eval()
        unscored = 0
        for chunk in rows.split(ROWS):
            if unscored == 2:  # no more may wait at the label holder
                line.receive("scored", 0)
                unscored -= 1
            with torch.no_grad():
                send(kind, bottom(features[chunk]), exchange)
            exchange, unscored = exchange + 1, unscored + 1
        for _ in range(unscored):
            line.receive("scored", 0)
        bottom.train()

    best, best_epoch, epoch, stopped = None, 0, 0, False
    while epoch < plan["epochs"] and not stopped:
        exchange = epoch * (steps + checks)  # every tensor has its number, from 1
        order = permutation(seed, f"epoch {epoch}", len(training))
        for rows in training[order].split(plan["batch"]):
            exchange += 1
            activation = bottom(features[rows])
            send("activation", activation, exchange)
            expected = header(len(rows), exchange)
            payload = line.receive("gradient", len(expected) + 4 * activation.numel())
            require(payload.startswith(expected), f"{line.hub} sent a gradient of another shape or exchange")
            gradient = torch.tensor(np.frombuffer(payload, "<f4", offset=len(expected)))
            require(bool(torch.isfinite(gradient).all()), f"{line.hub} sent a gradient with NaN or infinity")
            optimizer.zero_grad()
            activation.backward(gradient.view_as(activation))
            if plan["clip_norm"]:
                nn.utils.clip_grad_norm_(bottom.parameters(), plan["clip_norm"])
            optimizer.step()
        epoch += 1
        if epoch % every == 0 or epoch == plan["epochs"]:
            be_scored("validation", validation, exchange + 1)
            verdict = line.receive("verdict", 1)
            require(verdict == b"\1" or (verdict in b"\0\2" and best), f"an impossible verdict of {line.hub}")
            stopped = verdict == b"\2"
            if verdict == b"\1":
                best, best_epoch = copy.deepcopy(bottom.state_dict()), epoch
    bottom.load_state_dict(best)
    be_scored("test", test, epoch * (steps + checks) + 1)
    return bottom, epoch, best_epoch


# ---- One run


def place(digests, run, row):
    """By which common users are sorted: all parties have the same digests of them."""
    first, second = struct.unpack("<QQ", digests[row])
    return first * (int.from_bytes(run[:8], "little") | 1) % 2**64, second


def take_part(line, contract, canonical, config):
    """From the handshake to the files that are left, in a folder named after the run."""
    data, seed = config["data"], contract["seed"].to_bytes(8, "big")
    table = pd.read_csv(data["file"], dtype=str, encoding="utf-8-sig")
    contract_digest = hashlib.sha256(canonical).digest()
    rows, digests = digests_of(table[data["id"]], contract["ids"][0], contract_digest)

    line.phase = "handshake"
    run, attempt = handshake(line, contract, canonical, config["tls"])
    line.phase = "psi"
    theirs = settle(line, contract, len(digests))
    found = sorted(intersect(line, attempt, digests, theirs), key=partial(place, digests, run))
    compare(line, run, digests, found)
    common = rows[found]
    minimum = contract["psi"]["minimum"]
    require(len(common) >= minimum, f"{len(common)} common users, fewer than psi.minimum = {minimum}")
    line.phase = "training"
    parts = parts_of(contract, common, seed)
    features = features_of(table, data, parts[0].numpy())
    bottom, epochs, best_epoch = train(line, contract, features, parts, seed)

    folder = Path("feature_holder-" + run.hex()[:12])
    folder.mkdir()
    aligned = pd.DataFrame({"row": common, "id": table[data["id"]].iloc[common]})
    aligned.to_csv(folder / "alignment.csv", index=False)
    torch.save(bottom.state_dict(), folder / "bottom.pt")
    line.phase = "the end"
    line.send("kept", b"")
    line.receive("all kept", 0, within=86_400.0)
    line.end("link/done", line.me, within=60.0)
    return f"{len(common)} common users, {epochs} epochs, weights of epoch {best_epoch}: {folder}"


def main():
    try:
        with open(sys.argv[1], "rb") as file:
            config = tomllib.load(file)
        with open(config.get("contract", "run.toml"), "rb") as file:
            contract = contract_of(tomllib.load(file))
        canonical = json.dumps(contract, sort_keys=True, separators=(",", ":")).encode()
        line = dial(config["party"], contract["label_holder"], config["link"], config["tls"])
        try:
            print(take_part(line, contract, canonical, config))
        except BaseException as error:
            reason = "protocol" if isinstance(error, Refused) else "error"
            line.end("link/failed", f"{line.me} {reason}", within=2.0)
            raise
    except (Refused, OSError, KeyError, ValueError) as error:
        print(f"feature_holder: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # an interpreter that ends in good order may wait for a lock of gRPC's threads for ever
