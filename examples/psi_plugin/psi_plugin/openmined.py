"""Two parties over the wheel `openmined-psi`: its messages, carried by rounds, and a result for both.

The wheel's client alone learns the intersection. Here the leader is its client, and tells the other party:

    leader  -> other   request: the leader's ids, masked
    other   -> leader  setup: its own ids, masked; response: the leader's, masked twice
    leader  -> other   result: a fresh salt, and HMAC(salt, id) of each common id, in random order
    other   -> leader  result digest: over the ids that it recognised, so that both are sure

The HMACs are of common ids only, which both parties hold. The wheel draws its keys itself, so a run is not
repeatable from `Setting.random`.
"""

import hmac
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from protos.rounds import LocalProtocolError, Receive, RemoteProtocolError, Rounds, Send
from psi import IdError, Setting

T = TypeVar("T")
Bytes = NDArray[np.uint8]
Rows = NDArray[np.int64]

ELEMENT: Final = 35
"""Bytes of a compressed point of P-256 in a protocol buffer."""
HEAD: Final = 16
"""Bytes of a message beside its elements, at most."""
SALT: Final = 16
TAG: Final = 16
DIGEST: Final = 32


class Openmined:
    name: ClassVar[str] = "openmined"
    parties: ClassVar[range] = range(2, 3)
    leakage: ClassVar[str] = "each party learns how many ids the other holds"
    cost: ClassVar[str] = "4 multiplications on P-256, 105 bytes an id and 16 a common id"
    maturity: ClassVar[str] = "an example; OpenMined's C++, without an audit that we know of"
    secure: ClassVar[bool] = True

    def __init__(self) -> None:
        if find_spec("private_set_intersection") is None:
            raise ImportError("pip install --no-deps openmined-psi==2.0.6")

    def align(self, setting: Setting, digests: Bytes) -> Rounds[Rows]:
        if len(digests) > setting.at_most:
            raise IdError(f"{len(digests)} ids here, and the contract allows {setting.at_most}")
        wheel = _wheel()
        order = np.argsort(np.frombuffer(setting.random(8 * len(digests)), "<u8"))
        shuffled = digests[order]
        party = _leader if setting.me == setting.leader else _other
        return order[(yield from party(wheel, setting, shuffled))]

    def traffic(self, counts: Sequence[int], common: int) -> int:
        leads, other = counts
        return ELEMENT * (2 * leads + other) + SALT + TAG * common + DIGEST

    def unread(self, at_most: int) -> int:
        return 2 * (ELEMENT * at_most + HEAD) + SALT + TAG * at_most + DIGEST


def _leader(wheel: Any, setting: Setting, digests: Bytes) -> Rounds[Rows]:
    (peer,) = setting.clients
    client = wheel.client.CreateWithNewKey(True)
    yield Send(peer, "request", client.CreateRequest(_texts(digests)).SerializeToString())
    setup = _parsed(wheel.ServerSetup, (yield Receive(peer, "setup", ELEMENT * setting.at_most + HEAD)), peer)
    response = _parsed(wheel.Response, (yield Receive(peer, "response", ELEMENT * len(digests) + HEAD)), peer)
    if len(response.encrypted_elements) != len(digests):
        raise RemoteProtocolError(f"{peer} answers {len(response.encrypted_elements)} of {len(digests)} ids")
    found = _refused_by(peer, lambda: client.GetIntersection(setup, response))
    rows = np.sort(np.array(found, np.int64))
    salt = setting.random(SALT)
    yield Send(peer, "result", salt + b"".join(_tags(salt, digests[rows])))
    told = yield Receive(peer, "result digest", DIGEST)
    if not hmac.compare_digest(told, _digest(salt, digests[rows])):
        raise RemoteProtocolError(f"{peer} has another result; the alignment is void")
    return rows


def _other(wheel: Any, setting: Setting, digests: Bytes) -> Rounds[Rows]:
    peer, server = setting.leader, wheel.server.CreateWithNewKey(True)
    request = _parsed(wheel.Request, (yield Receive(peer, "request", ELEMENT * setting.at_most + HEAD)), peer)
    leads = len(request.encrypted_elements)
    if leads > setting.at_most:
        raise RemoteProtocolError(f"{peer} brings {leads} ids, and the contract allows {setting.at_most}")
    response = _refused_by(peer, lambda: server.ProcessRequest(request))
    exact = wheel.DataStructure.RAW  # all elements, sorted: no false positives, unlike its filters
    setup = server.CreateSetupMessage(1e-12, leads, _texts(digests), exact)
    yield Send(peer, "setup", setup.SerializeToString())
    yield Send(peer, "response", response.SerializeToString())
    result = yield Receive(peer, "result", SALT + TAG * min(leads, len(digests)))
    salt, named = result[:SALT], result[SALT:]
    if len(salt) != SALT or len(named) % TAG:
        raise RemoteProtocolError(f"{peer} sent {len(result)} bytes of result")
    row_of = {tag: row for row, tag in enumerate(_tags(salt, digests))}
    rows = [row_of.pop(named[at : at + TAG], -1) for at in range(0, len(named), TAG)]
    if -1 in rows:
        raise RemoteProtocolError(f"{peer} names an id that this party does not hold, or one twice")
    yield Send(peer, "result digest", _digest(salt, digests[rows]))
    return np.array(rows, np.int64)


def _wheel() -> Any:
    """Imported when it is used: it takes a while, and this protocol can be listed without."""
    try:
        return import_module("private_set_intersection.python")
    except ImportError as error:
        raise LocalProtocolError(
            f"openmined-psi cannot be imported ({error}); pip install --no-deps openmined-psi==2.0.6"
        ) from error


def _texts(digests: Bytes) -> list[str]:
    return [row.tobytes().hex() for row in digests]


def _parsed(message: type[Any], payload: bytes, peer: str) -> Any:
    made = message()
    _refused_by(peer, lambda: made.ParseFromString(payload))
    if made.SerializeToString(deterministic=True) != payload:  # unknown fields and other spellings
        raise RemoteProtocolError(f"{peer} sent a {message.__name__} that is not in its one form")
    return made


def _refused_by(peer: str, call: Callable[[], T]) -> T:
    """What the wheel refuses is the peer's fault: our own part of it was made by the wheel."""
    try:
        return call()
    except (
        Exception
    ) as error:  # RuntimeError from the C++, DecodeError from protobuf; its text has many lines
        raise RemoteProtocolError(f"{peer} sent what openmined-psi refuses") from error


def _tags(salt: bytes, digests: Bytes) -> list[bytes]:
    return [hmac.digest(salt, row.tobytes(), "sha256")[:TAG] for row in digests]


def _digest(salt: bytes, common: Bytes) -> bytes:
    return hmac.digest(salt, b"result" + common.tobytes(), "sha256")
