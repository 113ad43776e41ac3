"""`party init`: a commented party.toml and run.toml to begin with."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from string import Template

from parties.certs import PARTY_NAME
from parties.errors import ConfigError
from parties.storage import write

PASTE = "sha256:PASTE"
"""Stands where a key's pin goes; as it is, run.toml is refused."""

PARTY = Template("""\
# party.toml of $name: what this company keeps to itself. Every key: docs/party-toml.md
# Relative paths begin at the folder of this file.

party = "$name"
contract = "run.toml"             # shared with the other parties, the same at all of them
storage = "runs"                  # each run leaves a folder here

[data]
file = $file  # CSV or Parquet, one row a user
id = $id  # the column with the ids; [ids] in run.toml says of which type
# id = { email = "e-mail", person = ["surname", "born"] }  # where run.toml has several kinds of id
$label# numeric = ["age"]               # with neither of these two, every column takes part
# categorical = ["city"]
# bags = { history = " " }        # lists of entries in a cell, and what separates them
# exclude = ["name"]              # but these
# types = { shop = "category" }   # what a column is, where its cells do not say it
# scale = { income = "log" }      # standard | quantile | log; else by its skewness
nulls = "drop"                    # rows whose id is null or blank: drop | refuse
duplicates = "drop"               # rows whose id was seen before: drop | refuse

# [groups]                        # columns whose importance is measured together
# address = ["city", "zip"]

[tls]                             # `party certs` makes such files for a trial
ca = $ca  # whom all parties trust to sign certificates
certificate = $certificate
key = $key  # private: it never leaves this machine

[link]
$link
wait = 300                        # seconds to wait for the others

# [model]
# bottom = "mlp"                  # or a class of your own: my_lab.models:MyBottom

# [training]                      # of this party's own weights, where not as run.toml says
# optimizer = "sgd"
# learning_rate = 0.01
# device = "cuda"                 # cpu | cuda
# precision = "bf16"              # float32 | bf16
$evaluation
# [serve]                         # scores online, with `party serve`: docs/serve.md
$serve""")

SERVE = """\
# listen = "0.0.0.0:50052"        # where the others come to answer
# applications = "127.0.0.1:50053"  # where your own programs ask for scores
# clients = ["sha256:PIN"]        # of their certificates: `party certs --fingerprint FILE`
# deadline_ms = 40.0              # how long a score waits for the others
# cache_seconds = 60.0            # how long an answer of theirs may be used again
"""

ANSWER = """\
# hub = "hub.example.com:50052"   # where the label holder's serve.listen is
# ids_per_second = 50000.0        # more is not answered
"""

LABEL = """\
label = $label  # the column to predict
# positive = ["yes"]              # its values that count as a yes, where it is not 1 / 0 or true / false
# weight = "weight"               # a column: how much each row counts in training
# class_weights = "balanced"      # or a table, such as { yes = 20 }
# rank_within = "session"         # a column: within what rows are ranked; of several rows a user, the user
# event_time = "clicked_at"       # labels that come late: when each row's event was; with it, its window
# window = "7d"                   # how long after it a yes counts; younger rows take no part
"""

EVALUATION = """
[evaluation]
calibration = "none"              # scores made probabilities: none | temperature | isotonic
# keep_activations = true         # keep what arrives of the test users, for `party audit inversion`
"""

RUN = Template("""\
# run.toml: what all parties agree on; every party has the same. Every key: docs/run-toml.md

version = 1
name = "first-run"
label_holder = "$label_holder"
seed = $seed                   # public: order and split of the rows

# One table a party, 2 to 16. The key pins its certificate: `party certs --fingerprint FILE` prints it.
$parties
[ids]
type = "email"                    # string | integer | email | phone
# Or several kinds, the preferred one first: the first that all parties have is used.
# [[ids]]
# type = "email"
# [[ids]]
# name = "person"
# types = ["string", "integer"]   # of several columns

[psi]
protocol = "ecdh"                 # `party psi list` says what each costs and tells; auto: the cheapest
minimum = 100                     # fewer common users: no training
at_most = 1000000                 # most ids that a party may bring: close to what you expect
# largest_ratio = 100             # no set larger than so many times the smallest
hide_sizes = false                # true: all sets are filled up to at_most, at that cost
allow_insecure = false            # true: also protocols for measurements, which hide nothing

[examples]
per_entity = "one"                # several: rows of the label holder may share an id; all learn how many do
# at_most = 10000000              # of several: most rows of common users

[model]
task = "binary"                   # binary | multiclass | multilabel | regression
# loss = "squared"                # of regression: squared | huber | poisson
cut = 32                          # numbers a row that each feature holder sends
bottom_hidden = [128]
top_hidden = [64]
dropout = 0.2
# party_dropout = 0.1             # a partner may be absent when the model is used

[training]
schedule = "exact"                # exact | pipelined | fedbcd | celu: slow lines want another
optimizer = "adam"                # adam | sgd
learning_rate = 0.001
weight_decay = 0.0001
batch = 256
epochs = 50                       # at most
patience = 8                      # epochs without a better validation score before it stops
# warm_start = "<run id>"         # begin with the weights and features of that run

[codec]
activations = "fp32"              # fp32 | bf16 | int8 | randtopk (and keep = 8, of cut)
gradients = "fp32"                # fp32 | bf16 | int8

[evaluation]
validation = 0.15
test = 0.15
every = "auto"                    # epochs from one validation to the next; auto: so that it costs under 5 %
importance = "parties"            # none | parties | columns: what is measured on the test rows

# What the parties may learn of one another (docs/label-privacy.md, docs/splitnn.md). Take off one "# " of
# each of these lines; those that have a second one are further choices, one by one.
# [privacy]
# label_defence = "marvell"       # noise on gradients: none | max_norm | iso | marvell (binary task only)
# label_strength = 4.0            # how much; of iso and marvell, and required there
# max_label_leak = 0.8            # the AUC of an attack on gradients (0.5: a guess) at which training ends
# max_label_strength = 1024.0     # but first label_strength is doubled, up to this
# # label_epsilon = 3.0           # or, and: labels lie now and then; the less, the more often
# # label_budget = 9.0            # with it: the sum of such epsilons that a partner may learn, in all runs
# # embedding_clip = 1.0          # no row of an activation is longer: schedule exact only
# # embedding_sigma = 8.0         # with it: noise, in units of the clip; much of it and nothing is learned
# # embedding_budget = 20.0       # with both: the most epsilon in all runs; 50 epochs of a run: 9.3
# delta = 1e-5                    # how probably an epsilon may not hold: below 1 / users in common
# # sum_bound = 32.0              # of fusion "secure-sum": activations are cut off here
# # sum_fraction = 20             # of the same: bits behind the point
# purpose = "customer scoring"    # what the model may be used for: signed by all, for people to read
# expires = $expires            # no run begins after this day
""")


