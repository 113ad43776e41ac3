"""Each kind of bad input that one party can see alone: one line, the exit code of its class, nothing written.

Where the input is repaired or dropped as configured, the counts are told; that the rest of the run then goes
right is in test_parity.py, whose tables are all dirty.
"""

import re
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from parties import certs
from parties.own import pin_of

Federate = Callable[..., Any]
Party = Callable[..., Any]
Break = Callable[[Any, Path], None]


@pytest.fixture
def made(federation: Federate) -> Any:
    return federation(people=60)


def refused(party: Party, made: Any, name: str, code: int, says: str) -> None:
    """`party check` and `party run` say the same one line and leave nothing."""
    checked = party("check", made.home(name)).json
    end = party("run", made.home(name))
    assert end.code == code
    assert re.fullmatch(says, end.error), end.error
    assert end.json["error"] in checked.get("faults", [checked["error"]])
    assert made.left(name) == set()


def toml(old: str, new: str, file: str = "party.toml") -> Callable[[Any, str], None]:
    return lambda made, name: made.edit(name, file, old, new)


def table(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Any, str], None]:
    def apply(made: Any, name: str) -> None:
        file = made.home(name) / "people.csv"
        change(pd.read_csv(file)).to_csv(file, index=False)

    return apply


def content(text: str | bytes) -> Callable[[Any, str], None]:
    data = text.encode() if isinstance(text, str) else text
    return lambda made, name: (made.home(name) / "people.csv").write_bytes(data)


HEADER = "email,amount,kind,bought\n"

