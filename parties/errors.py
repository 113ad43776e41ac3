"""Everything that can end `party` other than success: the exception tree and the exit code of each class.

Every message is one line that says what is wrong, where, and what to do. It names columns, files, rows by
line number and parties; never an id, a label, a value of a feature or a key.
"""

from protos.rounds import Cancelled, LocalProtocolError, PeerFailed, PeerTimeout, RemoteProtocolError
from psi.ids import IdError
from splitnn.errors import LeakError, TrainingError


class PartyError(Exception):
    """What this party can do something about."""


class ConfigError(PartyError):
    """Wrong configuration, or wrong use of the command. All faults found are listed, one a line."""


class DataError(PartyError):
    """Your own table cannot be used as configured. The line names the file, and the column or line."""


class IdentityError(PartyError):
    """A certificate, key or CA (yours, or a peer's) is missing, expired, or not the one that was agreed."""


class ContractError(PartyError):
    """The parties hold different contracts (the first differing field is named), started different commands,
    would score with different models, or do not all have what the contract asks for: a PSI protocol, a kind
    of id. Every party is told which and where."""


class ContractExpired(ContractError):
    """The last day on which the contract allows a run is over. Agree on a new one."""


class NetworkError(PartyError):
    """The hub cannot be reached, or its port is taken. Check address, port and firewall."""


class RunFinished(NetworkError):
    """The hub is ending a run that is whole at all parties, and begins no other yet."""


class AlignmentError(PartyError):
    """A set that the contract does not allow, too few common users, or too many examples of them; nothing was
    trained. Check that all use the right file."""


class StorageError(PartyError):
    """Results cannot be written: no space, no permission, or another process holds the storage."""


class DemoFailed(PartyError):
    """One of the demo's parties stopped. Its own line, above, says why."""


class NotConforming(PartyError):
    """A PSI protocol lacks a property that it must have. The lines above say which, and what was seen."""


class AccountError(PartyError):
    """An audit log or a privacy ledger was changed, or does not add up with a peer's."""


class BudgetError(PartyError):
    """The run would spend more privacy than the budget leaves with a partner; nothing of it was spent. Going
    on would end so again: agree on more noise, fewer epochs or another budget, then `party run --afresh`."""


EXIT_CODES: list[tuple[type[BaseException], int, str]] = [
    (ConfigError, 2, "configuration"),
    (DataError, 3, "data"),
    (IdError, 3, "data"),
    (IdentityError, 4, "identity"),
    (ContractExpired, 5, "contract"),
    (ContractError, 5, "contract"),
    (NetworkError, 6, "network"),
    (PeerTimeout, 7, "a peer was waited for in vain"),
    (PeerFailed, 8, "a peer failed"),
    (RemoteProtocolError, 9, "a peer broke the protocol"),
    (AlignmentError, 10, "alignment"),
    (StorageError, 11, "storage"),
    (LeakError, 17, "gradients tell too much of the labels"),
    (TrainingError, 12, "training"),
    (DemoFailed, 13, "a party of the demo stopped"),
    (NotConforming, 14, "a PSI protocol does not conform"),
    (AccountError, 15, "an account does not add up"),
    (BudgetError, 16, "a privacy budget"),
    (LocalProtocolError, 70, "a fault in this program"),
    (Cancelled, 130, "interrupted"),
    (KeyboardInterrupt, 130, "interrupted"),
]
"""The first class that an error belongs to gives its exit code; any other error is 1 (please report it)."""


def exit_code(error: BaseException) -> int:
    return next((code for kind, code, _ in EXIT_CODES if isinstance(error, kind)), 1)
