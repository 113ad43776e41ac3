"""The default model and its training, pinned: what options are added may not move one bit of them."""

import hashlib
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, embedding, linear

from splitnn.models import Bottom, Dropout, Top
from splitnn.plan import Plan
from splitnn.schedule import batches

PLAN = Plan(b"public", epochs=2)


def test_initial_weights_are_pinned() -> None:
    """They come from SHAKE-256 and exact arithmetic, so they are the same on any machine."""
    digest = hashlib.sha256()
    for module in (Bottom(PLAN, 3, (4, 9), b"seed"), Top(PLAN, 3, b"seed", 1)):
        for name, tensor in sorted(module.state_dict().items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
    assert digest.hexdigest() == "576e5a2a013b6519440a09c64c34a14277e4b215968a6149b81638ef5a7c33f1"


def test_training_is_the_plain_computation(make: Any) -> None:
    """Trained weights depend on the machine's sums; so the model is written out here once more, plainly."""
    federation = make.federation(900, [(3, (4,)), (2, (5, 6)), (4, ())])
    trained = make.weights(federation.split_training(PLAN).results)
    parties = federation.features
    start: dict[str, Tensor] = {}
    for name, part in parties.items():
        bottom = Bottom(PLAN, part.numeric.shape[1], part.levels, federation.seeds[name])
        start |= {f"{name} {key}": value for key, value in bottom.state_dict().items()}
    top = Top(PLAN, 3, federation.seeds["p0"], 1)
    start |= {f"top {key}": value for key, value in top.state_dict().items()}
    weights = {name: value.clone().requires_grad_() for name, value in start.items()}
    drops = {name: Dropout(0.2, federation.seeds[name], "dropout bottom 0") for name in parties}
    drops["top"] = Dropout(0.2, federation.seeds["p0"], "dropout top 0")

    def layers(name: str, x: Tensor) -> Tensor:
        w = {key: weights[f"{name} layers.{key}"] for key in ("0.weight", "0.bias", "3.weight", "3.bias")}
        hidden = drops[name](linear(x, w["0.weight"], w["0.bias"]).relu())
        return linear(hidden, w["3.weight"], w["3.bias"])

    def activation(name: str, entities: Tensor) -> Tensor:
        part = parties[name]
        offsets = torch.tensor([0, *part.levels[:-1]]).cumsum(0)[: len(part.levels)]
        codes = embedding(part.categorical[entities] + offsets, weights[f"{name} embedding.weight"])
        return layers(name, torch.cat((part.numeric[entities], codes.flatten(1)), 1))

    matrices = [weight for weight in weights.values() if weight.ndim > 1]
    vectors = [weight for weight in weights.values() if weight.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 1e-4}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=True)
    for epoch in range(2):
        for batch in batches(len(federation.rows.train), PLAN.batch, PLAN.seed, epoch):
            parts = [activation(name, federation.rows.train[batch]) for name in parties]
            for part in parts:
                part.register_hook(torch.clone)
            cut = torch.stack(parts)
            pairs = (cut.sum(0).square() - cut.square().sum(0)) / 2
            logits = layers("top", torch.cat((*cut, pairs), 1))
            loss = binary_cross_entropy_with_logits(logits.squeeze(1), federation.labels.train[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    best = federation.split_training(PLAN).results["p0"].best_epoch
    assert best == 2, "the weights kept are to be the last"
    assert weights.keys() == trained.keys()
    assert [name for name in trained if not torch.equal(weights[name], trained[name])] == []
