"""The classifier finds nothing in the star's hints, and finds what an encoder or a share gives away."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

import psi
from protos.rounds import Receive, Rounds, Send
from psi import kdf, okvs, star
from psi.conformance import Report, check
from psi.interface import Setting

Bytes = np.ndarray


class Plain:
    """An engine that gives its key away: the star at full speed."""

    def receiver(self, setting: Setting, senders: Sequence[str], digests: Bytes) -> Rounds[dict[str, Bytes]]:
        outputs = {}
        for sender in senders:
            outputs[sender] = kdf.permute((yield Receive(sender, "key", at_most=32)), digests)
        return outputs

    def sender(self, setting: Setting, receiver: str, count: int, digests: Bytes) -> Rounds[Bytes]:
        key = setting.random(32)
        yield Send(receiver, "key", key)
        return kdf.permute(key, digests)


class PlainPsi:
    name = "plain"
    parties = range(2, 17)
    engine = Plain


def classified() -> Report:
    protocol: Any = PlainPsi()
    return check(protocol, properties=["unmasked values"])


def test_the_star_shows_nothing() -> None:
    report = classified()
    assert report.conforms, report.results
    assert "AUC 0." in report.results[0].measured


def test_slots_left_at_zero_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kdf, "stream", lambda seed, words: np.zeros(words, np.uint64))
    (result,) = classified().results
    assert result.outcome == "failed"
    assert "ids that only b shares with the leader: AUC 0." in str(result.reason)


def test_shares_that_are_no_secret_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kdf, "prf64", lambda key, digests: np.zeros(len(digests), np.uint64))
    (result,) = classified().results
    assert result.outcome == "failed"


def test_masks_that_are_left_out_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hints of bare shares: what is decoded for ids of b is the same for c's, noise elsewhere."""
    encode: Callable[..., Any] = okvs.encode
    monkeypatch.setattr(
        okvs, "encode", lambda keys, values, random: encode(keys, values & np.uint64(255), random)
    )
    monkeypatch.setattr(star, "_mask", lambda setting, client, outputs: np.zeros(len(outputs), np.uint64))
    (result,) = classified().results
    assert result.outcome == "failed"


def test_it_is_asked_of_the_star_only() -> None:
    (result,) = check(psi.load("dh"), properties=["unmasked values"]).results
    assert result.outcome == "does not apply"
