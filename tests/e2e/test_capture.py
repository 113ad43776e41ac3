"""Nothing secret is in what a run shows: all bytes on its sockets, its output, its files, what it relays.

Real processes over mutual TLS; a proxy at each feature holder's line keeps whatever passes. Each search is
tried on something that does hold what is looked for, so that it cannot fail to find by mistake.
"""

import base64
import hashlib
import socket
import subprocess
import sys
import threading
import time
import unicodedata
import urllib.request
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from benchmarks.emulated_line import EmulatedLine
from protos.party_pb2 import Frame
from psi.canonical import canonical
from tests.ports import free_port

Federate = Callable[..., Any]

pytestmark = pytest.mark.slow

SPY = (Path(__file__).parent / "spy.py").read_text()
HUB, HOLDERS = "platform", ("logistics", "advertiser")
NAMES = (HUB, *HOLDERS)
OWN = {"alignment.parquet", "test_scores.parquet"}
"""Files that list a party's own people, for itself."""
WEIGHTS = {"model.safetensors", "target.json", "pipeline.json", "statistics.json"}
"""Files that hold what a party has learned from its own columns, for itself."""


class Tap(EmulatedLine):
    """Keeps what passes, one direction of a connection after the other."""

    def __init__(self, target: int) -> None:
        self.passed: list[bytearray] = []
        super().__init__(target)

    def _carry(self, source: socket.socket, sink: socket.socket, is_cut: threading.Event) -> None:
        self.passed.append(bytearray())
        threading.Thread(target=self._forward, args=(source, sink, self.passed[-1]), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, passed: bytearray) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                passed += data
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)


def spellings(secret: bytes) -> set[bytes]:
    """Itself, and as hex and base64 have it in the midst of something longer."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    for before in range(3):
        coded = base64.b64encode(bytes(before) + secret)
        core = coded[(0, 2, 3)[before] : len(coded) - 4 if len(coded) > 12 else len(coded)]
        found |= {core, core.replace(b"+", b"-").replace(b"/", b"_")}
    return found


def found(secrets: Iterable[bytes], text: bytes) -> list[bytes]:
    return [secret for secret in secrets if secret in text]


def pieces(file: Path) -> list[bytes]:
    data, whole = file.read_bytes(), []
    while data:
        size = int.from_bytes(data[:4], "big")
        whole.append(data[4 : 4 + size])
        data = data[4 + size :]
    return whole


def windows(data: bytes, size: int, at_most: int = 200) -> set[bytes]:
    """Pieces of a vector, from all over it, but no runs of zeros and ones, which stand anywhere."""
    starts = range(0, max(len(data) - size, 0) + 1, max(len(data) // at_most, 1))
    cut = {data[at : at + size] for at in starts}
    return {piece for piece in cut if len(piece) == size and len({*piece}) > 8}


def people(made: Any, name: str) -> list[str]:
    cells = pd.read_csv(made.home(name) / "people.csv", dtype=str, keep_default_na=False)["email"]
    return [cell for cell in cells if cell.strip()]


def ids(made: Any, name: str) -> set[bytes]:
    """What all ids of this table share, in each form; and each id's plain hash."""
    needles: set[bytes] = set()
    for cell in ("josé", "mail.example"):
        for form in ("NFC", "NFD"):
            for case in (str.lower, str.upper, str.title):
                needles |= spellings(case(unicodedata.normalize(form, cell)).encode())
    for cell in people(made, name):
        for form in {cell, canonical(cell, "email") or cell}:
            needles |= {hashlib.sha256(form.encode()).digest()[:16], hashlib.md5(form.encode()).digest()}
            needles.add(hashlib.sha256(form.encode()).hexdigest()[:32].encode())
    return needles


def keys(made: Any, name: str) -> set[bytes]:
    """The private key, whole or in lines, its number alone, and the secret of the private random streams."""
    home = made.home(name)
    pem = (home / f"{name}.key").read_bytes()
    key = load_pem_private_key(pem, None)
    assert isinstance(key, EllipticCurvePrivateKey)
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    number = key.private_numbers().private_value.to_bytes(32, "big")
    needles = {b"PRIVATE KEY", *(line for line in pem.splitlines() if len(line) > 30 and b"-" not in line)}
    for secret in (der, number, number[::-1], (home / "runs" / "secret").read_bytes()):
        needles |= spellings(secret) | spellings(secret[:20])
    return needles


