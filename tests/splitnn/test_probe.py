"""The small models of the offline attacks."""

import numpy as np
import torch

from splitnn.probe import one_thread, perceptron, standard


def test_standard_on_the_known_rows() -> None:
    table = torch.tensor([[1.0, 5.0], [3.0, 5.0], [9.0, 7.0]])
    assert standard(table, torch.tensor([0, 1])).tolist() == [[-1, 0], [1, 0], [7, 0]]


def test_a_perceptron_is_a_function_of_its_seed() -> None:
    torch.manual_seed(1)
    one, other, third = (perceptron((3, 4, 2), seed) for seed in (b"a", b"a", b"b"))
    assert [type(layer).__name__ for layer in one] == ["Linear", "ReLU", "Linear"]
    x = torch.ones(2, 3)
    assert torch.equal(one(x), other(x))
    assert not torch.equal(one(x), third(x))
    assert all(np.abs(p.detach().numpy()).max() <= 1 / np.sqrt(3) for p in one.parameters())


def test_threads_are_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
