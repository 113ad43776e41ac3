"""Every option, alone and with others: split training ends with the reference's weights, bit for bit."""

import math
from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from protos.memory import together
from protos.rounds import Resume, Round, Save
from splitnn.crossing import ACTIVATION_CODECS, GRADIENT_CODECS, Codecs
from splitnn.descent import Descent
from splitnn.embedding_dp import EmbeddingDP
from splitnn.errors import TrainingError
from splitnn.fusion import FUSIONS
from splitnn.label_defence import NOISES, LabelDefence
from splitnn.local import DEFAULTS, PRECISIONS, Local
from splitnn.optimizers import OPTIMIZERS
from splitnn.plan import IMPORTANCE, NORMS, TOPS, Plan
from splitnn.rates import RATES
from splitnn.schedules import SCHEDULES
from splitnn.secure_sum import SECURE_SUM
from splitnn.tasks import TASKS

COLUMNS = [(3, (4,)), (2, (5, 6)), (4, ())]
AND_BAGS = [(3, (4,), (9,)), (2, (5, 6)), (4, (), (3, 20))]
BASE = Plan(
    b"public",
    cut=4,
    bottom_hidden=(8, 8),
    top_hidden=(8,),
    batch=32,
    epochs=2,
    dropout=0.3,
    learning_rate=0.01,
)
HERE = __name__


class Noisy(nn.Module):
    """A bottom that draws in every way it may: layers' initialisation, nn.Dropout, torch.rand, batch norm."""

    def __init__(self, numeric: int, levels: Sequence[int], cut: int, bags: Sequence[int] = ()) -> None:
        super().__init__()
        self.codes = nn.ModuleList(nn.Embedding(count, 3) for count in levels)
        self.bags = nn.ModuleList(nn.EmbeddingBag(count, 3, include_last_offset=True) for count in bags)
        inputs = numeric + 3 * len(levels) + 3 * len(bags)
        self.layers = nn.Sequential(nn.Linear(inputs, 9), nn.BatchNorm1d(9), nn.Dropout(0.3))
        self.out = nn.Linear(9, 2 * cut)
        self.unused = nn.Linear(1, 1)

    def forward(self, numeric: Tensor, categorical: Tensor, *bags: tuple[Tensor, Tensor]) -> Tensor:
        embedded = [table(categorical[:, place]) for place, table in enumerate(self.codes)]
        embedded += [table(*bag) for table, bag in zip(self.bags, bags, strict=True)]
        hidden = self.layers(torch.cat((numeric, *embedded), 1)).tanh()
        if self.training:
            hidden = hidden + 0.1 * torch.rand_like(hidden)
        return self.out(hidden)[:, ::2]  # a view that is not contiguous


class Products(nn.Module):
    """A top that multiplies the activations themselves by matrices."""

    def __init__(self, parties: int, cut: int, outputs: int) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(cut, 5) for _ in range(parties))
        self.dropout = nn.Dropout(0.2)
        self.out = nn.Linear(5, outputs)

    def forward(self, activations: Sequence[Tensor]) -> Tensor:
        mapped = [layer(part) for layer, part in zip(self.maps, activations, strict=True)]
        return self.out(self.dropout(torch.stack(mapped).sum(0).relu()))


PLANS: dict[str, dict[str, Any]] = {
    "concat": {"fusion": "concat"},
    "sum": {"fusion": "sum"},
    "mean": {"fusion": "mean"},
    "attention": {"fusion": "attention"},
    "deepfm": {"top": "deepfm"},
    "deepfm of concat": {"top": "deepfm", "fusion": "concat"},
    "layer norm": {"norm": "layer"},
    "residual": {"residual": True},
    "residual and norm": {"residual": True, "norm": "layer", "top_hidden": (8, 8)},
    "warm-up": {"warmup": 5},
    "cosine": {"learning_rate_schedule": "cosine"},
    "cosine after warm-up": {"learning_rate_schedule": "cosine", "warmup": 3},
    "step": {"learning_rate_schedule": "step", "decay_epochs": 1},
    "clipped": {"clip_norm": 0.05},
    "clipped, sgd": {"clip_norm": 0.05, "optimizer": "sgd"},
    "own top": {"top": f"{HERE}:Products"},
    "max_norm": {"label_defence": LabelDefence("max_norm", 1.0)},
    "iso": {"label_defence": LabelDefence("iso", 2.5)},
    "marvell": {"label_defence": LabelDefence("marvell", 1.0)},
    "labels that lie": {"label_defence": LabelDefence(epsilon=1.0)},
    "marvell for labels that lie": {"label_defence": LabelDefence("marvell", 4.0, epsilon=1.0)},
    "party dropout": {"party_dropout": 0.3},
    "party dropout before an own top": {"party_dropout": 0.3, "top": f"{HERE}:Products"},
}
LOCALS: dict[str, dict[str, Local]] = {
    "own optimiser": {"p1": Local(optimizer="sgd", learning_rate=0.1)},
    "own rate": {"p0": Local(learning_rate=0.5), "p2": Local(learning_rate=1e-4)},
    "bf16 at one": {"p1": Local(precision="bf16")},
    "bf16 at the label holder": {"p0": Local(precision="bf16")},
    "own bottom": {"p1": Local(bottom=f"{HERE}:Noisy")},
    "own bottom at the label holder": {"p0": Local(bottom=f"{HERE}:Noisy")},
}