def values(made: Any, name: str) -> set[bytes]:
    """Its columns, as training and as the table have them: three numbers in a row."""
    needles = {
        piece for data in pieces(made.home(name) / "spied" / "features") for piece in windows(data, 24)
    }
    cells = pd.read_csv(made.home(name) / "people.csv", dtype=str, keep_default_na=False)["amount"]
    for comma in (",", ", ", "\n"):
        needles |= {comma.join(cells[at : at + 3]).encode() for at in range(0, 200, 7)}
    return {needle for needle in needles if len(needle) > 10}


def labels(made: Any) -> set[bytes]:
    """In the order of training: 24 people in a row, as numbers and as text."""
    needles: set[bytes] = set()
    for data in pieces(made.home(HUB) / "spied" / "labels")[::5]:
        for at in range(0, len(data) - 24, 5):
            some = list(data[at : at + 24])
            for kind in (np.uint8, np.int32, np.int64, np.float32, np.float64):
                needles.add(np.array(some, kind).tobytes())
            for comma in ("", ",", ", ", "\n"):
                needles.add(comma.join(map(str, some)).encode())
                needles.add(comma.join(f"{one}.0" for one in some).encode())
                needles.add(comma.join("true" if one else "false" for one in some).encode())
    return {needle for needle in needles if len({*needle}) > 1}


def is_shown(file: Path) -> bool:
    """And not meant to hold a party's own people, columns or secret, whole or half-written."""
    return not any(own in file.name for own in (*OWN, *WEIGHTS, "secret"))


def seen_during(made: Any, metrics: str) -> bytes:
    """What can be seen from outside while the processes run, until all have ended."""
    seen: set[bytes] = set()
    deadline = time.monotonic() + 150
    while any(process.poll() is None for process in made.processes.values()):
        assert time.monotonic() < deadline
        with suppress(OSError), urllib.request.urlopen(f"http://{metrics}/metrics", timeout=5) as answer:
            seen.add(answer.read())
        for path in made.folder.glob("*/runs/**/*"):
            if path.is_file() and is_shown(path):
                with suppress(OSError):  # it may be gone again
                    seen.add(path.read_bytes())
        time.sleep(0.2)
    assert any(b"party_phase" in page for page in seen)
    assert any(b"vertical checkpoint" in file for file in seen)
    return b"\n".join(seen)


def shown(made: Any) -> bytes:
    """Output, logs, status and files of all parties, but for those of their own people and columns."""
    texts = []
    for name in made.names:
        home = made.home(name)
        texts += [(home / "stdout").read_bytes(), (home / "stderr").read_bytes()]
        left = [path for path in (home / "runs").rglob("*") if path.is_file()]
        texts += [path.read_bytes() for path in left if is_shown(path)]
        for option in ((), ("--json",)):
            command = [sys.executable, "-m", "parties", "status", *option]
            texts.append(subprocess.run(command, cwd=home, capture_output=True, check=True).stdout)
    assert b'"exit_code": 0' in b"\n".join(texts)
    return b"\n".join(texts)


def learned(made: Any) -> bytes:
    return b"\n".join(
        path.read_bytes()
        for path in made.folder.glob("*/runs/**/*")
        if path.name in WEIGHTS and path.is_file()
    )


