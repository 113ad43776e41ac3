"""What Python code that starts a run may hear of it: `docs/python.md` has examples."""

from collections.abc import Callable, Sequence

from protos.rounds import Progress, Traffic
from splitnn.epoch import Epoch


class Callback:
    """Override what you want to hear. What a callback raises ends the run in good order, as itself: the other
    parties are told that this one stopped, and what is kept to go on with is kept.

    `progress` and `epoch` are called by the thread that runs, between two steps: it waits for them. `say` and
    `peer` may be called by others at any time, also while it waits for a peer; what they raise ends the run
    at its next step.
    """

    def progress(self, progress: Progress, traffic: Traffic) -> None:
        """A phase began or got on, once a step: `progress.done` of `progress.total`; and the bytes so far."""

    def epoch(self, epoch: Epoch) -> None:
        """An epoch of the federation's training ended. At the label holder `epoch.metrics` has its training
        loss and, where it was judged, the validation metric that decides."""

    def say(self, line: str) -> None:
        """A line that `party run` would print."""

    def peer(self, name: str, there: bool) -> None:
        """A party that we have a line to came, or went away."""


class Told:
    """Callbacks as the display of a run, as `parties.progress.Bars` is one."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        """Raises TypeError for what is no `Callback`."""
        for one in callbacks:
            if not isinstance(one, Callback):
                raise TypeError(f"callbacks: {type(one).__name__} is no parties.Callback; derive from it")
        self._callbacks = callbacks
        self._raised: BaseException | None = None

    def __call__(self, progress: Progress, traffic: Traffic) -> None:
        self.check()
        for one in self._callbacks:
            if isinstance(progress, Epoch):
                one.epoch(progress)
            else:
                one.progress(progress, traffic)

    def say(self, line: str) -> None:
        self._each(lambda one: one.say(line))

    def peer(self, name: str, there: bool) -> None:
        self._each(lambda one: one.peer(name, there))

    def check(self) -> None:
        """Raises what a callback has raised in a thread of the link's, which must go on."""
        if self._raised is not None:
            raise self._raised

    def _each(self, tell: Callable[[Callback], None]) -> None:
        try:
            for one in self._callbacks:
                tell(one)
        except BaseException as error:  # an interrupt, too, would end a thread of the link's alone
            self._raised = self._raised or error
