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

TAIL: Final = len(b',"chain":"') + 64 + len(b'"}')
"""Bytes that end every line of a file of JSON lines, but for its newline."""


def canonical(entry: Mapping[str, Any]) -> bytes:
    """The one way in which an entry is written: JSON, keys in order, no spaces, ASCII."""
    return json.dumps(entry, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def link(use: str, before: bytes, entry: bytes) -> bytes:
    """32 bytes. use: of the chain, so that an entry of one cannot stand in another."""
    return hashlib.sha256(b"vertical " + use.encode() + b" v1\0" + before + entry).digest()


def line(use: str, before: bytes, body: bytes) -> tuple[bytes, bytes]:
    """A canonical entry as a line with its link in it, newline included; and the link."""
    head = link(use, before, body)
    return body[:-1] + b',"chain":"' + head.hex().encode() + b'"}\n', head


def split(line: bytes) -> tuple[bytes, bytes]:
    """Of a line without its newline: the entry as it was chained, and its link. Raises ValueError."""
    body, head, _ = _parsed(line)
    return body, head


def following(use: str, before: bytes, line: bytes) -> tuple[dict[str, Any], bytes]:
    """Of a line without its newline: the entry, and its link, after the one before. Raises ValueError."""
    body, head, entry = _parsed(line)
    if head != link(use, before, body):
        raise ValueError("does not follow from the one before")
    return entry, head


def _parsed(line: bytes) -> tuple[bytes, bytes, dict[str, Any]]:
    body, tail = line[:-TAIL] + b"}", line[-TAIL:]
    if not tail.startswith(b',"chain":"') or not tail.endswith(b'"}'):
        raise ValueError("has no chain")
    head = bytes.fromhex(tail[10:-2].decode("ascii"))
    try:
        entry = json.loads(body)
    except RecursionError as error:
        raise ValueError("is nested too deeply") from error
    if head.hex().encode() != tail[10:-2] or not isinstance(entry, dict):
        raise ValueError("is no entry")
    return body, head, entry
