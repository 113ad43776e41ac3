"""Early stopping."""

from splitnn.plan import Plan
from splitnn.stopping import judge


def test_early_stopping_keeps_the_first_best_epoch() -> None:
    plan = Plan(b"", patience=2)
    better, worse = {"auc": 0.7}, {"auc": 0.6}
    assert judge(plan, [worse]) == (True, False)
    assert judge(plan, [worse, better]) == (True, False)
    assert judge(plan, [worse, better, better]) == (False, False)
    assert judge(plan, [worse, better, better, worse]) == (False, True)
