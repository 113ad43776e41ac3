"""GAUC and NDCG, list by list, against scikit-learn."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score

from splitnn.errors import TrainingError
from splitnn.ranking import Lists, binary, multilabel
from splitnn.tasks import Labels, Objective

rows = st.tuples(st.integers(-3, 3), st.booleans(), st.sampled_from([0.0, 0.25, 0.5, 0.75]))


def columns(table: list[tuple[int, bool, float]]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    lists, labels, scores = zip(*table, strict=True)
    return torch.tensor(labels).float(), torch.tensor(scores), torch.tensor(lists)


@settings(deadline=None, max_examples=200)
@given(table=st.lists(rows, min_size=1, max_size=60), at=st.integers(1, 12))
def test_each_list_by_itself_as_scikit_learn_has_it(table: list[tuple[int, bool, float]], at: int) -> None:
    labels, scores, lists = columns(table)
    aucs, gains, sizes = [], [], []
    for group in lists.unique():
        truth, score = labels[lists == group].numpy(), scores[lists == group].numpy()
        if truth.min() < truth.max():
            aucs.append(roc_auc_score(truth, score))
            gains.append(ndcg_score([truth], [score], k=at))
            sizes.append(len(truth))
    measured = binary(labels, scores, lists, at)
    assert measured.keys() == ({"gauc", f"ndcg@{at}"} if sizes else set())
    if sizes:
        assert measured["gauc"] == pytest.approx(np.average(aucs, weights=sizes))
        assert measured[f"ndcg@{at}"] == pytest.approx(np.mean(gains))


def test_a_known_list() -> None:
    """The second and the third of four, one clicked, share a score; the other list has no click."""
    labels, scores = (
        torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 0.0]),
        torch.tensor([0.9, 0.5, 0.5, 0.1, 0.2, 0.3]),
    )
    measured = binary(labels, scores, torch.tensor([7, 7, 7, 7, 2, 2]), 2)
    assert measured["gauc"] == pytest.approx(1.5 / 3)
    assert measured["ndcg@2"] == pytest.approx((1 / np.log2(3) + 0) / 2)


def test_one_list_of_all_is_the_auc() -> None:
    random = torch.Generator().manual_seed(0)
    labels, scores = (torch.rand(500, generator=random) < 0.3).float(), torch.rand(500, generator=random)
    assert binary(labels, scores, torch.zeros(500), 10)["gauc"] == pytest.approx(
        roc_auc_score(labels, scores)
    )


def test_a_target_without_a_list_of_both_classes_is_left_out_of_the_means() -> None:
    labels = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    scores = torch.tensor([[0.1, 0.2], [0.2, 0.7], [0.9, 0.1]])
    measured = multilabel(labels, scores, torch.tensor([0, 0, 1]), 3, ("click", "conversion"))
    assert measured == {"gauc": 1.0, "ndcg@3": 1.0, "click.gauc": 1.0, "click.ndcg@3": 1.0}
    assert multilabel(labels, scores, torch.arange(3), 3, ("click", "conversion")) == {}


def test_scores_that_are_not_finite_are_a_typed_error() -> None:
    with pytest.raises(TrainingError, match="finite"):
        binary(torch.tensor([0.0, 1.0]), torch.tensor([0.5, float("nan")]), torch.zeros(2), 10)


def test_the_objective_adds_them_where_the_task_ranks() -> None:
    part, lists = torch.tensor([0.0, 1.0, 1.0]), torch.tensor([0, 0, 1])
    for task, loss in (("binary", "cross-entropy"), ("regression", "squared")):
        objective = Objective(task, loss, Labels(part, part, part, lists=Lists(lists, lists, 3)))
        plain = objective.metrics(part, part)
        ranked = objective.metrics(part, part, objective.lists.test)
        assert {name: ranked[name] for name in plain} == plain
        assert ranked.keys() - plain.keys() == ({"gauc", "ndcg@3"} if task == "binary" else set())
    with pytest.raises(ValueError, match="2 examples for 3 labels"):
        Labels(part, part, part, lists=Lists(lists[:2]))


def test_a_million_examples_take_seconds() -> None:
    random = torch.Generator().manual_seed(0)
    labels = (torch.rand(1_000_000, generator=random) < 0.1).float()
    lists = torch.randint(0, 50_000, (1_000_000,), generator=random)
    start = time.perf_counter()
    measured = binary(labels, torch.rand(1_000_000, generator=random), lists, 10)
    assert time.perf_counter() - start < 10  # some 0.5 s; the rest is for a busy machine
    assert measured["gauc"] == pytest.approx(0.5, abs=0.01)
