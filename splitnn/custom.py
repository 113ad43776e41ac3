"""Bottom and top models of the user's own, by dotted name `module:Class`.

    class MyBottom(nn.Module):
        def __init__(self, numeric: int, levels: tuple[int, ...], cut: int): ...
        def forward(self, numeric, categorical): ...    # float32 [b, d], int64 [b, c] -> [b, cut]

    class MyTop(nn.Module):
        def __init__(self, parties: int, cut: int, outputs: int): ...
        def forward(self, activations): ...             # list of [b, cut], own first -> logits [b, outputs]

With bags among the columns, `__init__` gets one argument more, the tuple of their levels, and `forward` one
of each bag: (codes int64 [k], offsets int64 [b + 1]), of which row i has codes[offsets[i] : offsets[i + 1]].

Randomness: the class may draw from torch's own generator (layers' initialisation, nn.Dropout, torch.rand), at
construction and in `forward`. While it runs, that generator stands in a state that is the module's alone,
seeded by the party's private seed and saved with the training; so what it draws depends on nothing else. It
may not draw from elsewhere (NumPy, `random`, the time, a GPU's generator): that would not repeat.
"""

import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from splitnn.errors import TrainingError
from splitnn.placement import Placement
from splitnn.randomness import strong_generator


class Custom(nn.Module):
    """A class of the user's, with a random stream of its own. arguments: of its constructor.

    half: `bottom` or `top`, for messages. outputs: columns that it has to return. Raises TrainingError where
    the class cannot be loaded, made or run, or returns another shape; a message never holds a value.
    """

    def __init__(
        self, half: str, name: str, arguments: Sequence[Any], outputs: int, seed: bytes, placement: Placement
    ) -> None:
        super().__init__()
        self.title, self.outputs, self.placement = f"{half} model {name}", outputs, placement
        self.generator = strong_generator(seed, f"module {half}")
        made = _class(self.title, name)
        with self._drawing(), _blaming(self.title, quoting=True):
            self.module = made(*arguments)
        self.to(placement.device)

    def forward(self, *inputs: Any) -> Tensor:
        place = self.placement
        rows = len(inputs[0] if isinstance(inputs[0], Tensor) else inputs[0][0])
        moved = [place.inward(x) if isinstance(x, Tensor) else [*map(place.inward, x)] for x in inputs]
        with self._drawing(), place.computing(), _blaming(self.title):
            output = self.module(*moved)
        if not isinstance(output, Tensor) or output.shape != (rows, self.outputs):
            found = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise TrainingError(f"{self.title} returns {found} instead of [{rows}, {self.outputs}]")
        # As it would come over a wire: a view into a larger tensor would round otherwise in the reference.
        return place.outward(output).clone(memory_format=torch.contiguous_format)

    @contextmanager
    def _drawing(self) -> Iterator[None]:
        outer = torch.get_rng_state()
        torch.set_rng_state(self.generator.get_state())
        try:
            yield
        finally:
            self.generator.set_state(torch.get_rng_state())
            torch.set_rng_state(outer)


def check_module(module: nn.Module, title: str, inputs: Sequence[Any]) -> None:
    """Can this model be trained, cut apart and kept? One step on made-up inputs. Raises TrainingError."""
    output = module(*inputs)
    if not output.requires_grad:
        raise TrainingError(f"{title} has no weights to train")
    if not torch.isfinite(output).all():
        raise TrainingError(f"{title} returns NaN or infinity for zeros")
    with _blaming(title, quoting=True):
        output.sum().backward()
        torch.optim.SGD(module.parameters(), 0.1, fused=True).step()
        safetensors.torch.save(module.state_dict())  # refuses two names for one tensor
    activations = inputs[0] if isinstance(inputs[0], list) else []
    for place, activation in enumerate(activations, 1):
        if activation.requires_grad and activation.grad is None:
            raise TrainingError(f"{title} does not use activation {place} of {len(activations)}")


def _class(title: str, name: str) -> Any:
    where, _, what = name.partition(":")
    with _blaming(title, quoting=True):
        found = getattr(importlib.import_module(where), what)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise TrainingError(f"{title} is not a class of torch.nn.Module")
    return found


def check_rows_alone(module: Custom, inputs: Sequence[Any]) -> None:
    """Is each row's output a function of that row? Noise on embeddings hides a row in its own output, not in
    those of the rest of its batch. inputs: made-up, at least two rows. Raises TrainingError."""
    numeric, codes, *bags = inputs
    state = module.generator.get_state()
    with torch.no_grad():
        one = module(numeric, codes, *bags)
        module.generator.set_state(state)
        numeric, codes = numeric.clone(), codes.clone()
        numeric[-1] += 1
        codes[-1] = 1  # every categorical column has the levels 0 and 1
        other = module(numeric, codes, *bags)
    module.generator.set_state(state)
    if not torch.allclose(one[:-1], other[:-1], rtol=1e-3, atol=1e-6):
        raise TrainingError(
            f"{module.title}: a row's output depends on the other rows of its batch, as with batch norm, and "
            "privacy.embedding_sigma hides a row in its own output only; use layer norm"
        )


@contextmanager
def _blaming(title: str, quoting: bool = False) -> Iterator[None]:
    """quoting: the error's first line too; not where the user's code has seen data, which it may quote."""
    try:
        yield
    except Exception as error:
        said = f": {error}".splitlines()[0] if quoting else ""
        raise TrainingError(f"{title} fails with {type(error).__name__}{said}") from error
