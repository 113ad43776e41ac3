"""Tables for `party demo`: three made-up companies (`generate`), or a real set cut up (`split_real`).

Either way each party gets a CSV file of its own with its own share of the people, and e-mail ids as its own
systems spell them: case, blanks, composed and decomposed letters, repeated rows, gaps. Beside them lies the
truth (`truth.json`, `truth.parquet`), which no party reads and only the demo compares with.
"""

import hashlib
import hmac
import json
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from parties.demo_population import CATEGORICAL, NUMERIC, PARTIES, Bools, Floats, population
from parties.errors import DataError

LABEL: Final = "converted_within_7_days"
DUPLICATES: Final = 0.01
NULL_IDS: Final = 0.003
BLANK_IDS: Final = 0.002
REAL_SHARE: Final = 0.9
"""Of the rows of a real set, the part that each party knows."""

FIRST: Final = ["anna", "josé", "li", "mehmet", "olga", "jürgen", "fatima", "björn", "zoë", "ivan", "tom"]
LAST: Final = ["garcía", "müller", "chen", "yilmaz", "novak", "smith", "rossi", "åberg", "kim", "silva"]
DOMAIN: Final = ["mail.example", "post.example", "inbox.example", "firm.example"]


@dataclass(frozen=True)
class PartyData:
    """What the demo writes into one party's configuration; no `label`, no `positive` at a feature holder."""

    name: str
    file: Path
    id_column: str
    numeric: list[str]
    categorical: list[str]
    label: str | None
    positive: list[Any] | None


@dataclass(frozen=True)
class DemoData:
    """truth: truth.json, with `aligned` (people that all parties can find) and, if known, `bayes_auc`.

    `truth.parquet` beside it has one row a person of the true intersection: `id` (canonical e-mail),
    `label` and, for generated data, `probability`.
    """

    parties: list[PartyData]
    label_holder: str
    truth: Path


def generate(folder: Path, seed: int = 7, people: int = 100_000, label_holder: str = "platform") -> DemoData:
    """Write <folder>/<party>/customers.csv for three made-up companies, and the truth; the seed fixes all."""
    if label_holder not in PARTIES:
        raise DataError(f"no company {label_holder!r} here: let one of {', '.join(PARTIES)} hold the label")
    drawing, writing = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    made = population(people, drawing)
    emails = _emails(people, writing)
    known: list[Bools] = []
    parties: list[PartyData] = []
    for index, name in enumerate(PARTIES):
        frame = made.frames[name]
        if name == label_holder:
            frame = frame.assign(**{LABEL: made.converted.astype(np.int64)})
        file = folder / name / "customers.csv"
        known.append(_write(file, frame, emails, made.member[name], _SPELLINGS[index], writing))
        label, positive = (LABEL, [1]) if name == label_holder else (None, None)
        parties.append(PartyData(name, file, "email", NUMERIC[name], CATEGORICAL[name], label, positive))
    everywhere = np.logical_and.reduce(known)
    columns = {"label": made.converted, "probability": made.probability}
    facts = {"seed": seed, "people": people, "bayes_auc": bayes_auc(made.probability[everywhere])}
    return DemoData(parties, label_holder, _write_truth(folder, emails, everywhere, columns, facts))


def split_real(source: Path, folder: Path, seed: int = 7) -> DemoData:
    """Cut the set in `source` (split.json and <name>.csv or .csv.gz) into <folder>/<party>/customers.csv.

    Each party gets its own columns of a random 90 % of the rows. Values are copied as they are written.
    DataError if split.json or the file is missing, or they do not belong together.
    """
    split, frame = read_real(source)
    writing = np.random.default_rng(seed)
    rows = len(frame)
    emails = [f"{_keyed(seed, row)}@{DOMAIN[row % len(DOMAIN)]}" for row in range(rows)]
    known: list[Bools] = []
    parties: list[PartyData] = []
    for index, (name, columns) in enumerate(split["parties"].items()):
        holder = name == split["label_holder"]
        member = np.zeros(rows, dtype=bool)
        member[writing.choice(rows, round(REAL_SHARE * rows), replace=False)] = True
        file = folder / name / "customers.csv"
        mine = frame[[*columns, split["label"]] if holder else columns]
        known.append(_write(file, mine, emails, member, _SPELLINGS[index % len(_SPELLINGS)], writing))
        categorical = [column for column in columns if column in split["categorical"]]
        numeric = [column for column in columns if column not in split["categorical"]]
        label, positive = (split["label"], split["positive"]) if holder else (None, None)
        parties.append(PartyData(name, file, "email", numeric, categorical, label, positive))
    everywhere = np.logical_and.reduce(known)
    facts = {"seed": seed, "people": rows, "set": split["name"]}
    truth = _write_truth(folder, emails, everywhere, {"label": frame[split["label"]].to_numpy()}, facts)
    return DemoData(parties, split["label_holder"], truth)


def bayes_auc(probability: Floats) -> float:
    """The expected AUC of ranking these people by their true probability, the best ranking there is.

    Labels are integrated out, not drawn: the sum over ordered pairs of P(i converts, j does not) that are
    ranked rightly (ties count half), over the sum over all pairs. Both sums leave out i = j.
    """
    ordered = np.sort(probability)
    _, first, times = np.unique(ordered, return_index=True, return_counts=True)
    below = np.concatenate([[0.0], np.cumsum(1 - ordered)])
    group = np.repeat(np.arange(len(first)), times)
    lower = below[first][group]
    tied = (below[first + times] - below[first])[group] - (1 - ordered)
    itself = np.sum(ordered * (1 - ordered))
    return float(np.sum(ordered * (lower + tied / 2)) / (ordered.sum() * (1 - ordered).sum() - itself))


