"""Training that goes wrong between processes: all end with one line, and keep the best weights so far."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

Federate = Callable[..., Any]

MODELS = """
import torch
from torch import nn
import splitnn.codecs
from splitnn.crossing import Crossing


class Diverging(nn.Module):
    def __init__(self, numeric, levels, cut):
        super().__init__()
        self.out, self.steps = nn.Linear(numeric, cut), 0

    def forward(self, numeric, categorical):
        self.steps += self.training
        return self.out(numeric) * (float("inf") if self.steps > 10 else 1)


class HostileActivation(Diverging):
    def __init__(self, *shape):
        super().__init__(*shape)
        splitnn.codecs.finite = lambda tensor: tensor


class HostileGradient(Diverging):
    def __init__(self, *shape):
        super().__init__(*shape)
        honest = Crossing.send_gradient

        def dishonest(self, gradient, exchange, step):
            payload = honest(self, gradient, exchange, step)
            bad = self.peer == "logistics" and step > 10
            return payload[:-4] + b"\\0\\0\\xc0\\x7f" if bad else payload

        Crossing.send_gradient = dishonest

    def forward(self, numeric, categorical):
        return self.out(numeric)
"""


@pytest.mark.parametrize(
    ("culprit", "model", "ends"),
    [
        (
            "logistics",
            "Diverging",
            {
                "logistics": (
                    12,
                    "the activation for 'platform' holds NaN or infinity at step 11: the model ",
                ),
                "platform": (8, "logistics failed during training: its training cannot go on: "),
                "advertiser": (8, "logistics failed during training: its training cannot go on: "),
            },
        ),
        pytest.param(
            "platform",
            "Diverging",
            {
                "platform": (12, "the loss is not finite at step 11: lower learning_rate in run.toml"),
                "logistics": (8, "platform failed during training: its training cannot go on: "),
                "advertiser": (8, "platform failed during training: its training cannot go on: "),
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "logistics",
            "HostileActivation",
            {
                "platform": (9, "activation from 'logistics' holds NaN or infinity"),
                "logistics": (8, "platform failed during training: it refused a message "),
                "advertiser": (8, "platform failed during training: it refused a message "),
            },
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "platform",
            "HostileGradient",
            {
                "logistics": (9, "gradient from 'platform' holds NaN or infinity"),
                "platform": (8, "logistics failed during training: it refused a message "),
                "advertiser": (8, "logistics failed during training: it refused a message "),
            },
            marks=pytest.mark.slow,
        ),
    ],
)
def test_all_stop_and_keep_what_was_good(
    federation: Federate, culprit: str, model: str, ends: dict[str, tuple[int, str]]
) -> None:
    made = federation()
    (made.home(culprit) / "bad_models.py").write_text(MODELS)
    made.edit(culprit, "party.toml", "[data]", f'model.bottom = "bad_models:{model}"\n[data]')
    found = made.run()
    assert {name: end.code for name, end in found.items()} == {name: code for name, (code, _) in ends.items()}
    epochs = set()
    for name, (_, says) in ends.items():
        assert found[name].error.startswith(says), found[name].error
        [line] = [line for line in found[name].err.splitlines() if line.startswith("training ended after")]
        assert re.match("training ended after 1[01] of at most 800 steps: ", line), line
        file = Path(line.rpartition(" kept in ")[2])
        assert file == made.home(name) / "runs" / file.parts[-3] / name / "last_good.safetensors"
        with safe_open(file, "pt") as kept:
            epochs.add(kept.metadata()["epoch"])
            assert all(torch.isfinite(kept.get_tensor(key)).all() for key in kept.keys())  # noqa: SIM118
        left = {path for path in made.left(name) if "-unfinished" not in path}
        assert left == {
            f"{name}.privacy.sqlite",
            file.parts[-3],
            f"{file.parts[-3]}/{name}",
            f"{file.parts[-3]}/{name}/last_good.safetensors",
            f"{file.parts[-3]}/{name}/pipeline.json",
            f"{file.parts[-3]}/{name}/audit.jsonl",
        }
    assert epochs <= {"1", "2"}
    assert len(epochs) == 1


def test_gradients_that_tell_too_much_are_not_sent(federation: Federate) -> None:
    """Why, the label holder alone is told."""
    made = federation()
    made.agree("training =", "privacy = { max_label_leak = 0.55 }\ntraining =")
    found = made.run()
    assert {name: end.code for name, end in found.items()} == {
        "platform": 17,
        "logistics": 8,
        "advertiser": 8,
    }
    assert re.match(
        r"at step \d+ the (norm|cosine) attack tells labels by the gradients for '\w+' with AUC [\d.]+ "
        r"\(between [\d.]+ and [\d.]+ with 95 % confidence; privacy\.max_label_leak allows 0\.55\): they "
        r"were not sent; set privacy\.label_defence, .* then `party run --afresh`",
        found["platform"].error,
    )
    for name in ("logistics", "advertiser"):
        assert found[name].error.startswith("platform failed during training: its training cannot go on: ")


def test_a_batch_of_more_rows_than_there_are(federation: Federate) -> None:
    """One step an epoch, which is said; window or none, it is the reference's training."""
    made = federation()
    made.agree("batch = 32, epochs = 200", 'batch = 4096, schedule = "pipelined", epochs = 3')
    ends = made.run()
    for end in ends.values():
        assert end.code == 0, end.err
        assert "\ntraining.batch = 4,096 is more than the " in end.err
        assert end.json["training"]["steps"] == 3
