"""What the protocol waits for: messages of its peers, or the news that one of them will send no more."""

import threading
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from parties.limits import Limits
from protos.line import Inbox
from protos.rounds import (
    LocalProtocolError,
    PeerFailed,
    PeerTimeout,
    Receive,
    RemoteProtocolError,
    RoundsError,
)

T = TypeVar("T")


class Mail:
    """The streams' threads put in, the protocol's thread takes out; `changed` guards it and all of the link.

    What has arrived is taken before a failure is raised: who is told why the others stop should see it first.
    """

    def __init__(self, peers: Iterable[str], limits: Limits) -> None:
        self.changed = threading.Condition()
        self.phase = "handshake"  # what errors name, with the peer
        self.inboxes = {peer: Inbox(peer, limits.inbox) for peer in peers}
        self.left: set[str] = set()  # peers that have finished
        self.failure: RoundsError | None = None  # the first one: others follow from it
        self._progress = limits.progress

    def receive(self, word: Receive) -> bytes:
        """The next message of one sender. Raises what the link's `drive` says."""
        inbox = self.inboxes.get(word.sender)
        if inbox is None:
            raise LocalProtocolError(f"this party waits for {word.sender!r}, which is no other party")

        def arrived() -> bytes | None:
            got = inbox.take(word.kind, word.at_most)
            if got is None:
                self.check()
                if word.sender in self.left:
                    raise PeerFailed(
                        word.sender, self.phase, f"it has finished without sending {word.kind!r}"
                    )
            return got

        return self.wait(arrived, word.within, word.sender, f"it has not sent {word.kind!r}")

    def receive_any(self, word: Receive) -> tuple[str, bytes]:
        """The next message of this kind, and its sender. Who has sent another kind may be a step ahead of the
        others; that all have is against the protocol."""

        def arrived() -> tuple[str, bytes] | None:
            others = 0
            for sender, inbox in self.inboxes.items():
                if inbox.next_kind == word.kind:
                    if (got := inbox.take(word.kind, word.at_most)) is not None:
                        return sender, got
                elif inbox or sender in self.left:
                    others += 1
            self.check()
            if others == len(self.inboxes):
                raise RemoteProtocolError(
                    f"expected {word.kind!r} from any party, but all have gone beyond it"
                )
            return None

        everyone = " or ".join(self.inboxes)
        return self.wait(arrived, word.within, everyone, f"none has sent {word.kind!r}")

    def wait(self, ready: Callable[[], T | None], within: float | None, peer: str, missing: str) -> T:
        """Until `ready`, called whenever something has changed, answers other than None.

        within: seconds, None for the progress timeout; then PeerTimeout names `peer` and what is `missing`.
        """
        within = self._progress if within is None else within
        deadline = time.monotonic() + within
        with self.changed:
            while (got := ready()) is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise PeerTimeout(
                        peer,
                        self.phase,
                        f"{missing} within {within:g} s, though it is alive; see its own output",
                    )
                self.changed.wait(left)
            return got

    def check(self) -> None:
        """Raises the first failure, if there was one."""
        if self.failure is not None:
            raise self.failure
