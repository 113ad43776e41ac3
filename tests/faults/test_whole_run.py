"""The whole run (handshake, PSI, training) under the seeded simulator: the same weights to the bit, or a
typed error; never a hang. A failing seed is reproduced by `outcome(SEED, Faults.drawn(SEED))`.
"""

import random
from collections.abc import Callable, Iterator

import pandas as pd
import pytest
import torch

from parties import certs
from parties.certificate import key_fingerprint
from parties.config import load
from parties.phases import Outcome, Prepared, plan_of, prepare, whole_run
from parties.results import weights
from protos.rounds import Rounds, RoundsError
from protos.simulator import Faults, Simulation

NAMES = ("advertiser", "logistics", "platform")
PEOPLE = [f"person{i}@mail.example" for i in range(60)]
SEEDS = 600
BLOCKS = 20

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
evaluation.importance = "none"
"""

PARTY = """
party = "NAME"
data = { file = "table.csv", id = "email", numeric = ["x"], categorical = ["c"], bags.seen = " ", LABEL }
tls = { ca = "ca.pem", certificate = "NAME.pem", key = "NAME.key" }
link = { LINK }
"""


@pytest.fixture(scope="module")
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
        frame["y"] = [int(person[6:8].rstrip("@")) % 2 for person in people]
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


@pytest.fixture(scope="module")
def outcome(
    prepared: dict[str, Prepared],
) -> Iterator[Callable[[int, Faults], dict[str, Outcome | Exception]]]:
    def start(name: str) -> Rounds[Outcome]:
        return whole_run(prepared[name], clock=lambda: 0.0, random=random.Random(name).randbytes)

    def simulate(seed: int, faults: Faults) -> dict[str, Outcome | Exception]:
        factories = {name: lambda _, name=name: start(name) for name in prepared}
        return Simulation(factories, "platform", seed, faults).run()

    torch.set_num_threads(1)
    return simulate


@pytest.fixture(scope="module")
def calm(outcome: Callable[[int, Faults], dict[str, Outcome | Exception]]) -> dict[str, Outcome | Exception]:
    """The same run with nothing going wrong."""
    return outcome(0, Faults(delay=0.0))


def learned(result: Outcome) -> dict[str, torch.Tensor]:
    modules = {"bottom": result.trained.bottom}
    if hasattr(result.trained, "top"):
        modules["top"] = result.trained.top
    return weights(modules)


def same(one: Outcome | Exception, other: Outcome | Exception) -> bool:
    if isinstance(one, Exception) or isinstance(other, Exception):
        return False
    a, b = learned(one), learned(other)
    return (
        a.keys() == b.keys()
        and all(torch.equal(a[key], b[key]) for key in a)
        and bool((one.aligned.rows == other.aligned.rows).all())
    )


def test_the_calm_run_aligns_exactly(
    prepared: dict[str, Prepared], calm: dict[str, Outcome | Exception]
) -> None:
    people = {}
    for name, result in calm.items():
        assert isinstance(result, Outcome), result
        people[name] = prepared[name].data.table.ids["email"].iloc[result.aligned.rows].tolist()
    common = [person for number, person in enumerate(PEOPLE) if number % 7 > 2]
    assert people["platform"] == people["logistics"] == people["advertiser"]
    assert sorted(people["platform"]) == sorted(common)


@pytest.mark.parametrize("block", range(BLOCKS))
def test_same_weights_or_a_typed_error(
    block: int,
    calm: dict[str, Outcome | Exception],
    outcome: Callable[[int, Faults], dict[str, Outcome | Exception]],
) -> None:
    for seed in range(block, SEEDS, BLOCKS):
        faults = Faults.drawn(seed)
        results = outcome(seed, faults)
        for name, result in results.items():
            if isinstance(result, Exception):
                assert isinstance(result, RoundsError), f"seed {seed}: {name}: {result!r}"
                assert faults.kills, f"seed {seed}: {name}: {result!r}"
                assert not faults.restarts, f"seed {seed}: {name}: {result!r}"
            else:
                assert same(result, calm[name]), f"seed {seed}: {name} ends with another result"


def test_the_plan_is_the_contract(prepared: dict[str, Prepared]) -> None:
    plan = plan_of(prepared["platform"].config.contract)
    assert (plan.cut, plan.bottom_hidden, plan.batch, plan.epochs) == (2, (3,), 16, 2)
