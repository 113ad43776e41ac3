"""`party`, with all that it must not tell written to a folder `spied`, for tests/e2e/test_capture.py.

Each file holds pieces, each after its length in four bytes: `heard` and `said` are frames as this party had
them inside of TLS, `words` what it sealed for another feature holder; the rest is what it knows.
"""

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

folder = Path("spied")
folder.mkdir()
lock = threading.Lock()


def note(file: str, data: bytes) -> None:
    with lock, (folder / file).open("ab") as noted:
        noted.write(len(data).to_bytes(4, "big") + data)


def drawing(size: int, draw: Callable[[int], bytes] = os.urandom) -> bytes:
    data = draw(size)
    note("drawn", data)
    return data


os.urandom = drawing  # before anything takes it as its own

from parties import checkpoints  # noqa: E402
from parties.__main__ import main  # noqa: E402
from parties.link import Link  # noqa: E402
from parties.seal import Seal  # noqa: E402
from parties.wire import Wire  # noqa: E402
from psi import buckets  # noqa: E402
from splitnn.schedules import SCHEDULES  # noqa: E402

exact, align = SCHEDULES["exact"], buckets.align


def before(owner: Any, name: str, spy: Callable[..., None]) -> None:
    """Let `spy` see the arguments of a method first."""
    method = getattr(owner, name)

    def seen(*args: Any) -> Any:
        spy(*args)
        return method(*args)

    setattr(owner, name, seen)


def aligning(protocol: Any, setting: Any, digests: Any, *more: Any) -> Any:
    for digest in digests:
        note("digests", digest.tobytes())
    return align(protocol, setting, digests, *more)


def columns(features: Any) -> None:
    for column in features.numeric.numpy().T:
        for kind in (np.float32, np.float64):
            note("features", column.astype(kind).tobytes())
    note("features", features.numeric.numpy().tobytes())


def leading(plan: Any, rows: Any, features: Any, labels: Any, *more: Any) -> Any:
    columns(features)
    for part in (labels.train, labels.validation, labels.test):
        for kind in (np.uint8, np.int32, np.int64, np.float32, np.float64):
            note("labels", part.numpy().astype(kind).tobytes())
    return exact.label_holder(plan, rows, features, labels, *more)


def following(plan: Any, rows: Any, features: Any, *more: Any) -> Any:
    columns(features)
    return exact.feature_holder(plan, rows, features, *more)


before(Link, "hear", lambda link, wire, data: note("heard", data))
before(Wire, "_write", lambda wire, frame: note("said", frame.SerializeToString()))
before(Seal, "close", lambda seal, kind, payload: note("words", payload))
buckets.align = aligning
checkpoints.STEPS = 20
SCHEDULES["exact"] = replace(exact, label_holder=leading, feature_holder=following)
main()
