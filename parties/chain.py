"""Hash chains: an entry's link is the SHA-256 of its own bytes and of the link before.

So no entry can be changed, left out, added or moved without every later link being another. Who can write the
whole chain can write another one: the last link proves something to those who noted it at the time.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final

FIRST: Final = bytes(32)
"""Before the first entry."""


def canonical(entry: Mapping[str, Any]) -> bytes:
    """The one way in which an entry is written: JSON, keys in order, no spaces, ASCII."""
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def link(use: str, before: bytes, entry: bytes) -> bytes:
    """32 bytes. use: of the chain, so that an entry of one cannot stand in another."""
    return hashlib.sha256(b"vertical " + use.encode() + b" v1\0" + before + entry).digest()
