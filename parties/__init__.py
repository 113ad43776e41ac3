"""The deployable party: configuration, identity, the link, the run, the command line.

From Python (docs/python.md): `run` is `party run`, `simulate` runs all parties in this process, and
`FederatedClassifier` and `FederatedRegressor` are estimators of scikit-learn over the same training.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from parties.api import run as run
    from parties.callbacks import Callback as Callback
    from parties.estimator import FederatedClassifier as FederatedClassifier
    from parties.estimator import FederatedRegressor as FederatedRegressor
    from parties.simulation import simulate as simulate

# gRPC's core reads this once, when it is loaded. It would log, in its own words, what we report in one line.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

_FROM = {
    "run": "api",
    "Callback": "callbacks",
    "simulate": "simulation",
    "FederatedClassifier": "estimator",
    "FederatedRegressor": "estimator",
}
"""What Python programs import from here, and the module that has it: all of them load torch."""


def __getattr__(name: str) -> object:
    if name not in _FROM:
        raise AttributeError(f"module 'parties' has no attribute {name!r}")
    return getattr(import_module(f"parties.{_FROM[name]}"), name)