def test_nothing_secret_is_in_a_capture_or_in_what_a_run_shows(federation: Federate) -> None:
    made = federation(NAMES, HUB)
    made.agree("epochs = 200, patience = 3", "epochs = 60, patience = 60")
    metrics = f"127.0.0.1:{free_port()}"
    made.edit(HUB, "party.toml", "[link]\n", f'[metrics]\nlisten = "{metrics}"\n\n[link]\n')
    with ExitStack() as stack:
        taps = [stack.enter_context(Tap(int(made.address.split(":")[1]))) for _ in HOLDERS]
        for name, tap in zip(HOLDERS, taps, strict=True):
            made.edit(name, "party.toml", made.address, f"127.0.0.1:{tap.port}")
        made.start(command=["run", "--json", "--log", "json"], code=SPY)
        during = seen_during(made, metrics)
        ends = made.ends()
    assert {end.code for end in ends.values()} == {0}, ends

    capture = b"\n".join(bytes(passed) for tap in taps for passed in tap.passed)
    heard, said = (pieces(made.home(HUB) / "spied" / file) for file in ("heard", "said"))
    frames = [Frame.FromString(data) for data in (*heard, *said)]
    clear = b"\n".join([*heard, *said])
    outside, files = during + shown(made), learned(made)

    # The capture is one: as long as what crossed, and with the name that TLS says in clear.
    assert len(capture) > len(clear)
    assert HUB.encode() in capture
    # What crossed cannot be read in it: nothing of any message.
    payloads = {frame.payload for frame in frames if len(frame.payload) > 100}
    crossed = {payload[at : at + 24] for payload in payloads for at in (0, 40, len(payload) - 24)}
    crossed.discard(bytes(24))  # TLS may pad its first message with zeros (RFC 7685)
    assert len(crossed) > 100
    assert found(crossed, clear)
    assert not found(crossed, capture)
    tensors = {frame.payload[24:48] for frame in frames if frame.kind in ("activation", "gradient")}
    assert len(tensors) > 100
    assert not found({piece for piece in tensors if len({*piece}) > 8}, outside + files)

    for name in made.names:
        table = (made.home(name) / "people.csv").read_bytes()
        secret = ids(made, name)
        assert found(secret, table)
        assert len(found(secret, table + b"".join(map(digest_of, people(made, name))))) > 100
        for text in (capture, clear, outside, files):
            assert not found(secret, text)

        secret = keys(made, name)
        assert len(found(secret, (made.home(name) / f"{name}.key").read_bytes())) >= 2
        assert found(secret, (made.home(name) / "runs" / "secret").read_bytes())
        for text in (capture, clear, outside, files):
            assert not found(secret, text)

        secret = values(made, name)
        assert len(found(secret, (made.home(name) / "spied" / "features").read_bytes())) > 20
        for text in (capture, clear, outside, files):
            assert not found(secret, text)

        secret = {*pieces(made.home(name) / "spied" / "digests")}
        drawn = {piece[:16] for piece in pieces(made.home(name) / "spied" / "drawn") if len(piece) >= 16}
        assert len(secret) > 200
        assert len(drawn) > 3
        for text in (capture, clear, outside, files):
            assert not found(secret, text)
        for text in (capture, outside, files):
            assert not found(drawn, text)

    secret = labels(made)
    assert found(secret, (made.home(HUB) / "spied" / "labels").read_bytes())
    for text in (capture, clear, outside, files):
        assert not found(secret, text)

    # What feature holders say to one another passes the hub sealed.
    words = [word for name in HOLDERS for word in pieces(made.home(name) / "spied" / "words")]
    relayed = [frame for frame in frames if {frame.sender, frame.receiver} == {*HOLDERS}]
    assert len(words) == 6  # a key, a digest, the alignment's hash: of each
    assert len(relayed) >= 2 * len(words)  # as they come, and as they go on
    assert {len(frame.payload) for frame in relayed if frame.kind != "link/done"} == {
        len(word) + 16 for word in words
    }
    told = {
        frame.payload for frame in frames if frame.kind == "aligned" and HUB in (frame.sender, frame.receiver)
    }
    assert len({*words} - told) == 4
    for word in {*words} - told:  # its hash of the alignment a party tells everybody
        for at in range(0, len(word) - 15, 8):
            assert word[at : at + 16] not in clear
            assert word[at : at + 16] not in capture


def digest_of(cell: str) -> bytes:
    return hashlib.sha256(cell.encode()).digest()


def test_an_error_about_a_cell_does_not_quote_it(federation: Federate) -> None:
    """As where a column has slipped, and ids stand among the numbers."""
    made = federation()
    table = made.home("logistics") / "people.csv"
    frame = pd.read_csv(table, dtype=str, keep_default_na=False)
    frame["amount"] = frame["email"]
    frame.to_csv(table, index=False)
    end = made.run("logistics")["logistics"]
    assert end.code == 3, end
    needles = ids(made, "logistics")
    assert found(needles, table.read_bytes())
    assert not found(needles, (end.out + end.err).encode())
