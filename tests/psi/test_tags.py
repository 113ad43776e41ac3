"""Tags are as long as chance asks for, and a result told by them names own rows only, once each."""

import numpy as np
import pytest

from protos.rounds import RemoteProtocolError
from psi import tags

OWN = np.arange(30, dtype=np.uint8).reshape(5, 6)


def told(payload: bytes, leads: int = 5) -> list[int]:
    reading = tags.receive("lead", "tags", OWN, leads)
    assert next(reading).at_most == 6 * min(leads, 5)
    with pytest.raises(StopIteration) as stop:
        reading.send(payload)
    return stop.value.value.tolist()


def test_the_length_that_the_sets_call_for() -> None:
    sizes = {n: tags.size(n, n) for n in (0, 1, 10**6, 10**7, 10**8, 10**9)}
    assert sizes == {0: 5, 1: 5, 10**6: 10, 10**7: 11, 10**8: 12, 10**9: 13}
    assert tags.size(10, 10**6) == tags.size(10**6, 10) == 8


def test_rows_in_the_leaders_order() -> None:
    assert told(OWN[[3, 0, 4]].tobytes()) == [3, 0, 4]
    assert told(b"") == []
    assert told(OWN[[2]].tobytes(), leads=1) == [2]


@pytest.mark.parametrize(
    ("payload", "says"),
    [
        (OWN.tobytes()[:-1], "29 bytes of tags of 6 bytes"),
        (bytes(6), "does not hold"),
        (OWN[[1, 1]].tobytes(), "the same tag twice"),
    ],
)
def test_anything_else_is_refused(payload: bytes, says: str) -> None:
    with pytest.raises(RemoteProtocolError, match=f"lead sent .*{says}"):
        told(payload)
