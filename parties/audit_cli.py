"""`party audit`: what left in a run, checked; what it told, tried out afterwards."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from parties.audited import Audited

app = typer.Typer(
    help="What left in a run, checked; what it told, tried out afterwards.", rich_markup_mode=None
)

Run = Annotated[Path, typer.Argument(help="The run's folder, under the storage, of this party.")]
ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="This party's party.toml.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]


@app.command()
def verify(
    log: Annotated[Path, typer.Argument(help="An audit.jsonl, in a run's folder under the storage.")],
    peer: Annotated[Path | None, typer.Option(help="A peer's audit.jsonl of the same run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """Check a log's chain and totals, and compare them with a peer's."""
    from parties.audit import compare, read
    from parties.errors import AccountError

    ours = read(log)
    differences = [] if peer is None else compare(ours, read(peer))
    if as_json:
        typer.echo(json.dumps(ours.described() | {"differences": differences}, indent=2))
    else:
        typer.echo(f"run {ours.run[:12]}, {ours.party}: {ours.messages} messages, {ours.size} bytes left")
        typer.echo(f"chain whole, last link {ours.head.hex()}")
        for name, one in ours.attempts.items():
            typer.echo(f"attempt {name[:12]}: {one.end or 'killed, or cut off'}")
        if ours.torn:
            typer.echo(f"an unfinished line of {ours.torn} bytes at the end: the process was killed in it")
        if peer is not None and not differences:
            typer.echo(f"adds up with {peer}")
    if differences:
        raise AccountError("\n".join(differences))


@app.command()
def completion(
    run: Run,
    labels: Annotated[Path, typer.Option(help="CSV or Parquet: ids, and a label of each.", exists=True)],
    label: Annotated[str | None, typer.Option(help="The label's column, if there are others.")] = None,
    known: Annotated[int | None, typer.Option(help="Labels told to the attack, 100 if there are.")] = None,
    config: ConfigFile = Path("party.toml"),
    as_json: Json = False,
) -> None:
    """At a feature holder: labels that its own bottom model tells."""
    from parties.audit_completion import completion
    from parties.config import load
    from parties.finished import finished

    _tell(completion(finished(load(config), run), labels, label, known), as_json)


@app.command()
def inversion(
    run: Run,
    columns: Annotated[
        Path | None, typer.Option(help="At the label holder: ids, and a partner's columns.", exists=True)
    ] = None,
    partner: Annotated[str | None, typer.Option(help="Whose columns, if there are several partners.")] = None,
    known: Annotated[int | None, typer.Option(help="Users told to the attack, 500 if there are.")] = None,
    config: ConfigFile = Path("party.toml"),
    as_json: Json = False,
) -> None:
    """Columns that activations tell: a partner's, at the label holder; else one's own."""
    from parties.audit_inversion import inversion
    from parties.config import load
    from parties.finished import finished

    _tell(inversion(finished(load(config), run), columns, partner, known), as_json)


def _tell(found: "Audited", as_json: bool) -> None:
    typer.echo(json.dumps(found.record, indent=2) if as_json else "\n".join(found.lines))
