"""What an unforeseen error leaves behind: where in the program it happened, and nothing of the data."""

import os
import tempfile
import traceback


def report(error: BaseException) -> str:
    """Write the trace to a temporary file, for its owner only; returns the one line that names it.

    The texts of the errors are left out: a library's text may quote an id or a value.
    """
    lines: list[str] = []
    link: BaseException | None = error
    while link is not None:
        lines += [
            f"{type(link).__module__}.{type(link).__qualname__}\n",
            *traceback.format_tb(link.__traceback__),
        ]
        link = link.__cause__ or link.__context__
    where = "and its trace could not be written"
    try:
        handle, path = tempfile.mkstemp(prefix="party-", suffix=".trace.txt")
        with os.fdopen(handle, "w") as file:
            file.writelines(lines)
        where = f"its trace is in {path}"
    except OSError:
        pass
    return f"an unforeseen {type(error).__name__}: this is a fault of the program; please report it, {where}"
