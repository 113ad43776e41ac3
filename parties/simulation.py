"""All parties of a run in this process: for experiments with data that one program may hold together.

The run is the one that `party run` does, its files included; only the lines between the parties are missing.
"""

import hashlib
import hmac
import os
import random
import tempfile
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric import ec
from numpy.typing import NDArray

from parties import certs
from parties.alignment import Random
from parties.api import hearing
from parties.callbacks import Callback, Told
from parties.changes import described
from parties.config import Config, combined
from parties.errors import ConfigError, PartyError, StorageError
from parties.model import model
from parties.network import Network, Part
from parties.own import pin_of
from parties.phases import prepare
from parties.result import Result, scores_in
from parties.sources.memory import InMemory
from parties.storage import locked, run_folder, write
from parties.train import complete_run, leave_page
from parties.unfinished import Unfinished, forget, under_any_contract
from protos.memory import together
from protos.rounds import Progress, Round, mapped
from splitnn.threads import single_threaded

if TYPE_CHECKING:
    import pandas as pd

NOTHING: Final = MappingProxyType[str, Any]({})
SIGN: Final = "simulated.txt"
ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the curve P-256."""


@dataclass(frozen=True, repr=False)
class Simulated:
    """What a simulated run gave: by party, as `party run` leaves it; and the network, whole."""

    parties: dict[str, Result]
    label_holder: str
    network: Network

    @property
    def metrics(self) -> dict[str, Any]:
        """Of the test rows: `test` the federation, `alone` and `alone_all_rows` the label holder."""
        return self.parties[self.label_holder].metrics

    @property
    def summary(self) -> dict[str, Any]:
        """The label holder's."""
        return self.parties[self.label_holder].summary

    def score(self, tables: "Mapping[str, pd.DataFrame | pa.Table]") -> NDArray[Any]:
        """Of new rows, the i-th of each table being of one person: [n], or [n, classes]. Raises DataError."""
        return self.network.scores(_sources(tables))

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.parties.values()))

    def _repr_html_(self) -> str:
        return self.parties[self.label_holder]._repr_html_()


def simulate(
    tables: "Mapping[str, pd.DataFrame | pa.Table]",
    label_holder: str,
    label: str | Sequence[str],
    id: str,
    contract: Mapping[str, Any] = NOTHING,
    own: Mapping[str, Mapping[str, Any]] = NOTHING,
    seed: int | None = None,
    folder: Path | str | None = None,
    callbacks: Sequence[Callback] = (),
) -> Simulated:
    """Align, train and evaluate, all parties in this process and on one thread.

    tables: by party; they are not changed. id: the column by which they are aligned. contract: what to change
    of run.toml; otherwise its defaults, ids as integers or text, and alignment by plain hashes, which is
    exact, fast, and here tells nobody anything. own: by party, what to change of its party.toml, such as
    `{"logistics": {"data": {"id": "mail"}, "evaluation": {...}}}`. seed: the same gives the same bits, order
    of rows, split and weights included; None draws one. folder: a new one, or one of earlier
    simulations, for what each party's process would leave; None: it is gone at the end. callbacks: hear what
    the label holder's process tells.

    Raises ConfigError with every fault, one a line, and what a run raises.
    """
    sources = _sources(tables)
    _refuse_misfits(sources, label_holder, contract, own)
    with ExitStack() as stack:
        told = stack.enter_context(hearing(callbacks))
        if folder is None:
            root = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="party-")))
        else:
            root = _kept(Path(folder))
        drawn = Drawn(seed)
        pins = _identities(root, tables)
        shared = {
            "version": 1,
            "name": "simulated",
            "seed": drawn.public,
            "label_holder": label_holder,
            "parties": {name: {"key": pin} for name, pin in pins.items()},
            "ids": {"type": _id_type(sources, id, own)},
            "psi": {"protocol": "insecure-hash", "allow_insecure": True},
        }
        shared = _merged(shared, contract)
        configs, faults = {}, dict[str, None]()
        for name, source in sources.items():
            private = _merged(_private(root, name, label_holder, label, id), own.get(name, NOTHING))
            try:
                configs[name] = combined(Path(f"own[{name}]"), private, Path("contract"), shared, source)
            except ConfigError as error:
                faults |= dict.fromkeys(str(error).splitlines())
        if faults:
            raise ConfigError("\n".join(faults))
        stack.enter_context(single_threaded())
        for name, config in configs.items():
            stack.enter_context(locked(config.party.storage, name))
        summaries = _run(configs, drawn, told)
        if folder is not None:
            for name, config in configs.items():
                leave_page(config, summaries[name], told.say)
        return _results(configs, summaries, label_holder, keep=folder is not None)


def _refuse_misfits(
    sources: Mapping[str, InMemory], label_holder: str, contract: object, own: Mapping[str, Any]
) -> None:
    """What the validation of both documents would not say in the caller's words. Raises ConfigError."""
    for key, name in [("label_holder", label_holder), *(("own", name) for name in own)]:
        if name not in sources:
            raise ConfigError(f"{key}: {name!r} has no table; there are {', '.join(sorted(sources))}")
    for key, value in [("contract", contract), *((f"own[{name}]", one) for name, one in own.items())]:
        if not isinstance(value, Mapping):
            raise ConfigError(
                f"{key}: must be a dict of tables, as in the file, such as {{'training': {{}}}}"
            )
    for name, one in own.items():
        data = one.get("data")
        for key in ("file", "query", "database"):
            if isinstance(data, Mapping) and key in data:
                raise ConfigError(f"own[{name}]: data.{key}: its rows are those of `tables`; remove it")


