"""A plan that cannot be trained is refused."""

from typing import Any

import pytest

from splitnn.plan import Plan


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("task", "ranking"),
        ("optimizer", "lbfgs"),
        ("cut", 0),
        ("batch", 0),
        ("epochs", 0),
        ("patience", 0),
        ("every", 0),
        ("importance", "rows"),
        ("bottom_hidden", (8, 0)),
        ("top_hidden", (-1,)),
        ("dropout", 1.0),
        ("dropout", -0.1),
        ("party_dropout", 1.0),
        ("party_dropout", -0.1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("weight_decay", -1.0),
        ("local_steps", 0),
        ("cache", 0),
        ("reuse", -1),
        ("similarity", 1.1),
    ],
)
def test_a_plan_that_cannot_be_trained_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field.split("_")[-1] if field.endswith("hidden") else field):
        Plan(b"", **{field: value})
