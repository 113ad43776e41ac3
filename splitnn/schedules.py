"""The schedules a plan can name: how the parties train, and what one process must do to end as they do."""

from collections.abc import Callable
from dataclasses import dataclass

from protos.rounds import Rounds
from splitnn import exact, pipelined, pipelined_reference, reference
from splitnn.exact import FeatureHolderResult, LabelHolderResult
from splitnn.reference import ReferenceResult


@dataclass(frozen=True)
class Schedule:
    """Arguments as in `splitnn.exact` and `splitnn.reference`."""

    label_holder: Callable[..., Rounds[LabelHolderResult]]
    feature_holder: Callable[..., Rounds[FeatureHolderResult]]
    reference: Callable[..., ReferenceResult]


SCHEDULES: dict[str, Schedule] = {
    "exact": Schedule(exact.label_holder, exact.feature_holder, reference.train),
    "pipelined": Schedule(pipelined.label_holder, pipelined.feature_holder, pipelined_reference.train),
    "fedbcd": Schedule(pipelined.label_holder, pipelined.feature_holder, pipelined_reference.train),
    "celu": Schedule(pipelined.label_holder, pipelined.feature_holder, pipelined_reference.train),
}
