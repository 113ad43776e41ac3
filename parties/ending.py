"""From the first attempt at what all parties do together to its end, which a party may have missed.

What an attempt keeps to go on with is of use until the results of all parties are whole. The label holder is
the first to know: it writes that down before it tells anybody. A party that was killed meanwhile is told that
the run is finished when it comes back, by the label holder or by that one's next process.
"""

import json
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from parties.attempts import attempts
from parties.certs import Identity
from parties.config import Config
from parties.connection import OnProgress, connected, tell_finished
from parties.contract import Contract
from parties.errors import AlignmentError, ContractError, PartyError, RunFinished, StorageError
from parties.link import Link
from parties.unfinished import Unfinished, forget, told
from protos.rounds import PeerFailed, Progress, Receive, Rounds, Send

AT_THE_END: Final = 86_400.0
"""Seconds in which a party may write its results, and the label holder train its baselines, while the others
wait. A party that dies meanwhile is noticed as at any other time."""

End: TypeAlias = dict[str, Any] | ContractError | AlignmentError
"""The content of summary.json, or why there is none, which every party knows by itself."""


def to_the_end(
    config: Config,
    identity: Identity,
    room: int,
    unfinished: Unfinished,
    rounds: Callable[[], Rounds[End]],
    on_progress: OnProgress,
    say: Callable[[str], None],
    linked: Callable[[Link], None] = lambda link: None,
) -> dict[str, Any]:
    """The content of summary.json; also of what has ended already, where the process before was killed before
    it knew, or had said so.

    rounds: of one attempt, which end with `all_keep` and `forget`. room, linked: as `connected` takes them.
    Raises what the rounds give instead of a summary, and what they, `connected` and `attempts` raise.
    """

    def attempt() -> End:
        if not unfinished.ended():
            try:
                with connected(config, identity, room, on_progress, say, linked) as link:
                    return link.drive(rounds(), on_progress=on_progress)
            except RunFinished:
                if unfinished.results() is None:
                    raise
                return ended(unfinished, say)
            except PeerFailed:
                if not unfinished.ended():
                    raise
        tell_finished(config, identity, say)
        return ended(unfinished, say)

    with told(unfinished.holds, say, unfinished.results, unfinished.command) as earlier:
        end = attempts(attempt, earlier, unfinished.holds, say)
    if isinstance(end, PartyError):
        raise end
    return end


def ended(unfinished: Unfinished, say: Callable[[str], None]) -> dict[str, Any]:
    """The summary of what is whole at all parties, of which only the end was missed here."""
    whole = unfinished.results()
    if whole is None:
        raise StorageError(f"{unfinished.folder}: the results of a run that has ended are gone")
    summary: dict[str, Any] = json.loads((whole / "summary.json").read_bytes())
    forget(unfinished.folder)
    say(f"results in {whole}")
    return summary


def all_keep(me: str, contract: Contract, end: Callable[[], None] = lambda: None) -> Rounds[None]:
    """Wait until the results of every party are whole. end: called at the label holder when it knows, and
    before any other does."""
    hub = contract.label_holder
    yield Progress("the end", 0, 0)
    if me != hub:
        yield Send(hub, "kept", b"")
        yield Receive(hub, "all kept", 0, AT_THE_END)
        return
    for name in contract.feature_holders:
        yield Receive(name, "kept", 0, AT_THE_END)
    end()
    for name in contract.feature_holders:
        yield Send(name, "all kept", b"")
