"""What a target is, and what targets are made of."""

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from parties import certs
from parties.contract import Contract
from tests.fuzz.replay import Replay, edited

NAMES = ("advertiser", "logistics", "platform")
HUB = "platform"


class Target(NamedTuple):
    """hear: any bytes. corpus: some that are worth mutating."""

    hear: Callable[[bytes], None]
    corpus: list[bytes]


def several(*replays: Replay) -> Target:
    """The first byte says which."""

    def hear(data: bytes) -> None:
        replays[(data[0] if data else 0) % len(replays)](data[1:])

    return Target(hear, [bytes([at]) + data for at, replay in enumerate(replays) for data in replay.corpus])


def pieces(data: bytes) -> list[bytes]:
    """Several messages in one input: each after a byte with its length."""
    found = []
    while data:
        found.append(data[1 : 1 + data[0]])
        data = data[1 + data[0] :]
    return found


def joined(*messages: bytes) -> bytes:
    return b"".join(bytes([len(message)]) + message for message in messages)


def patched(good: bytes, data: bytes) -> bytes:
    return edited([good], data)[1]


def identities() -> dict[str, certs.Identity]:
    with tempfile.TemporaryDirectory() as folder:
        certs.issue(Path(folder), NAMES)
        files = {name: [Path(folder) / f"{name}.{end}" for end in ("pem", "key")] for name in NAMES}
        return {name: certs.load(Path(folder) / "ca.pem", *files[name], name) for name in NAMES}


def contract_of(identity: Mapping[str, certs.Identity], **changes: Any) -> Contract:
    content: dict[str, Any] = {
        "version": 1,
        "name": "test",
        "seed": 7,
        "label_holder": HUB,
        "parties": {name: {"key": identity[name].fingerprint} for name in NAMES},
        "ids": {"type": "email"},
    }
    return Contract.model_validate(content | changes)
