"""How many bytes of one peer may wait here unread: as far as who keeps to the contract can be ahead, no more.

Phases follow one another, and nobody is more than one ahead: their sum is enough, whatever the line's delay.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from parties.contract import Contract
from parties.limits import Limits
from psi.buckets import LARGEST

if TYPE_CHECKING:
    from psi import Psi

OTHER: Final = 4 << 20
"""Bytes for all that is small (hellos, terms, verdicts), and for what each frame costs beside its payload."""


def to_align(contract: Contract, protocols: "Mapping[str, Psi]") -> int:
    """protocols: of which one will be used. A large set comes bucket by bucket, each after the one before."""
    bucket = min(contract.psi.at_most, LARGEST)
    intersection = max((protocol.unread(bucket) for protocol in protocols.values()), default=0)
    return max(intersection + OTHER, Limits.window)


def to_predict(contract: Contract, protocols: "Mapping[str, Psi]") -> int:
    """Of activations no more than a few chunks come unacknowledged."""
    from parties.phases import plan_of
    from splitnn.scoring import most_bytes_unanswered

    return to_align(contract, protocols) + most_bytes_unanswered(plan_of(contract))


def to_run(contract: Contract, protocols: "Mapping[str, Psi]") -> int:
    from parties.examples import COUNT
    from parties.phases import plan_of
    from splitnn.schedule import of_sizes
    from splitnn.schedules import SCHEDULES
    from splitnn.window import MOST_UNANSWERED

    plan, shares = plan_of(contract), (contract.evaluation.validation, contract.evaluation.test)
    examples, rows = 0, contract.psi.at_most
    if contract.several:  # then a part may have nearly all examples
        examples, rows, shares = COUNT.itemsize * contract.psi.at_most, contract.examples.at_most, (1.0, 1.0)
    parts = of_sizes(rows, *(math.ceil(rows * share) for share in shares))
    training = min(SCHEDULES[plan.schedule].most_bytes_unanswered(plan, parts), MOST_UNANSWERED)
    return to_align(contract, protocols) + examples + training
