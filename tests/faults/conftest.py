"""Three companies on disk, whose runs are small."""

import random

import pandas as pd
import pytest

from parties import certs
from parties.certificate import key_fingerprint
from parties.config import load
from parties.phases import Prepared, prepare

NAMES = ("advertiser", "logistics", "platform")
PEOPLE = [f"person{i}@mail.example" for i in range(120)]

RUN = """
version = 1
name = "faults"
label_holder = "platform"
seed = 3
ids.type = "email"
psi.minimum = 10
examples.per_entity = "several"
model = { cut = 2, bottom_hidden = [3], top_hidden = [3], dropout = 0.2 }
training = { batch = 16, epochs = 2, learning_rate = 0.01 }
evaluation = { validation = 0.3, test = 0.3, importance = "none" }
"""

PARTY = """
party = "NAME"
data = { file = "table.csv", id = "email", numeric = ["x"], categorical = ["c"], bags.seen = " ", LABEL }
tls = { ca = "ca.pem", certificate = "NAME.pem", key = "NAME.key" }
link = { LINK }
"""


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Prepared]:
    folder = tmp_path_factory.mktemp("faults")
    certs.issue(folder, NAMES)
    pins = {name: key_fingerprint((folder / f"{name}.pem").read_bytes()) for name in NAMES}
    run = RUN + "".join(f'[parties.{name}]\nkey = "{pin}"\n' for name, pin in pins.items())
    (folder / "run.toml").write_text(run)
    draw = random.Random(5)
    made = {}
    for index, name in enumerate(NAMES):
        people = [person for number, person in enumerate(PEOPLE) if number % 7 != index]
        draw.shuffle(people)
        if name == "platform":
            people += people[::3] + people[::9]
        frame = pd.DataFrame({"email": people})
        frame["x"] = [draw.random() for _ in people]
        frame["c"] = [draw.choice("pqr") for _ in people]
        frame["seen"] = [" ".join(draw.choices("stu", k=draw.randrange(4))) for _ in people]
        frame["y"] = [PEOPLE.index(person) % 2 for person in people]
        home = folder / name
        home.mkdir()
        frame.to_csv(home / "table.csv", index=False)
        party = PARTY.replace("NAME", name)
        holds = name == "platform"
        party = party.replace("LABEL", 'label = "y", positive = [1]' if holds else 'exclude = ["y"]')
        party = party.replace("LINK", 'listen = "127.0.0.1:1"' if holds else 'hub = "127.0.0.1:1"')
        party = party.replace('"ca.pem"', '"../ca.pem"')
        party = party.replace(f'"{name}.', f'"../{name}.')
        (home / "party.toml").write_text('contract = "../run.toml"\n' + party)
        made[name] = prepare(load(home / "party.toml"))
    return made
