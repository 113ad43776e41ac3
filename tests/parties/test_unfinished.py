"""What is kept of an unfinished run is used by the party and in the run that kept it."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from parties.unfinished import Unfinished


def test_an_alignment_of_another_party_or_run_is_not_used(tmp_path: Path) -> None:
    run, described = b"r" * 32, {"reused": 0}
    ann = Unfinished(tmp_path, None, "ann", {})  # the contract matters to checkpoints only
    ann.keep_alignment(run, np.array([3, 1]), described)
    rows, told = ann.alignment(run)
    assert (rows.tolist(), told) == ([3, 1], described)
    assert replace(ann, party="bob").alignment(run) is None
    assert ann.alignment(b"s" * 32) is None
