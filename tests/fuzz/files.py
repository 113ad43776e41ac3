"""What lies in a party's own storage: written by this program, then cut short, altered or put there."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from parties import audit, bucket_files, certs, checkpoints, released, row_files
from parties.chain import FIRST, link, split
from parties.changes import refuse_changes
from parties.checkpoints import Stamp
from parties.config import Config, load
from parties.egress import CHAIN, Egress
from parties.errors import AccountError, ConfigError, StorageError
from parties.status import status, text
from parties.unfinished import ALIGNMENT, Unfinished, read
from psi.buckets import Finished
from splitnn.releases import KINDS, Release
from tests.fuzz.replay import edited
from tests.fuzz.target import HUB, NAMES, Target, contract_of, patched

RUN = bytes(range(32))
PARTY = """party = "logistics"
data = { file = "people.csv", id = "email" }
tls = { ca = "ca.pem", certificate = "logistics.pem", key = "logistics.key" }
link = { hub = "127.0.0.1:1" }
"""
_folders: list[tempfile.TemporaryDirectory[str]] = []  # until the process ends


def folder() -> Path:
    _folders.append(tempfile.TemporaryDirectory())
    return Path(_folders[-1].name)


def config() -> Config:
    home = folder()
    certs.issue(home, NAMES)
    identity = {
        name: certs.load(home / "ca.pem", home / f"{name}.pem", home / f"{name}.key", name) for name in NAMES
    }
    pins = "".join(f'[parties.{name}]\nkey = "{identity[name].fingerprint}"\n' for name in NAMES)
    (home / "run.toml").write_text(
        f'version = 1\nname = "test"\nseed = 7\nlabel_holder = "{HUB}"\nids.type = "email"\n{pins}'
    )
    (home / "party.toml").write_text(PARTY)
    (home / "people.csv").write_text("email\n")
    made = load(home / "party.toml")
    assert made.contract.digest == contract_of(identity).digest
    return made


def damaged(path: Path, good: bytes, look: Callable[[bytes], None]) -> Target:
    """look: at the file with this content, of which `good` is as it was written."""

    def hear(data: bytes) -> None:
        content = patched(good, data)
        path.write_bytes(content)
        look(content)

    return Target(hear, [bytes(6), bytes([0, 1, 0, 0, 0, 0]) + good[:4096]])


def one_line(error: Exception) -> None:
    assert "\n" not in str(error)


def run_json() -> Target:
    """`parties.unfinished.read`, and the refusal of what has changed since."""
    made = config()
    own = {"data.numeric": ["x"], "torch": "2"}
    unfinished = Unfinished.of(made, own)
    unfinished.begin(RUN)
    unfinished.keep_alignment(RUN, np.array([2, 0]), {})
    path = unfinished.folder / "run.json"

    def look(content: bytes) -> None:
        try:
            refuse_changes(made, own)
            previous = unfinished.previous()
            assert len(previous.run) == 32
            unfinished.begin(previous.run)
            assert read(unfinished.folder)["own"] == own
        except (ConfigError, StorageError) as error:
            one_line(error)

    return damaged(path, path.read_bytes(), look)


def rows_file(of: str) -> Target:
    """Parquet files of rows: of the alignment, or of a finished bucket."""
    made = folder()
    path = made / (ALIGNMENT if of == "alignment" else "bucket-0001.parquet")
    if of == "alignment":
        row_files.write(path, np.array([3, 1, 2]), {"run": RUN.hex(), "described": "{}"})
    else:
        bucket_files.keep(made, 1, Finished(b"o" * 32, (RUN,), (np.array([3, 1, 2]),)).to_bytes())
    good = path.read_bytes()

    def look(content: bytes) -> None:
        found = row_files.read(path)
        if found is not None:
            rows, described = found
            assert rows.tolist() == [3, 1, 2]
            assert described["run"] == RUN.hex()
        if of == "bucket":
            held = bucket_files.resume(made)
            assert (held is None) == (found is None)

    return damaged(path, good, look)


def checkpoint_file() -> Target:
    """A file of another content counts as not there."""
    made, stamp = folder(), Stamp(RUN, bytes(32), "logistics")
    checkpoints.keep(made, stamp, 3, b"state" * 10)
    path = made / "checkpoint-000003.safetensors"
    good = path.read_bytes()

    def look(content: bytes) -> None:
        there = content == good
        assert checkpoints.load(made, stamp, 3) == (b"state" * 10 if there else None)
        assert checkpoints.epochs(made, stamp) == ((3,) if there else ())

    return damaged(path, good, look)


def status_json() -> Target:
    """`party status`, of a file that another process has written."""
    made = config()
    peer = {"connected": True, "last_seen": "2026-01-02T03:04:05.678+00:00", "bytes_sent": 5}
    written: dict[str, Any] = {
        "party": "logistics", "role": "feature holder", "contract": "00", "command": "run", "pid": 5,
        "began": "2026-01-02T03:04:05.678+00:00", "updated": "2026-01-02T03:04:06.678+00:00",
        "phase": "training", "phase_began": "2026-01-02T03:04:05.678+00:00", "step": 1, "of": 2,
        "bytes_sent": 3, "bytes_received": 4, "checkpoints": 0, "end": None,
        "peers": {HUB: peer | {"bytes_received": 6, "reconnects": 1, "resent": 2}},
    }  # fmt: skip
    path = made.party.storage / "logistics.status.json"
    path.parent.mkdir(parents=True, exist_ok=True)

    def look(content: bytes) -> None:
        assert text(status(made))

    return damaged(path, json.dumps(written).encode(), look)


def chained(use: str, *bodies: bytes) -> bytes:
    """The file of these entries, whatever they are."""
    head, content = FIRST, b""
    for entry in bodies:
        head = link(use, head, entry)
        content += entry[:-1] + b',"chain":"' + head.hex().encode() + b'"}\n'
    return content


def released_log() -> Target:
    """`parties.released`: an entry is another one in a chain as it ought to be; or the file is damaged."""
    made = folder()
    noted = released.Noted.of(made, RUN, 2)
    kind = sorted(KINDS)[0]
    for turn in range(3):
        noted.keep(Release(kind, turn, 5, b"noise of a message"))
    good = noted.path.read_bytes()
    bodies = [split(line)[0] for line in good.splitlines()]

    def hear(data: bytes) -> None:
        whole, data = (data[:1] or b"\0") < b"\x80", data[1:]
        at, body = edited(bodies, data)
        again = chained(released.CHAIN, *bodies[:at], body, *bodies[at + 1 :])
        noted.path.write_bytes(again if whole else patched(good, data))
        found = released.Noted.of(made, RUN, 7)
        assert found.lost >= 0
        assert all(one.kind in KINDS and one.turn >= 0 <= one.place for one in found.before)
        found.keep(Release(kind, 9, 5, b"one more"))
        later = released.Noted.of(made, RUN, 7)
        assert len([*later.before]) == len([*found.before]) + 1

    edits = [bytes([0, at, how, 0, 0, 0, 0]) for at in range(len(bodies)) for how in (0, 5)]
    return Target(hear, [*edits, bytes([128, *bytes(6)]), bytes([128, 0, 1, 0, 0, 0, 0]) + good])


def audit_log() -> Target:
    """`parties.audit`: a peer's log, in which an entry is another one, and the chain as it ought to be."""
    path = folder() / "audit.jsonl"
    logs: dict[str, audit.Log] = {}
    for party, peer in ((HUB, "logistics"), ("logistics", HUB)):
        egress = Egress(party, clock=lambda: 1.5)
        file = folder() / party
        egress.open(file, RUN, RUN)
        egress.at("training", 3)
        egress.leaves(peer, "activation", 7, "ab" * 32)
        egress.came(peer, "activation", 7)
        egress.end("done")
        egress.close()
        logs[party] = audit.read(file)
    lines = logs[HUB].path.read_bytes().splitlines()
    bodies = [split(line)[0] for line in lines]

    def hear(data: bytes) -> None:
        at, body = edited(bodies, data)
        path.write_bytes(chained(CHAIN, *bodies[:at], body, *bodies[at + 1 :]))
        try:
            found = audit.read(path)
            assert found.described()
            audit.compare(logs["logistics"], found)
        except AccountError as error:
            one_line(error)

    return Target(hear, [bytes([at, how, 0, 0, 0, 0]) for at in range(len(bodies)) for how in (0, 5)])
