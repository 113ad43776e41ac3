"""A whole run of two parties as its feature holder sees it, frame by frame: frozen for each version.

`python tests/vectors/transcript.py` writes `transcript-<version>.json` for the newest version, where there is
none yet. A later release still has to answer the same frames with the same bytes: `tests/test_vectors.py`.
"""

import json
import sys
import tempfile
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from make import HERE, drawn, identity, source, toml

from parties.config import Config, load
from parties.ending import all_keep
from parties.handshake import WIRE_VERSIONS, Brings
from parties.own import own_data, own_protocols
from parties.phases import Outcome, Prepared, whole_run
from parties.unfinished import Unfinished
from protos.line import CONTROL, HEARTBEAT, Inbox, Line, chunks
from protos.party_pb2 import Frame
from protos.rounds import Bind, Progress, Receive, Rounds, Send, Traffic

HUB, OTHER = "platform", "logistics"
SESSION, INCARNATION = (int.from_bytes(drawn(name, 4), "little") for name in ("session", "incarnation"))
AGREED = """psi.minimum = 5
model = { cut = 2, bottom_hidden = [3], top_hidden = [3], dropout = 0.0 }
training = { optimizer = "sgd", learning_rate = 0.125, weight_decay = 0.0, batch = 2, epochs = 2 }
evaluation = { every = 1 }
"""
OWN = """party = "{name}"
data = {{ file = "people.csv", id = "email", categorical = ["kind", "size"]{more} }}
tls = {{ ca = "ca.pem", certificate = "{name}.pem", key = "{name}.key" }}
link = {{ {link} = "127.0.0.1:1" }}
"""
FILES = {
    HUB: {
        "party.toml": OWN.format(name=HUB, more=', label = "bought"', link="listen"),
        "people.csv": "email,kind,size,bought\n"
        + "".join(f"p{n}@x.org,{'abc'[n % 3]},{n % 2},{n % 4 // 2}\n" for n in range(72)),
    },
    OTHER: {
        "party.toml": OWN.format(name=OTHER, more="", link="hub") + '[model]\nbottom = "make:Scale"\n',
        "people.csv": "email,kind,size\n"
        + "".join(f"P{n}@X.ORG ,{'stu'[n % 3]},{n % 2}\n" for n in range(6, 80)),
    },
}


class End:
    """One end of the line, and the protocol that is played there until it has to wait."""

    def __init__(self, me: str, peer: str, rounds: Rounds[Any]) -> None:
        self.me, self.peer, self.inbox = me, peer, Inbox(peer, 1 << 30)
        self.line = Line(SESSION, INCARNATION if me == HUB else 0)
        self.met = False
        self.result: Any = None
        self._rounds = rounds
        self.posted = self._play()

    def hear(self, frame: Frame) -> None:
        if self.me != HUB and not self.line.incarnation:
            self.line.incarnation = frame.incarnation  # the answer to its first frame
        if self.me == HUB and not frame.incarnation:
            frame.incarnation = INCARNATION  # the first frame, which could not know it
        self.met = True
        assert self.line.accept(frame) == (frame.kind != HEARTBEAT)
        if not frame.kind.startswith(CONTROL) and frame.kind != HEARTBEAT:
            self.inbox.put(frame)

    def _play(self) -> Iterator[Frame | None]:
        """Each frame that is posted; None while it waits for one."""
        while self.me == HUB and not self.met:
            yield None
        yield self.line.heartbeat(self.me, self.peer)
        answer: Any = None
        while True:
            try:
                word = self._rounds.send(answer)
            except StopIteration as stop:
                self.result = stop.value
                yield self.line.post(self.me, self.peer, "link/done", 0, True, self.me.encode())
                return
            answer = None
            match word:
                case Send(_, kind, payload):
                    for number, (chunk, last) in enumerate(chunks(payload)):
                        yield self.line.post(self.me, self.peer, kind, number, last, chunk)
                case Receive(_, kind, at_most):
                    while (answer := self.inbox.take(kind, at_most)) is None:
                        yield None
                case Bind(run):
                    self.line.bind(run)
                case Progress():
                    answer = Traffic(0, 0)


def to_its_end(prepared: Prepared, draws: str) -> Rounds[Outcome]:
    unfinished = Unfinished.of(prepared.config, {})
    outcome = yield from whole_run(prepared, unfinished, clock=lambda: 0.0, random=source(draws))
    assert isinstance(outcome, Outcome), outcome
    yield from all_keep(prepared.config.name, prepared.config.contract)
    return outcome


def party(name: str, files: dict[str, str], folder: Path, version: int, draws: str) -> Rounds[Any]:
    for file, text in (files | {"ca.pem": "", f"{name}.pem": "", f"{name}.key": ""}).items():
        (folder / file).write_text(text)
    config: Config = load(folder / "party.toml")
    brings = Brings("run", ["ecdh"], ["email"], versions=(version,))
    data, protocols = own_data(config), own_protocols(config)
    prepared = Prepared(config, identity(name), data, protocols, brings, drawn(f"secret {name}", 32))
    return to_its_end(prepared, f"{draws} {name}")


def replay(told: dict[str, Any], folder: Path) -> Any:
    """Feed a feature holder the hub's frames; it must answer with those of the transcript. Its result."""
    torch.set_num_threads(1)
    end = End(OTHER, HUB, party(OTHER, told["files"], folder, told["version"], told["draws"]))
    for place, (way, text) in enumerate(told["frames"]):
        if way == "in":
            end.hear(Frame.FromString(bytes.fromhex(text)))
            continue
        said = next(frame for frame in end.posted)
        assert said is not None, f"frame {place}: nothing is said"
        expected = Frame.FromString(bytes.fromhex(text))
        assert said.SerializeToString().hex() == text, f"frame {place}: {said.kind!r} for {expected.kind!r}"
    assert next(end.posted, None) is None
    return end.result


def record(version: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    files = {name: own | {"run.toml": toml(AGREED, (OTHER, HUB))} for name, own in FILES.items()}
    told = {"version": version, "draws": f"transcript {version}", "files": files[OTHER], "frames": []}
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        hub = End(HUB, OTHER, party(HUB, files[HUB], Path(one), version, told["draws"]))
        other = End(OTHER, HUB, party(OTHER, files[OTHER], Path(two), version, told["draws"]))
        turns = deque([(other, hub, "out"), (hub, other, "in")])
        while other.result is None or hub.result is None:
            speaker, hearer, way = turns[0]
            for frame in speaker.posted:
                if frame is None:
                    break
                told["frames"].append([way, frame.SerializeToString().hex()])
                hearer.hear(frame)
            turns.rotate()
    return told


def main() -> None:
    file = HERE / f"transcript-{WIRE_VERSIONS[-1]}.json"
    if file.exists():
        sys.exit(f"{file} is frozen; remove it first if that version was never released")
    file.write_text(json.dumps(record(WIRE_VERSIONS[-1]), indent=1) + "\n")


if __name__ == "__main__":
    main()
