"""`party`, and `python -m parties`."""

import os
import sys
from typing import Final, NoReturn

from parties import process

BROKEN: Final = 120
"""Python's own exit code where its output cannot be written."""


def main() -> NoReturn:
    """End the process without taking the interpreter apart.

    That stops gRPC's threads wherever they are, some with a lock in hand, and an object of gRPC's that is
    deleted afterwards (`grpc._channel._MultiThreadedRendezvous.__del__`) waits for that lock for ever.
    """
    code: object = 0
    try:
        process.main()
    except SystemExit as end:
        code = end.code
    process.deaf()
    try:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except OSError:  # nobody reads it any more
        code = code or BROKEN
    os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    main()
