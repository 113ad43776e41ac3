"""The schedules a plan can name: how the parties train, and what one process must do to end as they do."""

from collections.abc import Callable
from dataclasses import dataclass

from protos.rounds import Rounds
from splitnn import exact, pipelined, pipelined_reference, reference, window
from splitnn.exact import FeatureHolderResult, LabelHolderResult
from splitnn.plan import Plan
from splitnn.reference import ReferenceResult
from splitnn.schedule import Split


@dataclass(frozen=True)
class Schedule:
    """Arguments as in `splitnn.exact` and `splitnn.reference`."""

    label_holder: Callable[..., Rounds[LabelHolderResult]]
    feature_holder: Callable[..., Rounds[FeatureHolderResult]]
    reference: Callable[..., ReferenceResult]
    most_bytes_unanswered: Callable[[Plan, Split], int]


SLOW_LINES = Schedule(
    pipelined.label_holder,
    pipelined.feature_holder,
    pipelined_reference.train,
    window.most_bytes_unanswered,
)

SCHEDULES: dict[str, Schedule] = {
    "exact": Schedule(exact.label_holder, exact.feature_holder, reference.train, exact.most_bytes_unanswered),
    "pipelined": SLOW_LINES,
    "fedbcd": SLOW_LINES,
    "celu": SLOW_LINES,
}