class Drawn:
    """All that is drawn in a run, from one seed."""

    def __init__(self, seed: int | None) -> None:
        self._seed = os.urandom(32) if seed is None else str(seed).encode()
        self.public = int.from_bytes(self.of("public")[:7], "big") if seed is None else seed

    def of(self, purpose: str) -> bytes:
        return hmac.digest(self._seed, purpose.encode(), "sha256")

    def fresh(self, party: str) -> Random:
        """What a process takes from the operating system: nothing here is a secret."""
        return random.Random(self.of(f"fresh of {party}")).randbytes  # noqa: S311


def _sources(tables: "Mapping[str, pd.DataFrame | pa.Table]") -> dict[str, InMemory]:
    if not isinstance(tables, Mapping) or not all(isinstance(name, str) for name in tables):
        raise ConfigError("tables: must be a dict of tables by the party's name")
    return {name: InMemory(table, f"table of {name}") for name, table in tables.items()}


def _kept(folder: Path) -> Path:
    """A folder for simulations: a party's own, with its secret and its keys, is not to be written over."""
    folder = folder.expanduser().absolute()
    if folder.exists() and not folder.is_dir():
        raise StorageError(f"{folder}: is no folder; name a new one")
    if folder.exists() and any(folder.iterdir()) and not (folder / SIGN).exists():
        raise StorageError(f"{folder}: holds other things than simulations; name a new folder")
    write(
        folder / SIGN, b"The parties in this folder were simulated, and their keys are known to everybody.\n"
    )
    return folder


def _identities(root: Path, names: Iterable[str]) -> dict[str, str]:
    """Write certificates; returns what the contract pins. The keys are always the same, as the contract's
    digest, and so the common order of the users, depends on them; they guard nothing."""
    certs.issue(root / "certs", names, force=True, key_of=_key)
    return {name: pin_of(root / "certs" / f"{name}.pem") for name in names}


def _key(name: str) -> ec.EllipticCurvePrivateKey:
    number = int.from_bytes(hashlib.sha256(f"simulated {name}".encode()).digest(), "big")
    return ec.derive_private_key(number % (ORDER - 1) + 1, ec.SECP256R1())


def _private(root: Path, name: str, label_holder: str, label: str | Sequence[str], id: str) -> dict[str, Any]:
    """A party.toml; nobody listens at its address."""
    holds, certificates = name == label_holder, root / "certs"
    wanted = label if isinstance(label, str) else [*label]
    return {
        "party": name,
        "contract": "contract",
        "storage": str(root / name),
        "data": {"id": id} | ({"label": wanted} if holds else {}),
        "tls": {
            "ca": str(certificates / "ca.pem"),
            "certificate": str(certificates / f"{name}.pem"),
            "key": str(certificates / f"{name}.key"),
        },
        "link": {"listen" if holds else "hub": "127.0.0.1:1"},
    }


def _id_type(sources: Mapping[str, InMemory], id: str, own: Mapping[str, Mapping[str, Any]]) -> str:
    """ "integer" where all parties' ids are of such a type."""
    for name, source in sources.items():
        column, schema = own.get(name, NOTHING).get("data", NOTHING).get("id", id), source.schema()
        held = isinstance(column, str) and column in schema.names
        if held and not pa.types.is_integer(schema.field(column).type):
            return "string"
    return "integer"


def _merged(tables: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Table by table; what is no table, and `ids`, which may have other keys, replaces what was there."""
    return dict(tables) | {
        key: _merged(tables[key], value)
        if isinstance(value, Mapping) and isinstance(tables.get(key), Mapping) and key != "ids"
        else value
        for key, value in changes.items()
    }


def _run(configs: Mapping[str, Config], drawn: Drawn, told: Told) -> dict[str, dict[str, Any]]:
    rounds = {}
    for name, config in configs.items():
        for folder in under_any_contract(config):
            forget(folder)
        write(config.party.storage / "secret", drawn.of(f"secret of {name}"))
        holds = config.role == "label holder"
        prepared, unfinished = prepare(config), Unfinished.of(config, described(config))
        say = told.say if holds else lambda line: None
        running = complete_run(prepared, unfinished, random=drawn.fresh(name), say=say)
        rounds[name] = mapped(running, partial(_hears, told)) if holds else running
    ends = together(rounds, transcript=False).results
    summaries = {}
    for name, end in ends.items():
        if isinstance(end, PartyError):
            raise end
        summaries[name] = end
    return summaries


def _hears(told: Told, word: Round) -> Generator[Round, Any, Any]:
    answer = yield word
    if isinstance(word, Progress):
        told(word, answer)
    return answer


def _results(
    configs: Mapping[str, Config], summaries: Mapping[str, dict[str, Any]], label_holder: str, keep: bool
) -> Simulated:
    results, models = {}, {}
    for name, summary in summaries.items():
        config = configs[name]
        folder = run_folder(config.party.storage, config.contract.name, bytes.fromhex(summary["run"]), name)
        results[name] = Result(summary, folder if keep else None, scores_in(folder))
        models[name] = model(config, folder)
    leading = models[label_holder]
    network = Network(
        {
            name: Part(models[name].pipeline, models[name].bottom(b""), configs[name].party.data.bags)
            for name in (label_holder, *leading.config.feature_holders)
        },
        leading.top(b""),
        leading.target(),
    )
    return Simulated(results, label_holder, network)
