"""Every option of models and optimisers: split training ends with the reference's weights, bit for bit."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from protos.memory import together
from protos.rounds import Resume, Round, Save
from splitnn.descent import Descent
from splitnn.fusion import FUSIONS
from splitnn.local import DEFAULTS, Local
from splitnn.plan import NORMS, TOPS, Plan
from splitnn.rates import RATES

COLUMNS = [(3, (4,)), (2, (5, 6)), (4, ())]
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

    def __init__(self, numeric: int, levels: Sequence[int], cut: int) -> None:
        super().__init__()
        self.codes = nn.ModuleList(nn.Embedding(count, 3) for count in levels)
        self.layers = nn.Sequential(
            nn.Linear(numeric + 3 * len(levels), 9), nn.BatchNorm1d(9), nn.Dropout(0.3)
        )
        self.out = nn.Linear(9, 2 * cut)
        self.unused = nn.Linear(1, 1)

    def forward(self, numeric: Tensor, categorical: Tensor) -> Tensor:
        embedded = [table(categorical[:, place]) for place, table in enumerate(self.codes)]
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
    split = together(federation.protocols(plan, choices=choices)).results
    joined = federation.reference(plan, choices)
    ours, theirs = make.weights(split), make.reference_weights(joined)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []
    assert split["p0"].history == joined.history
    assert torch.equal(split["p0"].scores, joined.scores)
    return ours


@pytest.mark.parametrize("name", [*PLANS, *LOCALS])
def test_parity_of_each_option_and_it_matters(make: Any, name: str) -> None:
    federation = make.federation(150, COLUMNS)
    plan, choices = replace(BASE, **PLANS.get(name, {})), LOCALS.get(name, {})
    with_it = run(make, federation, plan, choices)
    without = run(make, federation, BASE, {})
    assert with_it.keys() != without.keys() or not all(torch.equal(with_it[k], without[k]) for k in without)


locals_ = st.builds(
    Local,
    bottom=st.sampled_from(["mlp", "mlp", f"{HERE}:Noisy"]),
    optimizer=st.sampled_from([None, "adam", "sgd"]),
    learning_rate=st.sampled_from([None, 0.003, 0.03]),
    precision=st.sampled_from(["float32", "bf16"]),
)


@settings(deadline=None, max_examples=40)
@given(
    parties=st.integers(1, 3),
    local=st.lists(locals_, min_size=3, max_size=3),
    options=st.fixed_dictionaries(
        {
            "fusion": st.sampled_from([*FUSIONS]),
            "top": st.sampled_from([*TOPS, f"{HERE}:Products"]),
            "norm": st.sampled_from(NORMS),
            "residual": st.booleans(),
            "learning_rate_schedule": st.sampled_from([*RATES]),
            "warmup": st.integers(0, 9),
            "decay_epochs": st.integers(1, 2),
            "clip_norm": st.sampled_from([None, 0.01, 1.0]),
            "optimizer": st.sampled_from(["adam", "sgd"]),
            "dropout": st.sampled_from([0.0, 0.4]),
            "cut": st.integers(1, 9),
            "batch": st.sampled_from([24, 41]),
        }
    ),
)
def test_parity_of_any_set_of_options(make: Any, parties: int, local: Any, options: Any) -> None:
    federation = make.federation(120, COLUMNS[:parties])
    choices = {f"p{place}": local[place] for place in range(parties)}
    run(make, federation, replace(BASE, **options), choices)


def test_a_partys_choice_leaves_the_others_first_step_alone(make: Any) -> None:
    """Its optimiser touches its own weights only; the others feel it from the second activation on."""
    federation = make.federation(60, COLUMNS)
    plan = replace(BASE, batch=36, epochs=1)
    plain = run(make, federation, plan, {})
    chosen = run(make, federation, plan, {"p1": Local(optimizer="sgd", learning_rate=0.1)})
    moved = {name.split()[0] for name in plain if not torch.equal(plain[name], chosen[name])}
    assert moved == {"p1"}


@pytest.mark.parametrize(
    ("options", "local"),
    [
        ({"learning_rate_schedule": "cosine", "warmup": 3, "clip_norm": 0.1}, DEFAULTS),
        ({"top": f"{HERE}:Products"}, Local(bottom=f"{HERE}:Noisy", optimizer="sgd", learning_rate=0.05)),
    ],
    ids=["schedule", "own models"],
)
def test_started_again_with_options_the_result_is_the_same(make: Any, options: Any, local: Local) -> None:
    federation = make.federation(120, COLUMNS)
    plan, choices = replace(BASE, epochs=4, **options), dict.fromkeys(("p0", "p1", "p2"), local)
    saves: dict[int, dict[str, Resume]] = {}

    def keep(name: str, word: Round) -> None:
        if isinstance(word, Save):
            saves.setdefault(word.step, {})[name] = Resume(word.step, word.state())

    whole = make.weights(together(federation.protocols(plan, choices=choices), keep).results)
    for epoch in (1, 3):
        again = make.weights(together(federation.protocols(plan, saves[epoch], choices)).results)
        assert [name for name in whole if not torch.equal(whole[name], again[name])] == []


def test_pooled_choices_of_optimisers_are_one_optimiser() -> None:
    modules = [nn.Linear(2, 2) for _ in range(3)]
    assert len(Descent(BASE, [(module, DEFAULTS) for module in modules], 1).optimizers) == 1
    same = Local(optimizer="adam", learning_rate=BASE.learning_rate)
    assert len(Descent(BASE, [(modules[0], DEFAULTS), (modules[1], same)], 1).optimizers) == 1
