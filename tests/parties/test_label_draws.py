"""Whether a record's label lies hangs on the record and on what is asked, and on nothing of the run."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import torch

from parties.label_draws import lying
from splitnn.schedule import Split
from splitnn.tasks import Labels

SECRET = b"s" * 32


def drawn(
    cells: list[str],
    rows: list[int],
    secret: bytes = SECRET,
    epsilon: float | None = 1.0,
    label: tuple[str, ...] = ("bought",),
    positive: tuple[int, ...] = (1,),
    names: tuple[str, ...] = (),
) -> dict[str, list[list[float]]]:
    """The draws of these rows of a file of such e-mail addresses, by the address in lower case."""
    frame, n = pd.DataFrame({"email": cells}), len(rows)
    kind = SimpleNamespace(name="email", columns=("email",))
    config: Any = SimpleNamespace(
        id_columns={"email": ("email",)},
        contract=SimpleNamespace(privacy=SimpleNamespace(label_epsilon=epsilon), ids=[kind]),
        party=SimpleNamespace(data=SimpleNamespace(label=label, positive=positive, label_time=None)),
    )
    data: Any = SimpleNamespace(table=SimpleNamespace(ids=frame))
    split = Split(torch.arange(n - 1), torch.tensor([n - 1]), torch.tensor([], dtype=torch.int64))
    labels = Labels(torch.zeros(n - 1), torch.ones(1), torch.zeros(1), names)
    told = lying(config, data, "email", np.array(rows), split, labels, secret)
    if epsilon is None:
        assert told is labels
        return {}
    assert told.draws is not None
    assert told == replace(labels, draws=told.draws)
    found: dict[str, list[list[float]]] = {}
    for row, pair in zip(rows, torch.cat(told.draws).tolist(), strict=True):
        found.setdefault(cells[row].strip().lower(), []).append(pair)
    return found


FILE = ["a@x.org", "B@x.org", "c@x.org", "d@x.org"]


def test_a_record_answers_alike_in_every_run() -> None:
    """In another order, with other people, spelled otherwise."""
    before = drawn(FILE, [0, 1, 2, 3])
    after = drawn([" C@X.org ", "e@x.org", "b@x.org", "A@x.org"], [3, 0, 1, 2])
    assert {name: after[name] for name in ("a@x.org", "b@x.org", "c@x.org")} == {
        name: before[name] for name in ("a@x.org", "b@x.org", "c@x.org")
    }
    assert len({pair[0] for [pair] in [*before.values(), after["e@x.org"]]}) == 5


def test_another_question_is_answered_by_other_draws() -> None:
    plain = drawn(FILE, [0, 1, 2, 3])["a@x.org"]
    others = [
        drawn(FILE, [0, 1, 2, 3], **changes)["a@x.org"]
        for changes in (
            {"secret": b"t" * 32},
            {"epsilon": 2.0},
            {"label": ("returned",)},
            {"positive": (2,)},
            {"positive": (), "names": ("x", "y", "z")},
        )
    ]
    assert len({str(pair) for pair in [plain, *others]}) == 6
    assert drawn(FILE, [0, 1, 2, 3], epsilon=None) == {}
