"""Compiled functions: typed, late, and working where nothing can be cached."""

import subprocess
import sys

import numpy as np
import pytest

from psi.compiled import compiled


@compiled
def square(x: int) -> int:
    """Its square."""
    return x * x


@compiled
def sum_of_squares(values: np.ndarray) -> int:
    total = 0
    for value in values:
        total += square(value)
    return total


def test_a_compiled_function_calls_another_and_keeps_its_name() -> None:
    assert sum_of_squares(np.arange(10)) == 285
    assert (square.__name__, square.__doc__) == ("square", "Its square.")


def test_the_gil_is_released_and_code_is_kept() -> None:
    dispatcher = square._dispatcher  # type: ignore[attr-defined]
    assert dispatcher.targetoptions["nogil"]
    assert type(dispatcher._cache).__name__ == "FunctionCache"


def test_numba_is_not_imported_before_a_call() -> None:
    code = "import sys, psi.okvs, psi.matching; print('numba' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"


def test_where_nothing_can_be_cached_it_says_so_and_works() -> None:
    """A function whose source lies in no file: numba finds no place for it, as in a read-only install."""
    names: dict[str, object] = {}
    exec(compile("def triple(x):\n    return 3 * x", "/nowhere/triple.py", "exec"), names)
    triple = compiled(names["triple"])  # type: ignore[arg-type]
    with pytest.warns(RuntimeWarning, match="NUMBA_CACHE_DIR"):
        assert triple(5) == 15
    assert triple(7) == 21  # and says so once


def test_another_error_of_numbas_is_not_hidden() -> None:
    import numba

    @compiled
    def refused(x: object) -> object:
        return x.y  # type: ignore[attr-defined]

    with pytest.raises(numba.TypingError):
        refused(3)