ROWS: dict[str, tuple[str, Any, int, str]] = {
    "unknown key": (
        "logistics",
        toml("numeric =", "numerc ="),
        2,
        r"party.toml: data.numerc: unknown key; did you mean data.numeric\?",
    ),
    "unknown key of the contract": (
        "platform",
        toml("seed = 5", "seed = 5\nsede = 6", "run.toml"),
        2,
        r"run.toml: sede: unknown key; did you mean seed\?",
    ),
    "no such file": (
        "logistics",
        toml("people.csv", "peple.csv"),
        2,
        r"party.toml: data.file: no such file: /.*/logistics/peple.csv",
    ),
    "no id column": (
        "logistics",
        toml('id = "email"', 'id = "e-mail"'),
        3,
        r"/.*/people.csv: no column 'e-mail' \(did you mean 'email'\?\); it has email, amount, kind",
    ),
    "no such column": (
        "logistics",
        toml('["kind"]', '["kinds"]'),
        3,
        r"/.*/people.csv: no column 'kinds' \(did you mean 'kind'\?\); it has email, amount, kind",
    ),
    "no label column": (
        "platform",
        toml('label = "bought"', 'label = "sold"'),
        3,
        r"/.*/people.csv: no column 'sold'; it has email, amount, kind, bought",
    ),
    "no label configured": (
        "platform",
        toml('label = "bought"\n', ""),
        2,
        r"party.toml: data.label: missing; this party is the label holder, so name the label's column",
    ),
    "single class": (
        "platform",
        table(lambda frame: frame.assign(bought=1)),
        3,
        r"/.*/people.csv: label column 'bought': every row is a yes: nothing to learn; check .*",
    ),
    "empty cells in the label": (
        "platform",
        table(lambda frame: frame.assign(bought=frame["bought"].astype("Int64").mask(frame.index == 4))),
        3,
        r"/.*/people.csv: label column 'bought': 1 empty cell\(s\), the first in row 5; fill or remove them",
    ),
    "regression label for a binary task": (
        "platform",
        table(lambda frame: frame.assign(bought=frame.index / 7)),
        3,
        r"/.*/people.csv: label column 'bought': .* or agree on another model.task in run.toml, such as .*",
    ),
    "loss that does not fit the task": (
        "platform",
        lambda made, name: made.agree("dropout = 0.2", 'dropout = 0.2, loss = "huber"'),
        2,
        r"run.toml: model.loss: must be 'cross-entropy' for this model.task, not 'huber'",
    ),
    "unknown codec": (
        "logistics",
        lambda made, name: made.agree("ids.type", 'codec.activations = "zfp"\nids.type'),
        2,
        r"run.toml: codec.activations: must be 'fp32', 'bf16', 'int8' or 'randtopk', not 'zfp'",
    ),
    "infinite feature": (
        "logistics",
        table(lambda frame: frame.assign(amount=frame["amount"].mask(frame.index == 4, -float("inf")))),
        3,
        r"/.*/people.csv: column 'amount': 1 cell\(s\), the first in row 5, hold an infinite or absurd .*",
    ),
    "label at a feature holder": (
        "logistics",
        toml('id = "email"', 'id = "email"\nlabel = "kind"'),
        2,
        r"party.toml: data.label: not for a feature holder; the label is held by platform; remove it",
    ),
    "nulls and blanks refused": (
        "logistics",
        toml('id = "email"', 'id = "email"\nnulls = "refuse"'),
        3,
        r"/.*/people.csv: column 'email': no id in 2 rows \(54, 55\); mend them, or set nulls to 'drop'",
    ),
    "duplicates refused": (
        "logistics",
        toml('id = "email"', 'id = "email"\nduplicates = "refuse"'),
        3,
        r"/.*/people.csv: column 'email': 2 rows \(52, 53\) repeat an id of an earlier row; mend .*",
    ),
    "mixed integers": (
        "logistics",
        lambda made, name: (
            made.agree('"email"', '"integer"'),
            content("email,amount,kind\n1,2,a\n001,2,a\n1.0,1,b\n1.5,2,a\nx7,1,b\n")(made, name),
        ),
        3,
        r"/.*/people.csv: column 'email': 2 rows \(4, 5\) cannot be read as integers; mend or empty them",
    ),
    "numbers where text is agreed": (
        "logistics",
        lambda made, name: (
            made.agree('"email"', '"string"'),
            pd.DataFrame({"email": [1, 7], "amount": [1, 2], "kind": ["a", "b"]}).to_parquet(
                made.home(name) / "people.parquet"
            ),
            made.edit(name, "party.toml", "people.csv", "people.parquet"),
        ),
        3,
        r"/.*/people.parquet: column 'email': 2 rows \(1, 2\) hold no text; read it as text, or .*",
    ),
    "insecure protocol": (
        "platform",
        lambda made, name: made.agree("ids.type", 'psi.protocol = "insecure-hash"\nids.type'),
        2,
        r"/.*/run.toml: psi.allow_insecure: insecure-hash hides nothing from a party that guesses ids; .*",
    ),
    "protocol for fewer parties": (
        "logistics",
        lambda made, name: made.agree("ids.type", 'psi.protocol = "dh"\nids.type'),
        2,
        r"/.*/run.toml: psi.protocol: dh is for 2 parties, and the contract has 3",
    ),
    "kind of id that is not in the contract": (
        "logistics",
        toml('id = "email"', 'id.phone = "email"'),
        2,
        r"party.toml: data.id.phone: run.toml has no such kind of id; it has email",
    ),
    "one column for a composite id": (
        "logistics",
        lambda made, name: made.agree('ids.type = "email"', 'ids.types = ["email", "integer"]'),
        2,
        r"party.toml: data.id: run.toml makes email-integer of 2 columns \(email, integer\); list them: .*",
    ),
    "duplicates of a composite id refused": (
        "logistics",
        lambda made, name: (
            made.agree('ids.type = "email"', 'ids = { name = "who", types = ["email", "integer"] }'),
            content("email,born,amount,kind\na@x.org,1,1,a\nb@x.org,1,1,a\nA@x.org,01,2,b\n")(made, name),
            made.edit(
                name, "party.toml", 'id = "email"', 'id.who = ["email", "born"]\nduplicates = "refuse"'
            ),
        ),
        3,
        r"/.*/people.csv: columns 'email', 'born': 1 row \(3\) repeat an id of an earlier row; mend .*",
    ),
    "ragged row": (
        "platform",
        content(HEADER + "a@x.org,1,a,1\nb@x.org,1,b\nc@x.org,1,b,0\n"),
        3,
        r"/.*/people.csv: line 3: 3 cells where the header has 4; quote cells that hold commas.*",
    ),
    "not UTF-8": (
        "platform",
        content(HEADER.encode() + b"a@x.org,1,a,1\njos\xe9@x.org,1,b,1\n"),
        3,
        r"/.*/people.csv: line 3: not UTF-8 text; .* or name its encoding in data.encoding",
    ),
    "empty file": ("platform", content(""), 3, r"/.*/people.csv: the file is empty"),
    "no rows": ("platform", content(HEADER), 3, r"/.*/people.csv: a header, but no rows"),
    "no certificate": (
        "logistics",
        lambda made, name: (made.home(name) / "logistics.pem").write_text("x"),
        4,
        r"/.*/logistics.pem: is no certificate in PEM form; give the right file",
    ),
    "another's certificate": (
        "logistics",
        toml('"logistics.pem"', '"../certs/advertiser.pem"'),
        4,
        r"/.*/logistics.key: .*",
    ),
    "another's certificate and key": (
        "logistics",
        lambda made, name: made.edit(
            name,
            "party.toml",
            'certificate = "logistics.pem"\nkey = "logistics.key"',
            'certificate = "../certs/advertiser.pem"\nkey = "../certs/advertiser.key"',
        ),
        4,
        r"/.*/advertiser.pem: names advertiser, localhost, not 'logistics'; use the .*",
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_own_fault(party: Party, made: Any, row: str) -> None:
    name, breaks, code, says = ROWS[row]
    if row == "label at a feature holder":
        made.edit(name, "party.toml", 'categorical = ["kind"]\n', "")
    breaks(made, name)
    refused(party, made, name, code, says)


def test_a_model_of_another_shape(
    party: Party, made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models_of_ours.py").write_text(
        "from torch import nn\n\n\nclass Narrow(nn.Module):\n"
        "    def __init__(self, numeric, levels, cut):\n"
        "        super().__init__()\n        self.out = nn.Linear(numeric, cut - 1)\n\n"
        "    def forward(self, numeric, categorical):\n        return self.out(numeric)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    made.edit("logistics", "party.toml", "[data]", 'model.bottom = "models_of_ours:Narrow"\n[data]')
    says = "bottom model models_of_ours:Narrow returns [2, 2] instead of [2, 3]"
    refused(party, made, "logistics", 2, r"/.*/party.toml: model.bottom: " + re.escape(says))


def test_own_certificate_of_another_ca(party: Party, made: Any, tmp_path: Path) -> None:
    certs.issue(tmp_path / "other", made.names)
    for file in ("logistics.pem", "logistics.key"):
        shutil.copy(tmp_path / "other" / file, made.home("logistics") / file)
    refused(party, made, "logistics", 4, r"/.*/logistics.pem: was not issued by /.*/ca.pem; use the CA .*")


def test_own_certificate_expired(party: Party, made: Any) -> None:
    past = datetime.now(UTC) - timedelta(days=3)
    certs.issue(made.folder / "certs", ["logistics"], days=1, now=past, force=True)
    for file in ("logistics.pem", "logistics.key"):
        shutil.copy(made.folder / "certs" / file, made.home("logistics") / file)
    refused(party, made, "logistics", 4, r"/.*/logistics.pem: expired on .* UTC; have a new one issued")


def test_own_certificate_is_not_the_one_agreed(party: Party, made: Any) -> None:
    certs.issue(made.folder / "certs", ["logistics"], force=True)
    for file in ("logistics.pem", "logistics.key"):
        shutil.copy(made.folder / "certs" / file, made.home("logistics") / file)
    found, agreed = pin_of(made.home("logistics") / "logistics.pem"), "sha256:[0-9a-f]{64}"
    refused(
        party,
        made,
        "logistics",
        4,
        rf"/.*/logistics.pem: its pin is {found}, but run.toml says {agreed} for logistics; correct .*",
    )


def test_all_faults_of_the_configuration_at_once(party: Party, made: Any) -> None:
    made.edit("logistics", "party.toml", "numeric =", "numerc =")
    made.edit("logistics", "party.toml", "wait = 60", 'wait = "long"')
    made.edit("logistics", "run.toml", "batch = 32", "batch = 0")
    end = party("run", made.home("logistics"))
    assert end.code == 2
    assert end.err.splitlines() == [
        "party: party.toml: data.numerc: unknown key; did you mean data.numeric?",
        "party: party.toml: link.wait: must be a number, not 'long'",
        "party: run.toml: training.batch: must be greater than or equal to 1, not 0",
    ]


@pytest.mark.parametrize("name", ["platform", "logistics", "advertiser"])
def test_dirty_ids_are_counted(party: Party, made: Any, name: str) -> None:
    """Composed or not, with or without a byte order mark: as many usable ids as people."""
    found = party("check", made.home(name)).json["data"]
    absent = made.names.index(name)
    known = [number for number in range(made.people) if number % 7 != absent]
    assert found["rows"] == len(known) + 4
    assert found["ids"]["email"] == {
        "columns": ["email"],
        "types": ["email"],
        "usable": len(known),
        "null": 1,
        "blank": 1,
        "duplicate": 2,
        "further": 0,
    }


def test_the_hub_is_not_there(party: Party, made: Any) -> None:
    made.edit("logistics", "party.toml", "wait = 60", "wait = 1.5")
    before = time.monotonic()
    end = party("run", made.home("logistics"))
    assert end.code == 6
    assert end.error == (
        f"nobody answers at {made.address} (Connection refused); is the hub started there? (waited 1.5 s)"
    )
    assert time.monotonic() - before < 6
    assert made.left("logistics") == set()