def run(make: Any, federation: Any, plan: Plan, choices: dict[str, Local]) -> dict[str, torch.Tensor]:
    """Trained weights, after comparing them with the reference's."""
    results = together(federation.protocols(plan, choices=choices)).results
    make.assert_same(results, federation.reference(plan, choices))
    weights: dict[str, torch.Tensor] = make.weights(results)
    return weights


@pytest.mark.parametrize("name", [*PLANS, *LOCALS])
def test_parity_of_each_option_and_it_matters(make: Any, name: str) -> None:
    federation = make.federation(150, COLUMNS)
    plan, choices = replace(BASE, **PLANS.get(name, {})), LOCALS.get(name, {})
    with_it = run(make, federation, plan, choices)
    without = run(make, federation, BASE, {})
    assert with_it.keys() != without.keys() or not all(torch.equal(with_it[k], without[k]) for k in without)


# Every field of Plan and Local is drawn: a new one goes here, with the values that its code tells apart.
AGREED: dict[str, st.SearchStrategy[Any]] = {
    "cut": st.integers(1, 9),
    "bottom_hidden": st.sampled_from([(), (8,), (8, 8), (9, 5, 5)]),
    "top_hidden": st.sampled_from([(), (8,), (6, 6)]),
    "dropout": st.sampled_from([0.0, 0.4]),
    "norm": st.sampled_from(NORMS),
    "fusion": st.sampled_from([name for name in FUSIONS if name != SECURE_SUM]),
    "top": st.sampled_from([*TOPS, f"{HERE}:Products"]),
    "party_dropout": st.sampled_from([0.0, 0.0, 0.5]),
    "optimizer": st.sampled_from([*OPTIMIZERS]),
    "learning_rate": st.sampled_from([0.003, 0.05]),
    "learning_rate_schedule": st.sampled_from([*RATES]),
    "warmup": st.integers(0, 9),
    "decay": st.sampled_from([0.1, 0.9]),
    "decay_epochs": st.integers(1, 2),
    "clip_norm": st.sampled_from([None, 0.01, 1.0]),
    "weight_decay": st.sampled_from([0.0, 0.1]),
    "batch": st.sampled_from([9, 24, 41, 10_000]),
    "epochs": st.integers(1, 5),
    "patience": st.integers(1, 2),
    "every": st.sampled_from([None, 1, 2, 3]),
    "importance": st.sampled_from(IMPORTANCE),
    "schedule": st.sampled_from([*SCHEDULES]),
    "in_flight": st.integers(1, 5),
    "local_steps": st.integers(1, 3),
    "cache": st.integers(1, 4),
    "reuse": st.integers(0, 4),
    "similarity": st.sampled_from([0.0, 0.5, 0.99]),
}
OWN: dict[str, st.SearchStrategy[Any]] = {
    "bottom": st.sampled_from(["mlp", "mlp", f"{HERE}:Noisy"]),
    "optimizer": st.sampled_from([None, *OPTIMIZERS]),
    "learning_rate": st.sampled_from([None, 0.003, 0.03]),
    "device": st.just("cpu"),
    "precision": st.sampled_from(PRECISIONS),
    "keep_activations": st.booleans(),
}
SECURE = {"fixed_point"}
"""In tests/splitnn/test_secure_sum.py, as is the fusion `secure-sum`: few others fit it."""
TOGETHER = {"task", "loss", "residual", "codec", "label_defence", "embedding"}
"""Fields that depend on others, drawn in `plans`."""


