"""The process of `party`: what signals do, and how an error ends it."""

import json
import os
import signal
import sys
from types import FrameType
from typing import Final, NoReturn

import typer

from parties.cli import app

INTERRUPTED: Final = 128 + signal.SIGINT
"""The shell's exit code of a program that was interrupted."""


class _Interrupt(KeyboardInterrupt):
    """Once a plain KeyboardInterrupt has passed through `exec` or `eval` of a text, as in many an import,
    CPython ends the process by SIGINT, whatever its exit code."""


def _stopped(number: int, frame: FrameType | None) -> None:
    """The first signal ends the run in good order, as Control-C does; the second ends the process."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda *_: os._exit(INTERRUPTED))
    raise _Interrupt


def deaf() -> None:
    """How the process ends is decided: a signal would change the code."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)


def main() -> NoReturn:
    """Every error is one line a fault on stderr, and its class's exit code."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, _stopped)
    try:
        code = app(sys.argv[1:] or ["--help"], prog_name="party", standalone_mode=False) or 0
        if code == INTERRUPTED:  # typer's answer to a KeyboardInterrupt
            raise KeyboardInterrupt
        sys.exit(code)
    except (Exception, KeyboardInterrupt) as error:
        sys.exit(_failed(error, as_json="--json" in sys.argv[1:]))


def _logs_json(words: list[str]) -> bool:
    return "--log=json" in words or ["--log", "json"] in [words[at : at + 2] for at in range(len(words))]


def _failed(error: BaseException, as_json: bool) -> int:
    """Tell of an error; returns the exit code."""
    usage = getattr(error, "format_message", None)  # typer's own errors: a wrong option, a missing argument
    if usage is not None:
        asked = getattr(getattr(error, "ctx", None), "command_path", "party")
        code, message = 2, f"{str(usage()).rstrip('.')}; see `{asked} --help`"
    else:
        from parties.errors import PartyError, exit_code
        from protos.rounds import Cancelled

        if isinstance(error, KeyboardInterrupt | typer.Abort):
            error = Cancelled("interrupted")
        code, message = exit_code(error), str(error)
        if code == 1 and not isinstance(error, PartyError):
            from parties.crash import report

            message = report(error)
    for line in message.splitlines():
        if _logs_json(sys.argv[1:]):
            from parties.json_log import event

            event("error", "error", **{"class": type(error).__name__, "message": line, "exit_code": code})
        else:
            print(f"party: {line}", file=sys.stderr)
    if as_json:
        fault = {"class": type(error).__name__, "message": message, "exit_code": code}
        print(json.dumps({"error": fault}, indent=2))
    return code
