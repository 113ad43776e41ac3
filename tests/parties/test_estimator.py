"""The estimators, by the rules of scikit-learn and on columns of several parties."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from parties import FederatedClassifier, FederatedRegressor
from parties.errors import ConfigError, DataError

QUICK = {"training": {"epochs": 30, "batch": 16, "learning_rate": 0.01}}
SMALL = {
    "model": {"cut": 4, "bottom_hidden": [8], "top_hidden": [8]},
    "training": {"epochs": 12, "batch": 32, "learning_rate": 0.01},
}
N = 400


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "visits": random.normal(size=N),
            "late": random.normal(size=N),
            "kind": random.choice(["x", "y", "z"], N),
        }
    )


@pytest.fixture(scope="module")
def told(rows: pd.DataFrame) -> Any:
    late = rows["late"] + (rows["kind"] == "x")
    return np.where(rows["visits"] / 2 + late > 0.3, "yes", "no")


PARTIES = {"platform": ["visits"], "logistics": ["late", "kind"]}


def classifier(**given: Any) -> FederatedClassifier:
    wanted: dict[str, Any] = {"parties": PARTIES, "contract": SMALL, "random_state": 0}
    return FederatedClassifier("platform", **wanted | given)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [FederatedClassifier, FederatedRegressor])
def test_the_rules_of_scikit_learn(kind: type[BaseEstimator]) -> None:
    checks = check_estimator(kind(contract=QUICK, random_state=0), on_skip=None)
    assert len(checks) > 45
    assert [check["check_name"] for check in checks if check["status"] == "skipped"] in (
        [],
        ["check_array_api_input"],
    )


def test_cross_validation_shows_what_the_partner_brings(rows: pd.DataFrame, told: Any) -> None:
    alone = classifier(parties={"platform": ["visits"]})
    with_it, without = (
        cross_val_score(each, rows, told, scoring="roc_auc", cv=2).mean() for each in (classifier(), alone)
    )
    assert with_it > 0.85 > 0.75 > without


def test_the_same_random_state_gives_the_same_bits_and_rows_stay_as_they_are(
    rows: pd.DataFrame, told: Any
) -> None:
    before = rows.copy()
    one, other = classifier().fit(rows, told), classifier(random_state=1).fit(rows, told)
    pd.testing.assert_frame_equal(rows, before)
    again = pickle.loads(pickle.dumps(clone(one).fit(rows, told)))
    assert np.array_equal(one.predict_proba(rows), again.predict_proba(rows))
    assert not np.array_equal(one.predict_proba(rows), other.predict_proba(rows))
    assert [*one.classes_] == ["no", "yes"]
    assert (one.n_features_in_, [*one.feature_names_in_]) == (3, [*rows])
    assert one.columns_ == PARTIES
    assert one.n_iter_ == len(one.history_) <= 12
    assert (one.predict(rows) == told).mean() > 0.8
    shuffled = rows.sample(frac=1, random_state=0)
    np.testing.assert_allclose(
        one.predict_proba(shuffled), one.predict_proba(rows)[shuffled.index], atol=1e-6
    )


def test_parties_by_the_names_of_columns_in_a_pipeline_and_a_search(rows: pd.DataFrame, told: Any) -> None:
    named = rows[["visits", "late"]].rename(columns={"late": "logistics__late"})
    named.iloc[::7, 0] = None
    pipeline = make_pipeline(
        SimpleImputer().set_output(transform="pandas"),
        FederatedClassifier("platform", contract=SMALL, random_state=0),
    )
    key = "federatedclassifier__contract"
    wide = {**SMALL, "model": {"cut": 8}}
    search = GridSearchCV(pipeline, {key: [SMALL, wide]}, cv=2, scoring="roc_auc").fit(named, told)
    assert search.best_score_ > 0.75
    columns = search.best_estimator_[-1].columns_
    assert columns == {"platform": ["visits"], "logistics": ["logistics__late"]}


def test_several_classes(rows: pd.DataFrame) -> None:
    labels = np.where(rows["late"] > 0.5, 30, np.where(rows["visits"] > 0, 7, 100))
    fitted = classifier().fit(rows, labels)
    assert [*fitted.classes_] == [7, 30, 100]
    scores = fitted.predict_proba(rows)
    np.testing.assert_allclose(scores.sum(1), 1, atol=1e-5)
    assert (fitted.predict(rows) == labels).mean() > 0.75


def test_numbers(rows: pd.DataFrame) -> None:
    amounts = 100 + 20 * rows["late"] + 5 * rows["visits"]
    longer = {**SMALL, "training": {"epochs": 40, "batch": 32, "learning_rate": 0.01}}
    fitted = FederatedRegressor("platform", PARTIES, longer, random_state=0).fit(rows, amounts)
    assert fitted.score(rows, amounts) > 0.8


@pytest.mark.parametrize(
    ("given", "kind", "why"),
    [
        (
            {"contract": {"training": {"epoch": 3}}},
            ConfigError,
            "unknown key; did you mean training.epochs",
        ),
        ({"contract": {"psi": {}}}, ConfigError, "contract: psi: an estimator takes model, training"),
        (
            {"contract": {"model": {"task": "regression"}}},
            ConfigError,
            "the labels are those of a binary task",
        ),
        (
            {"contract": {"model": {"fusion": "secure-sum"}}},
            ConfigError,
            "secure-sum': needs parties who meet",
        ),
        (
            {"contract": {"privacy": {"label_epsilon": 2.0}}},
            ConfigError,
            "label_epsilon: needs parties",
        ),
        ({"contract": {"model": "x"}}, ConfigError, "contract: model: must be a dict"),
        ({"contract": {"training": {"warm_start": "ab" * 32}}}, ConfigError, "training.warm_start"),
        ({"validation": 0}, ValueError, "validation must be a share"),
        ({"parties": {}}, ValueError, "parties must be a dict"),
        ({"parties": {"platform": ["visit"]}}, ValueError, "parties: platform has no column 'visit' in X"),
        (
            {"parties": {"platform": ["visits"], "logistics": ["visits"]}},
            ValueError,
            "parties: column 'visits' is named twice",
        ),
        ({"parties": {"logistics": ["late"]}}, ValueError, "label_holder: 'platform' has no columns"),
        ({"validation": 0.999}, ValueError, "n_samples = 400: too few"),
    ],
)
def test_what_cannot_be_fitted(
    given: dict[str, Any], kind: type[Exception], why: str, rows: pd.DataFrame, told: Any
) -> None:
    with pytest.raises(kind, match=why):
        classifier(**given).fit(rows, told)


def test_rows_that_cannot_be_used(rows: pd.DataFrame, told: Any) -> None:
    with pytest.raises(ValueError, match="y has 1 class"):
        classifier().fit(rows, ["yes"] * N)
    with pytest.raises(DataError, match="X: column 'visits' stands there twice"):
        classifier().fit(pd.concat([rows, rows[["visits"]]], axis="columns"), told)
    with pytest.warns(UserWarning, match="column 'name' is left out"):
        classifier(parties={"platform": ["visits", "name"], "logistics": ["late"]}).fit(
            rows.assign(name=[f"n{place}" for place in range(N)]), told
        )
