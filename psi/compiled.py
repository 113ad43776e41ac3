"""Loops compiled by numba: the one decorator through which this package uses it.

Machine code is kept beside the source (`__pycache__`), else in the user's cache directory, or in
NUMBA_CACHE_DIR where that is set; the first call after an install or an update compiles, which takes seconds.
Where none of these can be written, a warning says so and every process compiles for itself.

numba is imported when a function is first called, not before: commands that compute nothing do not pay for
it. A compiled function may call others of its own file only: the cache of a file is renewed when that
file changes, not when another does.
"""

import warnings
from collections.abc import Callable
from functools import cached_property, update_wrapper
from typing import Any, Generic, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def compiled(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """`function` as machine code; it releases the GIL. Indices are not checked: they must be in range."""
    return _Compiled(function)


class _Compiled(Generic[Arguments, Result]):
    def __init__(self, function: Callable[Arguments, Result]) -> None:
        self._function = function
        update_wrapper(self, function)

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return self._dispatcher(*args, **kwargs)

    @cached_property
    def _dispatcher(self) -> Callable[Arguments, Result]:
        import numba

        try:
            return numba.njit(cache=True, nogil=True, error_model="numpy")(self._function)
        except RuntimeError as error:  # numba: "no locator available", raised here, before it compiles
            if "cache" not in str(error):
                raise
            warnings.warn(
                "compiled code can be kept nowhere: this process compiles it anew, which takes seconds; "
                "set NUMBA_CACHE_DIR to a directory that can be written",
                RuntimeWarning,
                stacklevel=3,
            )
            return numba.njit(nogil=True, error_model="numpy")(self._function)

    @property
    def _numba_type_(self) -> Any:
        """What numba asks of an object that a compiled function names: this one is a function like itself."""
        return self._dispatcher._numba_type_  # type: ignore[attr-defined]
