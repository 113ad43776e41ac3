"""Companies on disk: folders, dirty tables, certificates and contracts, and their real processes.

People are numbered; who a party does not know is a rule, so that the true intersection is known. Every party
writes the same e-mail addresses in its own way, and has rows without an id and rows that stand there twice.
"""

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from parties import certs
from parties.config import Config, load
from parties.own import pin_of
from parties.process import main
from tests.ports import free_port

NAMES = ("platform", "logistics", "advertiser")
SPELLINGS: list[Callable[[str], str]] = [
    lambda email: email,
    lambda email: unicodedata.normalize("NFD", email.upper()),
    lambda email: f" {email.title()}\u200b ",
    lambda email: f"\ufeff{email}",
]
CONTRACT = """version = 1
name = "e2e"
label_holder = "{label_holder}"
seed = 5
ids.type = "email"
psi.minimum = 20
model = {{ cut = 3, bottom_hidden = [6], top_hidden = [16], dropout = 0.2 }}
training = {{ optimizer = "adam", learning_rate = 0.005, batch = 32, epochs = 200, patience = 3 }}
"""
PARTY = """party = "{name}"

[data]
file = "people.csv"
id = "email"
numeric = ["amount"]
categorical = ["kind"]
{label}
[tls]
ca = "ca.pem"
certificate = "{name}.pem"
key = "{name}.key"

[link]
{link}
wait = 60
away = 6
silence = 4
"""
SAID = re.compile(
    r"[\w:]+: the leader learns .*|[\w:]+ is not installed here, or .*"
    r"|(\d+ finished bucket|the alignment|training up to epoch ).*"
    r"|(scoring with|adds to the users of) the model of run [0-9a-f]{12}"
    r"|prediction [0-9a-f]{12} (goes on|is dropped).*"
    r"|run [0-9a-f]{12} (goes on from|is dropped).*"
    r"|results are (written; waiting until|whole in) .*"
    r"|training ended after .*|training\.batch = .* each epoch is one step|examples: every party learns .*"
    r"|reveals_membership: .*"
    r"|warm start from run [0-9a-f]{12}: .*"
    r"|[\d,]+ rows take no part, as they have one of the [\d,]+ ids of .*"
    r"|drift: (alert|watch): .*|labels as of [\d:TZ-]+: .*"
    r"|\S+: column '.*' (is left out:|is taken as|alone tells|is the id column|looks like|holds what) .*"
    r"|calling \w+ at [\w.:]+, for up to [\d.]+ s|\w+ is away; waiting up to [\d.]+ s|\w+ is back"
)
PROGRESS = re.compile(
    r"[a-z][a-z0-9 ,_-]*: (\d[\d,]*( of \d[\d,]*)?, )?[\d.]+ s(, [\d,]+ rows/s)?"
    r"(, [\d,.]+ MB out, [\d,.]+ MB in)?(, epoch \d+(, validation \w+ [\d.]+)?)?"
)


