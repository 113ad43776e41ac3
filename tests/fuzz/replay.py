"""One honest party, played a recorded run in which one of the messages that it receives is another one."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any

from protos.memory import together
from protos.rounds import Progress, Receive, RemoteProtocolError, Round, Rounds, Send, Traffic, mapped

Begin = Callable[[], Rounds[Any]]

MOST = 64 << 20
"""Bytes: no party of the small runs here has a reason to allow a longer message."""


def edited(good: list[bytes], data: bytes) -> tuple[int, bytes]:
    """Which of these messages to replace, and by what: fuzzed bytes as an edit of a valid message.

    So the fuzzer need not find out by itself what a valid message of a hundred kilobytes looks like.
    """
    choice, how, at, *_ = *data[:2], int.from_bytes(data[2:6], "little"), 0, 0, 0
    index, rest = choice % len(good), data[6:]
    message = good[index]
    at %= len(message) + 1
    match how % 6:
        case 0:  # other bytes in the same place
            return index, (message[:at] + rest + message[at + len(rest) :])[: max(len(message), 1)]
        case 1:
            return index, rest
        case 2:
            return index, message[:at] + rest
        case 3:
            return index, message[:at] + rest + message[at:]
        case 4:
            return index, message[:at] + message[at + len(rest) :]
        case _:
            return index, good[at % len(good)]


@dataclass(frozen=True)
class Replay:
    """begin: the party, with the same randomness each time. heard: what it received in the recorded run.

    typed: what it may raise. judge: is told its result. weights: of a party, before and after a refusal.
    """

    begin: Begin
    heard: list[bytes]
    typed: tuple[type[Exception], ...]
    judge: Callable[[Any], None] = lambda result: None
    weights: Callable[[Rounds[Any]], Any] = lambda rounds: None

    @classmethod
    def record(
        cls,
        parties: Callable[[], Mapping[str, Rounds[Any]]],
        me: str,
        typed: tuple[type[Exception], ...] = (),
        judge: Callable[[Any], None] = lambda result: None,
        weights: Callable[[Rounds[Any]], Any] = lambda rounds: None,
    ) -> "Replay":
        heard: list[bytes] = []

        def each(word: Round) -> Generator[Round, Any, Any]:
            answer = yield word
            if isinstance(word, Receive):
                heard.append(answer)
            return answer

        everybody = dict(parties())
        everybody[me] = mapped(everybody[me], each)
        together(everybody)
        return cls(lambda: parties()[me], heard, (RemoteProtocolError, *typed), judge, weights)

    def __call__(self, data: bytes) -> None:
        """Raises what is not typed, and AssertionError where a refused message has changed a weight."""
        index, payload = edited(self.heard, data)
        rounds, answer, asked, before = self.begin(), None, 0, None
        fault: Exception
        try:
            while True:
                word = rounds.send(answer)
                answer = None
                match word:
                    case Receive(at_most=at_most):
                        if asked == len(self.heard):
                            return
                        assert at_most <= MOST, f"{word.kind} may have {at_most} bytes"
                        answer = payload if asked == index else self.heard[asked]
                        before = self.weights(rounds) if asked == index else None
                        asked += 1
                        if len(answer) > at_most:
                            rounds.throw(RemoteProtocolError(f"over its {at_most} bytes"))
                    case Send(payload=chunks) if not isinstance(chunks, bytes):
                        for _ in chunks:
                            pass
                    case Progress():
                        answer = Traffic(0, 0)
        except StopIteration as stop:
            self.judge(stop.value)
            return
        except self.typed as error:
            fault = error
        finally:
            rounds.close()
        assert "\n" not in str(fault), "an error is one line"
        if before is not None and isinstance(fault, RemoteProtocolError):
            module, kept = before
            assert all((value == kept[key]).all() for key, value in module.state_dict().items())

    @property
    def corpus(self) -> list[bytes]:
        """Data that leave each message as it is, and that replace it by itself."""
        return [
            bytes([index % 256, how]) + bytes(4) + (message[:4096] if how else b"")
            for index, message in enumerate(self.heard[:256])
            for how in (0, 1)
        ]
