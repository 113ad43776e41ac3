"""What parties tell one another about their ends: that they have finished, or failed. Never any details."""

from typing import Final

from parties.errors import BudgetError
from protos.line import CONTROL
from protos.rounds import Cancelled, PeerFailed, PeerRestarted, PeerTimeout, RemoteProtocolError
from splitnn.errors import TrainingError

DONE: Final = CONTROL + "done"
"""The party named in the payload has finished: its silence is no failure from here on."""

FAILED: Final = CONTROL + "failed"
"""The party named in the payload has failed; a blank and one of REASONS follow."""

REASONS: Final = {
    "error": "it stopped by an error on its side; ask there for the reason",
    "training": "its training cannot go on: the model diverged, has nothing to learn, tells too much, or "
    "would spend more privacy than its budget leaves; ask there",
    "cancelled": "it was interrupted on its side",
    "protocol": "it refused a message as not allowed by the protocol; compare versions",
    "timeout": "it waited for a peer in vain; ask there for which",
    "peer": "it lost a peer; ask there for which",
    "lost": "its connection broke, and it did not come back",
    "silent": "no sign of life from it; it is frozen or cut off, and did not come back",
    "breach": "it broke the protocol",
    "restarted": "its process was started anew",
    "absent": "it never came",
}

ERRORS: Final[dict[str, type[PeerFailed]]] = {"absent": PeerTimeout, "restarted": PeerRestarted}
"""What a party raises for such news of another; for any other reason PeerFailed."""


def reason_of(error: BaseException) -> str:
    """The word for it that peers may hear."""
    match error:
        case KeyboardInterrupt() | Cancelled():
            return "cancelled"
        case RemoteProtocolError():
            return "protocol"
        case PeerTimeout():
            return "timeout"
        case PeerFailed():
            return "peer"
        case TrainingError() | BudgetError():  # who tries again ends so again
            return "training"
        case _:
            return "error"