@dataclass(frozen=True)
class End:
    """How a party's process ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return dict(json.loads(self.out))

    @property
    def error(self) -> str:
        """The one line that says what went wrong: last on stderr, after what a run says of itself."""
        *before, last = self.err.splitlines()
        assert last.startswith("party: "), self.err
        assert all(PROGRESS.fullmatch(line) or SAID.fullmatch(line) for line in before), self.err
        assert self.json["error"]["exit_code"] == self.code
        assert self.json["error"]["message"] == last.removeprefix("party: ")
        return last.removeprefix("party: ")


@dataclass
class Federation:
    """Parties of one contract, each with a folder of its own in `folder`; the first may hold the label."""

    folder: Path
    names: tuple[str, ...]
    label_holder: str
    people: int
    address: str
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def home(self, name: str) -> Path:
        return self.folder / name

    def email(self, number: int) -> str:
        return f"josé.{number}@mail.example"

    @property
    def common(self) -> set[str]:
        """The true intersection, in canonical form."""
        absent = range(len(self.names))
        return {self.email(number) for number in range(self.people) if number % 7 not in absent}

    def write(self) -> None:
        certs.issue(self.folder / "certs", self.names)
        pins = [(name, pin_of(self.folder / "certs" / f"{name}.pem")) for name in self.names]
        contract = CONTRACT.format(label_holder=self.label_holder)
        contract += "".join(f'[parties.{name}]\nkey = "{pin}"\n' for name, pin in pins)
        for index, name in enumerate(self.names):
            self.home(name).mkdir()
            holds = name == self.label_holder
            for file in ("ca.pem", f"{name}.pem", f"{name}.key"):
                shutil.copy(self.folder / "certs" / file, self.home(name) / file)  # and its mode
            (self.home(name) / "run.toml").write_text(contract)
            label = 'label = "bought"\n' if holds else ""
            link = f'{"listen" if holds else "hub"} = "{self.address}"'
            (self.home(name) / "party.toml").write_text(PARTY.format(name=name, label=label, link=link))
            self._table(index, holds).to_csv(
                self.home(name) / "people.csv", index=False, encoding="utf-8-sig" if index == 0 else "utf-8"
            )

    def _table(self, index: int, holds: bool) -> pd.DataFrame:
        draw = random.Random(index)
        known = [number for number in range(self.people) if number % 7 != index]
        draw.shuffle(known)
        rows = [
            {
                "email": SPELLINGS[index](self.email(number)),
                "amount": round(draw.gauss(number % 2, 1.5), 3) if draw.random() > 0.1 else None,
                "kind": draw.choice("abc"),
                "bought": int(draw.random() < 0.3 + 0.4 * (number % 2)),
            }
            for number in known
        ]
        rows += [rows[0], rows[7], rows[0] | {"email": None}, rows[0] | {"email": "   "}]
        frame = pd.DataFrame(rows)
        return frame if holds else frame.drop(columns="bought")

    def edit(self, name: str, file: str, old: str, new: str) -> None:
        path = self.home(name) / file
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def agree(self, old: str, new: str) -> None:
        """Edit run.toml at every party."""
        for name in self.names:
            self.edit(name, "run.toml", old, new)

    def configs(self) -> dict[str, Config]:
        return {name: load(self.home(name) / "party.toml") for name in self.names}

    def start(self, *names: str, command: Sequence[str] = ("run", "--json"), code: str = "") -> None:
        """`party run --json` in the folder of each named party, or of all. code: in place of `party`."""
        for name in names or self.names:
            program = [sys.executable, *(("-c", code) if code else ("-m", "parties")), *command]
            home = self.home(name)
            with (home / "stdout").open("wb") as out, (home / "stderr").open("wb") as err:
                self.processes[name] = subprocess.Popen(program, cwd=home, stdout=out, stderr=err)

    def ends(self, *names: str, within: float = 90.0) -> dict[str, End]:
        """How each ended; fails if one is still there after `within` seconds."""
        deadline = time.monotonic() + within
        ended = {}
        for name in names or tuple(self.processes):
            process = self.processes[name]
            try:
                code = process.wait(max(deadline - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                pytest.fail(f"{name} has not ended within {within:g} s; its stderr: {self.stderr(name)!r}")
            ended[name] = End(code, (self.home(name) / "stdout").read_text(), self.stderr(name))
        return ended

    def run(self, *names: str, within: float = 90.0) -> dict[str, End]:
        self.start(*names)
        return self.ends(*names, within=within)

    def stderr(self, name: str) -> str:
        return (self.home(name) / "stderr").read_text()

    def says(self, name: str, text: str, within: float = 40.0) -> None:
        """Wait until a running party's stderr holds `text`."""
        deadline = time.monotonic() + within
        while text not in self.stderr(name):
            assert self.processes[name].poll() is None, f"{name} ended: {self.stderr(name)}"
            assert time.monotonic() < deadline, f"{name} never said {text!r}: {self.stderr(name)!r}"
            time.sleep(0.02)

    def listens(self, within: float = 40.0) -> None:
        """Wait until the hub takes connections."""
        host, port = self.address.split(":")
        deadline = time.monotonic() + within
        while True:
            try:
                socket.create_connection((host, int(port)), 1).close()
                return
            except ConnectionRefusedError:
                assert self.processes[self.label_holder].poll() is None, self.stderr(self.label_holder)
                assert time.monotonic() < deadline, "the hub never listened"
                time.sleep(0.02)

    def left(self, name: str) -> set[str]:
        """Files in a party's storage but its secret, which columns it had, its lock and its status."""
        storage = self.home(name) / "runs"
        files = {str(path.relative_to(storage)) for path in storage.rglob("*")}
        return files - {"secret", f"{name}.columns.json", f"{name}.lock", f"{name}.status.json"}

    def kill(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
            process.wait(10)


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Callable[..., Federation]]:
    """Make parties on disk: `federation()`, or with other names, label holder, number of people."""
    made: list[Federation] = []

    def make(names: tuple[str, ...] = NAMES, label_holder: str = "platform", people: int = 300) -> Federation:
        address = f"127.0.0.1:{free_port()}"
        folder = tmp_path / f"federation{len(made)}"
        folder.mkdir()
        made.append(Federation(folder, names, label_holder, people, address))
        made[-1].write()
        return made[-1]

    yield make
    for one in made:
        one.kill()


@pytest.fixture
def party(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., End]:
    """`party ... --json` for one party by itself, in this process, where another one would add nothing."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)

    def call(command: str, home: Path) -> End:
        capsys.readouterr()
        monkeypatch.chdir(home)
        monkeypatch.setattr(sys, "argv", ["party", command, "--json"])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return End(int(ended.value.code or 0), captured.out, captured.err)

    return call
