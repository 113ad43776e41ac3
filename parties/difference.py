"""Where two contracts differ: what the handshake tells when the digests are not equal."""

import json
from typing import Any

from parties.document import dotted
from protos.rounds import RemoteProtocolError

CANONICAL_AT_MOST = 64 << 10
"""Bytes of a canonical contract. Sixteen parties with the longest names need about 3 KiB."""


def first_difference(here: bytes, there: bytes, peer: str) -> str | None:
    """The first field, in canonical order, that differs: `training.batch: 256 here, 512 at logistics`.

    here, there: canonical contracts; `there` is what the peer says it holds, and is not trusted.
    Returns None where the content is the same.
    Raises RemoteProtocolError where `there` is too long or is not JSON.
    """
    if len(there) > CANONICAL_AT_MOST:
        raise RemoteProtocolError(
            f"{peer} sent a contract of {len(there)} bytes; at most {CANONICAL_AT_MOST} are allowed"
        )
    try:
        theirs = json.loads(there.decode("ascii"))
    except (ValueError, RecursionError):
        raise RemoteProtocolError(
            f"{peer} sent a contract that is not JSON; which version runs there?"
        ) from None
    found = _differing(json.loads(here), theirs, ())
    if found is None:
        return None
    key, own, other = found
    return f"{dotted(key) or 'the whole contract'}: {_short(own)} here, {_short(other)} at {peer}"


_ABSENT: Any = object()


def _differing(own: Any, other: Any, key: tuple[str, ...]) -> tuple[tuple[str, ...], Any, Any] | None:
    # The depth is that of our own contract: what the peer nests deeper is never walked.
    if isinstance(own, dict) and isinstance(other, dict):
        for name in sorted(own.keys() | other.keys()):
            found = _differing(own.get(name, _ABSENT), other.get(name, _ABSENT), (*key, name))
            if found:
                return found
        return None
    # 1, 1.0 and true, 0.0 and -0.0 are equal in Python and different things in JSON
    same = own == other and json.dumps(own) == json.dumps(other)
    return None if same else (key, own, other)


def _short(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list" if len(value) > 16 or not all(isinstance(v, int) for v in value) else str(value)[:64]
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
