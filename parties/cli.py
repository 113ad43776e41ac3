"""`party` and its commands; those of two words are in files of their own, such as `certs_cli.py`.

Everything heavy is imported inside the command that needs it, so that `party --help` answers at once.
"""

import json
import signal
import sys
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from parties.audit_cli import app as audit_app
from parties.certs_cli import app as certs_app
from parties.models_cli import app as models_app
from parties.psi_cli import app as psi_app
from parties.report_cli import report

if TYPE_CHECKING:
    from collections.abc import Callable

    from parties.json_log import JsonLog
    from parties.progress import Bars

app = typer.Typer(
    name="party",
    help="Several companies train one model on the users they share; every row stays at home.",
    add_completion=False,
    rich_markup_mode=None,
)
app.add_typer(certs_app, name="certs")
app.add_typer(psi_app, name="psi")
app.add_typer(audit_app, name="audit")
app.add_typer(models_app, name="models")
app.command()(report)

ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="This party's party.toml.")]


TrainedRun = Annotated[
    str | None,
    typer.Option(
        "--run", help="A run's folder, or the beginning of its id; default: what serves, or the newest."
    ),
]


class LogFormat(Enum):
    """What `party run` shows on stderr: bars and lines for people, or a JSON object a line."""

    bars = "bars"
    json = "json"