def init(
    folder: Path,
    name: str,
    *,
    label_holder: bool,
    seed: int,
    file: Path | None = None,
    id_column: str | None = None,
    label: str | None = None,
    certs: Path | None = None,
    hub: str | None = None,
) -> list[Path]:
    """Write what is missing of party.toml and run.toml; returns what was written.

    A run.toml that is there is kept: it came from a partner. What is not said stands as an example in the
    files. certs: a folder that `party certs` wrote; the keys of all certificates there go into run.toml.
    Raises ConfigError for a name that is none, where party.toml is there already, and for what cannot be;
    IdentityError for a certificate that is none; StorageError.
    """
    if not PARTY_NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name for a party; use a-z, 0-9 and -, at most 32, a letter first")
    own, shared = folder / "party.toml", folder / "run.toml"
    if own.exists():
        raise ConfigError(f"{own}: is there already and is not overwritten; choose another --folder")
    if label is not None and not label_holder:
        raise ConfigError("--label: only the label holder has one; add --label-holder, or leave it out")
    if hub is not None and label_holder:
        raise ConfigError("--hub: the label holder is the hub itself; leave it out")
    if file is not None and not file.is_file():
        raise ConfigError(f"--file: {file}: no such file")
    link = (
        'listen = "0.0.0.0:50051"          # this party is the hub: the others dial in here'
        if label_holder
        else f"hub = {_text(hub or 'hub.example.com:50051')}     # where the label holder listens"
    )
    if certs is not None and not (certs / f"{name}.pem").is_file():
        raise ConfigError(f"--certs: {certs}: no {name}.pem; `party certs NAME...` makes certificates")
    place = "certs" if certs is None else _from(folder, certs)
    files = {
        own: PARTY.substitute(
            name=name,
            file=_text(_from(folder, file) if file is not None else f"{name}.csv"),
            id=_text(id_column or "email"),
            label=Template(LABEL).substitute(label=_text(label or "converted")) if label_holder else "",
            ca=_text(f"{place}/ca.pem"),
            certificate=_text(f"{place}/{name}.pem"),
            key=_text(f"{place}/{name}.key"),
            link=link,
            evaluation=EVALUATION if label_holder else "",
            serve=SERVE if label_holder else ANSWER,
        )
    }
    if not shared.exists():
        pins = _pins(certs, name)
        others = [party for party in pins if party != name]
        if len(others) > 1 and not label_holder:
            raise ConfigError(
                f"{shared}: missing; the label holder's `party init` writes it: put a copy there"
            )
        files[shared] = RUN.substitute(
            label_holder=name if label_holder else others[0],
            seed=seed,
            parties="".join(f'[parties.{party}]\nkey = "{pin}"\n\n' for party, pin in pins.items()),
            expires=datetime.now(UTC).date() + timedelta(days=365),
        )
    for path, text in files.items():
        write(path, text.encode(), mode=0o644)
    return list(files)


def _text(value: str) -> str:
    """A string of TOML's."""
    return json.dumps(value, ensure_ascii=False)


def _from(folder: Path, path: Path) -> str:
    """The path as a file in the folder names it."""
    return Path(os.path.relpath(path.absolute(), folder.absolute())).as_posix()


def _pins(certs: Path | None, name: str) -> dict[str, str]:
    """By party, of the certificates that `party certs` left in this folder; without one, places for them."""
    if certs is None:
        return {name: PASTE, "partner" if name != "partner" else "platform": PASTE}
    from parties.own import pin_of

    files = [path for path in sorted(certs.glob("*.pem")) if PARTY_NAME.fullmatch(path.stem)]
    found = {path.stem: pin_of(path) for path in files if path.stem != "ca"}
    if len(found) < 2:
        raise ConfigError(f"--certs: {certs}: holds one certificate; run.toml needs those of all parties")
    return found
