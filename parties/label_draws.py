"""What decides how each record answers when labels are to lie: the same in every run of this party.

A record drawn anew in each run would tell its label after a few. So the draws hang on the party's own secret,
on what is asked, and on the record's id in canonical form; not on run or contract. Under another kind of id,
or with another `storage/secret`, a record has other draws: that is another release.
"""

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

import psi
from parties.config import Config
from parties.own import OwnData
from parties.storage import private_seed
from splitnn.randomised_response import draws
from splitnn.schedule import Split
from splitnn.tasks import Labels

RECORDS = b"vertical records v1"
"""Key of the digests of canonical ids; what is drawn from them is secret by another."""


def lying(
    config: Config,
    data: OwnData,
    kind: str,
    rows: NDArray[np.int64],
    split: Split,
    labels: Labels,
    secret: bytes,
) -> Labels:
    """The labels with draws, where the contract asks for some. kind: of the ids. rows: of the table; split:
    places in them, of the examples that the labels are of. secret: the party's own."""
    epsilon = config.contract.privacy.label_epsilon
    if epsilon is None:
        return labels
    asked, classes = question(config, labels.names), max(2, len(labels.names))
    seed = private_seed(secret, b"", "labels that lie")
    drawn = draws(seed, asked, classes, epsilon, _records(config, data, kind, rows))
    return replace(labels, draws=(drawn[split.train], drawn[split.validation]))


def question(config: Config, classes: Sequence[str]) -> str:
    """What each record is asked. Answers to one question under one epsilon, by one kind of id, are one
    release, however many runs learn from them; any other is another."""
    own = config.party.data
    within = [own.window] if own.label_time else []  # another window may have another answer
    return json.dumps([own.label, sorted(map(json.dumps, own.positive)), classes, *within])


def _records(config: Config, data: OwnData, kind: str, rows: NDArray[np.int64]) -> list[bytes]:
    """What names each of these rows in every run: its id. rows: each of another id, as the contract has only
    one row an id where labels are to lie."""
    names = config.id_columns[kind]
    types = next(one.columns for one in config.contract.ids if one.name == kind)
    rising = np.sort(rows)
    ids = psi.normalise([[data.table.ids[name].iloc[rising] for name in names]], names, types, RECORDS)
    # Eight zeros: an earlier release numbered the rows of an id, and whoever answered it answers alike.
    named = np.hstack((ids.digests, np.zeros((len(ids.rows), 8), np.uint8)))
    return [record.tobytes() for record in named[np.searchsorted(rising, rows)]]
