"""The wire is a public contract: this release writes, byte for byte, what `tests/vectors/` holds."""

import ast
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from parties.certificate import verify
from parties.handshake import WIRE_VERSIONS
from parties.news import DONE, FAILED
from protos.line import Inbox, Line
from protos.party_pb2 import Agreement, Frame, Hellos

ROOT = Path(__file__).parents[1]
VECTORS = ROOT / "tests" / "vectors"
TRANSCRIPTS = sorted(VECTORS.glob("transcript-*.json"))
ANEW = "if the wire is meant to change: add to WIRE_VERSIONS, run `python tests/vectors/make.py`"


sys.path.insert(0, str(VECTORS))  # makers of the vectors; a bottom model is found by this name
import make  # noqa: E402
import transcript  # noqa: E402


def golden(name: str) -> Any:
    return json.loads((VECTORS / f"{name}.json").read_text())


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=lambda path: path.stem)
def test_a_frozen_run_is_replayed(path: Path, tmp_path: Path) -> None:
    """Byte for byte, to its end: never write such a file anew once its version was released."""
    done = transcript.replay(json.loads(path.read_text()), tmp_path)
    assert len(done.aligned.rows) == 66
    assert done.trained.epochs == 2
    assert done.meeting.version == int(path.stem.removeprefix("transcript-"))


def test_another_answer_is_noticed(tmp_path: Path) -> None:
    told = json.loads(TRANSCRIPTS[-1].read_text())
    place = [way for way, _ in told["frames"]].index("out", 20)
    told["frames"][place][1] = told["frames"][place][1][:-2] + "77"
    with pytest.raises(AssertionError, match=f"frame {place}: 'activation' for 'activation'"):
        transcript.replay(told, tmp_path)


def test_every_version_that_is_spoken_has_a_frozen_run() -> None:
    assert {path.stem for path in TRANSCRIPTS} == {f"transcript-{version}" for version in WIRE_VERSIONS}


@pytest.mark.parametrize("name", make.FILES)
def test_this_release_says_the_same(name: str) -> None:
    assert json.loads(json.dumps(make.FILES[name]())) == golden(name), ANEW


def test_each_file_has_a_maker() -> None:
    elsewhere = {"rfc9496", *(path.stem for path in TRANSCRIPTS)}
    assert {path.stem for path in VECTORS.glob("*.json")} - elsewhere == set(make.FILES)


def test_frames_are_read_as_they_say() -> None:
    """By the schema alone; and by the line, which takes each of them once and in order."""
    first, second = (Frame.FromString(bytes.fromhex(said["hex"])) for said in golden("frames")[:2])
    line, inbox, kinds = Line(first.session), Inbox("logistics", 1 << 20), []
    line.post("platform", "logistics", "hellos", 0, True, b"")  # which they acknowledge
    for said in golden("frames"):
        frame = Frame.FromString(bytes.fromhex(said["hex"]))
        for field in frame.DESCRIPTOR.fields:
            value = getattr(frame, field.name)
            assert (value.hex() if isinstance(value, bytes) else value) == said[field.name]
        line.incarnation = frame.incarnation and second.incarnation  # which the answer to the first told
        assert line.accept(frame) == (frame.sequence > 0)
        assert not line.accept(frame)
        if frame.sequence and frame.receiver == "platform" and inbox.put(frame):
            kinds.append(frame.kind)
    assert kinds == ["hello", "tags", "link/done", "link/failed"]
    assert inbox.take("hello", 7) == b"payload"
    assert inbox.take("tags", 100) == b"in three chunks"


def test_signatures_verify_by_what_was_said() -> None:
    """What a third party can check with the transcript in its hands."""
    told = golden("handshake")
    said = {
        (one["from"], one["to"], one["kind"]): bytes.fromhex(one["payload"]) for one in told["transcript"]
    }
    everyone = said["platform", "logistics", "hellos"]
    hellos = {hello.party: hello for hello in Hellos.FromString(everyone).hello}
    contract = hashlib.sha256(told["contract"].encode()).digest()
    nonces = b"".join(hellos[name].nonce for name in sorted(hellos))
    run = hashlib.sha256(b"vertical run v1\0" + contract + nonces).digest()
    assert run.hex() == told["run"]
    agreed = b"vertical agreement v1\0" + run + hashlib.sha256(everyone).digest()
    assert agreed.hex() == told["agreed"]
    signatures = Agreement.FromString(said["platform", "advertiser", "agreed"]).signature
    assert set(signatures) == set(hellos)
    for name, hello in hellos.items():
        assert verify(hello.certificate, agreed, signatures[name])
        assert not verify(hello.certificate, agreed + b"\0", signatures[name])


def test_seals_open_by_the_text_of_the_contract() -> None:
    """docs/wire.md, "Sealed relay", with another library than the one that seals."""
    told = golden("seal")
    one, other = (X25519PrivateKey.from_private_bytes(bytes.fromhex(key)) for key in told["private keys"])
    shared = one.exchange(X25519PublicKey.from_public_bytes(other.public_key().public_bytes_raw()))
    for way, pins in [("there", told["pins"]), ("back", told["pins"][::-1])]:
        info = b"vertical relay v1\0" + pins[0].encode() + b"\0" + pins[1].encode()
        key = HKDF(SHA256(), 32, bytes.fromhex(told["run"]), info).derive(shared)
        for said in told[way]:
            nonce, sealed = said["nonce"].to_bytes(12, "big"), bytes.fromhex(said["sealed"])
            assert AESGCM(key).decrypt(nonce, sealed, said["kind"].encode()).hex() == said["plain"]


def test_ids_are_hashed_as_the_text_says() -> None:
    told = golden("ids")
    for kind, single in told["single"].items():
        key = hashlib.sha256(b"vertical ids v1\0" + bytes.fromhex(told["contract"]) + kind.encode()).digest()
        assert key.hex() == single["key"]
        for cell in single["cells"]:
            form = cell["canonical"]
            hashed = hashlib.blake2b(form.encode(), digest_size=16, key=key).hexdigest() if form else ""
            assert hashed == cell["digest"], cell
    parts = [b"ab", b"7"]
    message = b"".join(len(part).to_bytes(4, "little") + part for part in parts)
    key = bytes.fromhex(told["composite"]["key"])
    assert hashlib.blake2b(message, digest_size=16, key=key).hexdigest() == told["composite"]["digests"][0]


@pytest.mark.parametrize("title", golden("psi"))
def test_alignments_are_the_plain_intersection(title: str) -> None:
    told = golden("psi")[title]
    held = {name: [told["digests"][name][row] for row in rows] for name, rows in told["rows"].items()}
    common = set.intersection(*map(set, told["digests"].values()))
    assert all(set(ids) == common and len(ids) == len(common) for ids in held.values())
    assert len({tuple(ids) for ids in held.values()}) == 1


def sent_kinds() -> set[str]:
    """Every kind that is written out where a message is sent."""
    rooms = [path for room in ("parties", "psi", "splitnn") for path in (ROOT / room).glob("*.py")]
    calls = [node for path in rooms for node in ast.walk(ast.parse(path.read_text()))]
    return {
        node.args[1].value
        for node in calls
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Send"
        and isinstance(node.args[1], ast.Constant)
    }


def test_every_kind_of_message_is_in_the_text() -> None:
    text = "".join(path.read_text() for path in (ROOT / "docs").glob("wire*.md"))
    kinds = sent_kinds() | {DONE, FAILED}
    assert {"hello", "terms", "blinded", "hint", "gradient", "verdict"} <= kinds
    assert {kind for kind in kinds if not re.search(rf"\b{kind}\b", text)} == set()
