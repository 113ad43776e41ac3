"""A protocol's generator against the link: each word answered, and what ends it thrown into it first."""

from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn, TypeAlias, TypeVar

from parties.mail import Mail
from protos.rounds import (
    ANY,
    Bind,
    Cancelled,
    LocalProtocolError,
    Progress,
    Receive,
    Rounds,
    Save,
    Send,
    Traffic,
)

T = TypeVar("T")
OnProgress: TypeAlias = Callable[[Progress, Traffic], None]
OnSave: TypeAlias = Callable[[int, bytes], None]


class Stage(NamedTuple):
    """What the words of a protocol turn to: the link's mail, its ways to send and to bind, its bytes."""

    mail: Mail
    send: Callable[[Send], None]
    bind: Callable[[bytes], None]
    traffic: Callable[[], Traffic]


def play(rounds: Rounds[T], stage: Stage, on_progress: OnProgress, on_save: OnSave | None) -> T:
    """To its end; its result."""
    mail = stage.mail
    answer: Any = None
    while True:
        try:
            word = rounds.send(answer)
        except StopIteration as stop:
            result: T = stop.value
            return result
        answer = None
        try:
            match word:
                case Send():
                    stage.send(word)
                case Receive(sender=sender):
                    answer = mail.receive_any(word) if sender == ANY else mail.receive(word)
                case Bind(run):
                    stage.bind(run)
                case Save(step, state):
                    if on_save:
                        on_save(step, state())
                case Progress(phase):
                    mail.phase, answer = phase, stage.traffic()
                    mail.check()
                    on_progress(word, answer)
        except KeyboardInterrupt as error:
            cancelled = Cancelled(f"interrupted during {mail.phase}")
            cancelled.__cause__ = error
            _throw(rounds, cancelled)
        except BaseException as error:  # of the caller's own `on_progress`, or of a signal handler, too
            _throw(rounds, error)


def _throw(rounds: Rounds[T], error: BaseException) -> NoReturn:
    """Through the protocol, which may have something to clean up, and out again."""
    try:
        rounds.throw(error)
    except StopIteration:
        raise error from None
    raise LocalProtocolError("a protocol went on after an error that ends it") from error