Log = Annotated[LogFormat, typer.Option("--log", help="On stderr: bars, or a JSON object a line.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable: one JSON document on stdout.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"party {version('vertical-parties')}")
        raise typer.Exit


@app.callback()
def party(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of `party` itself."""


@app.command()
def init(
    name: Annotated[str, typer.Argument(help="This party's name, such as logistics.")],
    label_holder: Annotated[
        bool, typer.Option("--label-holder", help="This party holds the label, and the others dial in to it.")
    ] = False,
    folder: Annotated[Path, typer.Option(help="Where to write.")] = Path(),
    file: Annotated[Path | None, typer.Option(help="This party's table.")] = None,
    id_column: Annotated[str | None, typer.Option("--id", help="The column with the ids.")] = None,
    label: Annotated[str | None, typer.Option(help="The column to predict (label holder).")] = None,
    certs: Annotated[
        Path | None, typer.Option(help="A folder that `party certs` wrote; its keys go into run.toml.")
    ] = None,
    hub: Annotated[str | None, typer.Option(help="Where the label holder listens (the others).")] = None,
) -> None:
    """Write a commented party.toml and run.toml."""
    import secrets

    from parties.init import init

    written = init(
        folder,
        name,
        label_holder=label_holder,
        seed=secrets.randbits(32),
        file=file,
        id_column=id_column,
        label=label,
        certs=certs,
        hub=hub,
    )
    for path in written:
        typer.echo(f"wrote {path}")
    if len(written) == 1:
        typer.echo(f"kept  {folder / 'run.toml'}")
    agree = (
        "the same run.toml for all parties, and to each ca.pem and its own certificate and key"
        if certs is not None
        else "one run.toml for all: one of you edits it, with each party's key, and the others put it in\n"
        "place of theirs; certificates (`party certs` makes some for a trial); your file and columns into\n"
        "party.toml"
    )
    typer.echo(f"Next: {agree}; then `party check -c {folder / 'party.toml'}`.")


@app.command()
def check(config: ConfigFile = Path("party.toml"), as_json: Json = False) -> None:
    """Try config, data, certificate and hub; say what will leave."""
    from parties.check import check
    from parties.check_text import text
    from parties.config import load
    from parties.errors import exit_code

    found = check(load(config))
    typer.echo(json.dumps(found.as_json(), indent=2) if as_json else text(found))
    for fault in found.faults:
        print(f"party: {fault}", file=sys.stderr)
    if found.faults:
        raise typer.Exit(exit_code(found.faults[0]))


@app.command()
def run(
    config: ConfigFile = Path("party.toml"),
    afresh: Annotated[
        bool, typer.Option("--afresh", help="Drop what an interrupted run has left; begin a new one.")
    ] = False,
    tensorboard: Annotated[
        Path | None, typer.Option(help="A folder for TensorBoard: scalars of each epoch, as it ends.")
    ] = None,
    as_json: Json = False,
    log: Log = LogFormat.bars,
) -> None:
    """Meet the other parties, align, train and evaluate; or go on with what was interrupted."""
    from parties.config import load

    loaded = load(config)
    with _display(log) as display:
        from parties.tensorboard import recorded
        from parties.train import run_party

        with recorded(tensorboard, loaded, display) as on_progress:
            summary = run_party(loaded, on_progress, display.say, display.peer, afresh)
    from parties.summary import report

    typer.echo(json.dumps(summary, indent=2) if as_json else report(summary), nl=as_json)


@app.command()
def align(
    config: ConfigFile = Path("party.toml"),
    out: Annotated[
        Path | None, typer.Option(help="A Parquet file for the common ids, in place of the run's folder.")
    ] = None,
    as_json: Json = False,
    log: Log = LogFormat.bars,
) -> None:
    """Only find the common ids, and write them in one order."""
    from parties.config import load

    loaded = load(config, for_training=False)
    with _display(log) as display:
        from parties.align import align_party, said

        summary = align_party(loaded, out, display, display.say, display.peer)
    typer.echo(json.dumps(summary, indent=2) if as_json else said(summary))


@app.command()
def extend(
    config: ConfigFile = Path("party.toml"),
    run: TrainedRun = None,
    afresh: Annotated[
        bool, typer.Option("--afresh", help="Drop what an interrupted one has left; begin anew.")
    ] = False,
    as_json: Json = False,
    log: Log = LogFormat.bars,
) -> None:
    """Add people whom all parties have by now to the users of a model, for `party serve`."""
    from parties.config import load

    loaded = load(config, for_training=False)
    with _display(log) as display:
        from parties.extend import extend_party, said

        summary = extend_party(loaded, run, display, display.say, display.peer, afresh)
    typer.echo(json.dumps(summary, indent=2) if as_json else said(summary))


@app.command()
def predict(
    config: ConfigFile = Path("party.toml"),
    ids: Annotated[
        Path | None,
        typer.Option(
            "--ids",
            "--data",
            help="The rows to score (label holder), or to score them with; default: data.file.",
        ),
    ] = None,
    run: TrainedRun = None,
    afresh: Annotated[
        bool, typer.Option("--afresh", help="Drop what an interrupted prediction has left; begin anew.")
    ] = False,
    as_json: Json = False,
    log: Log = LogFormat.bars,
) -> None:
    """Score new rows with a trained model, together with the other parties."""
    from parties.config import load

    loaded = load(config)
    source = None if ids is None else loaded.newer(ids)
    with _display(log) as display:
        from parties.predict import predict_party, said

        summary = predict_party(loaded, run, source, display, display.say, display.peer, afresh)
    typer.echo(json.dumps(summary, indent=2) if as_json else said(summary))


@app.command()
def serve(
    config: ConfigFile = Path("party.toml"),
    run: TrainedRun = None,
    log: Log = LogFormat.bars,
) -> None:
    """Answer scores (label holder) or the label holder (feature holder), until it is stopped."""
    from parties.config import load

    loaded = load(config, for_training=False)

    def on_fresh(again: "Callable[[], None]") -> None:
        signal.signal(signal.SIGHUP, lambda *_: again())

    with _display(log) as display:
        from parties.serving.serve import serve_party

        serve_party(loaded, run, display.say, on_fresh)


@app.command()
def status(config: ConfigFile = Path("party.toml"), as_json: Json = False) -> None:
    """What this party's process is doing, or did last."""
    from parties.config import load
    from parties.status import status, text

    found = status(load(config, for_training=False))
    typer.echo(json.dumps(found, indent=2) if as_json else text(found))


@app.command()
def ledger(
    config: ConfigFile = Path("party.toml"),
    delta: Annotated[float, typer.Option(min=1e-300, max=0.999, help="At which epsilons are shown.")] = 1e-5,
    as_json: Json = False,
) -> None:
    """What privacy was spent with each partner, over all runs."""
    from dataclasses import asdict

    from parties.charges import text
    from parties.config import load
    from parties.ledger import Ledger

    loaded = load(config, for_training=False)
    own = Ledger(loaded.party.storage, loaded.name, loaded.contract.parties[loaded.name].key)
    totals = own.totals(delta)
    if as_json:
        found = {
            "delta": delta,
            "head": own.head.hex(),
            "partners": [{"key": key, **total._asdict()} for key, total in sorted(totals.items())],
            "charges": [asdict(charge) for charge in own.charges()],
        }
        typer.echo(json.dumps(found, indent=2))
    else:
        typer.echo(text(totals, delta))


@app.command()
def drift(
    config: ConfigFile = Path("party.toml"),
    data: Annotated[Path | None, typer.Option(help="A newer table; by default data.file.")] = None,
    model: Annotated[
        str | None, typer.Option(help="A version; by default the one that serves, else the newest.")
    ] = None,
    watch: Annotated[float, typer.Option(min=0, help="PSI from which a column is to be watched.")] = 0.1,
    alert: Annotated[float, typer.Option(min=0, help="PSI from which it is an alert.")] = 0.25,
    as_json: Json = False,
) -> None:
    """How far this party's columns are from those that a model was trained on."""
    from parties.config import load
    from parties.drift_report import alerts, drift, text

    loaded = load(config, for_training=False)
    source = None if data is None else loaded.newer(data)
    found = drift(loaded, model, source, watch, alert)
    typer.echo(json.dumps(found, indent=2) if as_json else text(found))
    for line in alerts(found):
        typer.echo(f"party: {line}", err=True)


def _display(log: LogFormat) -> "Bars | JsonLog":
    if log is LogFormat.json:
        from parties.json_log import JsonLog

        return JsonLog()
    from parties.progress import Bars

    return Bars()


@app.command()
def demo(
    data: Annotated[
        Path | None, typer.Option(help="A folder with split.json and its CSV, instead of made-up data.")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where they live; replaced if a demo.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Of the data and of the contract.")] = 7,
    people: Annotated[int, typer.Option(min=1000, help="How many the made-up companies share.")] = 100_000,
    only_tables: Annotated[
        bool, typer.Option("--tables", help="Only make their tables, customers.csv in a folder each.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run three companies on this machine, and compare."""
    from parties.demo import demo, table, tables

    if only_tables:
        tables(folder, data, seed, people, say=lambda line: typer.echo(line, err=True))
        return
    summary = demo(folder, data, seed, people, say=lambda line: typer.echo(line, err=as_json))
    typer.echo(json.dumps(summary, indent=2) if as_json else table(summary))
