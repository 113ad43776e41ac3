"""The join that protects nothing: a result all the same, typed errors, and it says what it is."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from protos.memory import together
from protos.rounds import RemoteProtocolError
from psi import Setting, kdf, load
from psi.insecure_hash import insecure_hash

SETS = {"lead": range(30), "b": range(10, 45), "c": range(5, 25)}
NAMES = tuple(SETS)
Digests = Callable[[Sequence[int]], np.ndarray]


@pytest.fixture(scope="session")
def against(make_digests: Digests, lie: Callable[..., Any]) -> Callable[..., Any]:
    def run(liar: str = "b", changes: Any = ()) -> Any:
        parties = {me: insecure_hash(Setting(me, NAMES, b"run", 40), make_digests(SETS[me])) for me in NAMES}
        parties[liar] = lie(parties[liar], dict(changes))
        return together(parties)

    return run


def test_any_party_can_read_any_id_that_it_guesses(against: Any, make_digests: Digests) -> None:
    """Why it is refused unless the contract allows it: the leader finds who holds id 7."""
    key = kdf.key(b"", "insecure-hash", b"run", *NAMES)
    guess = bytes(kdf.permute(key, make_digests([7])))
    holders = [s.sender for s in against().transcript if s.kind == "hashes" and guess in s.payload]
    assert holders == ["c"]
    assert not load("insecure-hash").secure
    assert "INSECURE" in load("insecure-hash").maturity


@pytest.mark.parametrize(
    ("liar", "to", "kind", "change", "says"),
    [
        ("b", "lead", "count", lambda _: b"\xff" * 8, "b brings"),
        ("lead", "c", "count", lambda _: (41).to_bytes(8, "big"), "lead brings 41 ids"),
        ("b", "lead", "hashes", lambda payload: payload[:-1], "bytes of 'hashes'"),
        ("b", "lead", "hashes", lambda payload: payload + bytes(16), "over its"),
        ("lead", "c", "common", lambda payload: payload[:-1], "bytes of tags"),
        ("lead", "c", "common", lambda payload: bytes(len(payload)), "does not hold"),
        ("lead", "c", "common", lambda payload: payload[:16] * 2, "twice"),
        ("lead", "c", "common", lambda payload: payload * 2, "over its"),
    ],
)
def test_bad_messages(against: Any, liar: str, to: str, kind: str, change: Any, says: str) -> None:
    with pytest.raises(RemoteProtocolError, match=says) as caught:
        against(liar, {(to, kind): change})
    assert liar in str(caught.value)


def test_a_hash_twice(against: Any) -> None:
    """17 of 35 hashes come twice, of which the leader has at least two."""
    with pytest.raises(RemoteProtocolError, match="b sent the same hash twice"):
        against("b", {("lead", "hashes"): lambda payload: payload[: 18 * 16] + payload[: 17 * 16]})