def read_split(source: Path) -> dict[str, Any]:
    """The facts in <source>/split.json; examples/data/README.md says what each is."""
    try:
        split = json.loads((source / "split.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{source}: no split.json here; see examples/data for what it holds") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as fault:
        raise DataError(f"{source / 'split.json'}: not JSON ({fault})") from None
    needed = ["name", "label", "positive", "label_holder", "parties", "categorical"]
    lacking = [key for key in needed if not isinstance(split, dict) or key not in split]
    if lacking:
        raise DataError(f"{source / 'split.json'}: {', '.join(lacking)} missing; see examples/data")
    parties = split["parties"]
    if not isinstance(parties, dict) or not all(isinstance(columns, list) for columns in parties.values()):
        raise DataError(
            f"{source / 'split.json'}: parties must give each party's list of columns by its name"
        )
    if split["label_holder"] not in parties:
        raise DataError(f"{source / 'split.json'}: label_holder is not among the parties")
    return dict(split)


def read_real(source: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """The facts in split.json, and all columns of the set as text, exactly as written. DataError."""
    split = read_split(source)
    files = [source / f"{split['name']}.csv", source / f"{split['name']}.csv.gz"]
    file = next((file for file in files if file.exists()), None)
    if file is None:
        raise DataError(f"{source}: no {files[0].name} or {files[1].name} here; download the set first")
    frame: pd.DataFrame = pd.read_csv(file, dtype=str, keep_default_na=False)
    for column in [split["label"], *(column for columns in split["parties"].values() for column in columns)]:
        if column not in frame:
            raise DataError(f"{file}: no column {column!r}, which split.json names")
    return split, frame


def _write(
    file: Path,
    frame: pd.DataFrame,
    emails: Sequence[str],
    member: Bools,
    spell: Callable[[str, float], str],
    random: np.random.Generator,
) -> Bools:
    """Write the members' rows in a random order; return who can be found there: bool, as long as `emails`."""
    rows = random.permutation(np.flatnonzero(member))
    fate = random.random(len(rows))
    lost = fate < NULL_IDS + BLANK_IDS
    again = random.choice(rows[~lost], round(DUPLICATES * len(rows)), replace=False)
    ids = [spell(emails[row], mood) for row, mood in zip(rows, random.random(len(rows)), strict=True)]
    for place in np.flatnonzero(lost):
        ids[place] = "" if fate[place] < NULL_IDS else "  "
    ids += [spell(emails[row], mood) for row, mood in zip(again, random.random(len(again)), strict=True)]
    table = frame.iloc[np.concatenate([rows, again])].copy()
    for column in table.select_dtypes("float64"):
        if (table[column].dropna() % 1 == 0).all():
            table[column] = table[column].astype("Int64")
    table.insert(0, "email", ids)
    file.parent.mkdir(parents=True, exist_ok=True)
    table.iloc[random.permutation(len(table))].to_csv(file, index=False, encoding="utf-8")
    known = np.zeros(len(emails), dtype=bool)
    known[rows[~lost]] = True
    return known


def _write_truth(
    folder: Path,
    emails: Sequence[str],
    everywhere: Bools,
    columns: dict[str, NDArray[Any]],
    facts: dict[str, Any],
) -> Path:
    people = pd.DataFrame({"id": emails, **columns})[everywhere]
    people.to_parquet(folder / "truth.parquet", index=False)
    file = folder / "truth.json"
    facts = {**facts, "aligned": int(everywhere.sum())}
    file.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return file


def _emails(people: int, random: np.random.Generator) -> list[str]:
    """Canonical and distinct; example domains of RFC 2606, so that none can be anybody's."""
    number = random.permutation(10 * people)[:people]
    first, last, domain = (random.integers(len(names), size=people) for names in (FIRST, LAST, DOMAIN))
    return [
        f"{FIRST[a]}.{LAST[b]}{c}@{DOMAIN[d]}" for a, b, c, d in zip(first, last, number, domain, strict=True)
    ]


def _keyed(seed: int, row: int) -> str:
    """A row number as a made-up mailbox name: keyed, so that it tells nothing of the row's place."""
    return hmac.new(b"demo %d" % seed, b"%d" % row, hashlib.sha256).hexdigest()[:16]


def _as_typed(email: str, mood: float) -> str:
    """A web form: what customers typed."""
    return email.title() if mood < 0.35 else email.upper() if mood < 0.5 else email


def _as_scanned(email: str, mood: float) -> str:
    """Parcel labels: capitals, fixed width, letters and their accents apart."""
    capitals = unicodedata.normalize("NFD", email.upper())
    return capitals + "   " if mood < 0.4 else capitals


def _as_exported(email: str, mood: float) -> str:
    """A campaign tool's export: stray blanks, the domain in capitals."""
    mailbox, domain = email.split("@")
    return f" {email}" if mood < 0.2 else f"{mailbox}@{domain.upper()} " if mood < 0.5 else email


_SPELLINGS: Final = [_as_typed, _as_scanned, _as_exported]