@st.composite
def label_defences(draw: st.DrawFn, task: str) -> LabelDefence:
    """Of all, as far as they fit the task."""
    noise = draw(st.sampled_from([noise for noise in NOISES if noise != "marvell" or task == "binary"]))
    strength = 0.0 if noise == "none" else draw(st.sampled_from([0.0, 0.3, 1.0]))
    epsilons = [math.inf, 0.5, 3.0] if task in ("binary", "multiclass") else [math.inf]
    gate: dict[str, Any] = {}
    if task == "binary" and draw(st.booleans()):
        gate = {"max_leak": draw(st.sampled_from([0.7, 0.99, 1.0])), "window": draw(st.integers(1, 9))}
        if noise != "none" and strength < 1:
            gate["max_strength"] = draw(st.sampled_from([None, 1.0]))
    return LabelDefence(noise, strength, draw(st.sampled_from(epsilons)), **gate)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    agreed = draw(st.fixed_dictionaries(AGREED))
    agreed["task"], agreed["loss"] = draw(
        st.sampled_from([(task, loss) for task, losses in TASKS.items() for loss in losses])
    )
    steady = any(a == b for widths in ("bottom_hidden", "top_hidden") for a, b in pairwise(agreed[widths]))
    agreed["residual"] = steady and draw(st.booleans())
    up, down = draw(st.sampled_from(ACTIVATION_CODECS)), draw(st.sampled_from(GRADIENT_CODECS))
    keep = draw(st.integers(1, agreed["cut"])) if up == "randtopk" else None
    agreed["codec"] = Codecs(up, down, keep, draw(st.sampled_from([0.0, 0.3])))
    agreed["label_defence"] = draw(label_defences(agreed["task"]))
    if agreed["schedule"] == "exact" and draw(st.booleans()):
        agreed["embedding"] = draw(st.sampled_from([EmbeddingDP(0.5), EmbeddingDP(1.0, 0.3)]))
    return Plan(b"public", **agreed)


def test_every_option_is_drawn() -> None:
    assert {field.name for field in fields(Plan)} == {*AGREED, *TOGETHER, *SECURE, "seed"}
    assert {field.name for field in fields(Local)} == {*OWN, "warm"}


def any_set_of_options(
    make: Any,
    n: int,
    examples: int,
    plan: Plan,
    locals_: list[dict[str, Any]],
    weighted: bool,
    warm: bool,
    data: st.DataObject,
) -> None:
    """Bit parity of a whole training, and of one that starts again at an epoch's end."""
    federation = make.labelled(make.federation(n, AND_BAGS[: len(locals_)]), plan.task, plan.loss, weighted)
    federation = make.repeated(federation, examples)
    choices = {f"p{place}": Local(**local) for place, local in enumerate(locals_)}
    saves: dict[int, dict[str, Resume]] = {}

    def keep(name: str, word: Round) -> None:
        if isinstance(word, Save):
            saves.setdefault(word.step, {})[name] = Resume(word.step, word.state())

    try:
        choices = federation.warm(plan, choices) if warm else choices
        joined = federation.reference(plan, choices)
    except TrainingError as error:
        event(f"cannot be trained: {error}")
        with pytest.raises(TrainingError):
            together(federation.protocols(plan, choices=choices))
        return
    make.assert_same(together(federation.protocols(plan, choices=choices), keep).results, joined)
    epoch = data.draw(st.sampled_from([*saves]), "starts again after")
    make.assert_same(together(federation.protocols(plan, saves[epoch], choices)).results, joined)


CASE: dict[str, Any] = {
    "n": st.integers(60, 120),
    "examples": st.sampled_from([1, 1, 2]),
    "plan": plans(),
    "locals_": st.lists(st.fixed_dictionaries(OWN), min_size=1, max_size=3),
    "weighted": st.booleans(),
    "warm": st.booleans(),
    "data": st.data(),
}


@settings(deadline=None, max_examples=40)
@given(**CASE)
def test_parity_of_any_set_of_options(make: Any, **case: Any) -> None:
    any_set_of_options(make, **case)


@pytest.mark.slow
@settings(deadline=None, max_examples=400)
@given(**CASE)
def test_parity_of_very_many_sets_of_options(make: Any, **case: Any) -> None:
    any_set_of_options(make, **case)


def test_a_partys_choice_leaves_the_others_first_step_alone(make: Any) -> None:
    """Its optimiser touches its own weights only; the others feel it from the second activation on."""
    federation = make.federation(60, COLUMNS)
    plan = replace(BASE, batch=36, epochs=1)
    plain = run(make, federation, plan, {})
    chosen = run(make, federation, plan, {"p1": Local(optimizer="sgd", learning_rate=0.1)})
    moved = {name.split()[0] for name in plain if not torch.equal(plain[name], chosen[name])}
    assert moved == {"p1"}


def test_pooled_choices_of_optimisers_are_one_optimiser() -> None:
    modules = [nn.Linear(2, 2) for _ in range(3)]
    assert len(Descent(BASE, [(module, DEFAULTS) for module in modules], 1).optimizers) == 1
    same = Local(optimizer="adam", learning_rate=BASE.learning_rate)
    assert len(Descent(BASE, [(modules[0], DEFAULTS), (modules[1], same)], 1).optimizers) == 1
