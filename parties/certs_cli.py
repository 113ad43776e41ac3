"""The command line of identities: `party certs NAME... | verify`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup


class _Group(TyperGroup):
    """`party certs platform logistics` issues: a first word that is no command is a party's name."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args or (args[0] not in self.commands and args[0] != "--help"):
            args = ["issue", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_Group,
    help="Make certificates, or verify your own. `party certs NAME...` is `party certs issue NAME...`.",
    rich_markup_mode=None,
)


@app.command()
def issue(
    names: Annotated[list[str] | None, typer.Argument(help="The parties' names.", metavar="NAME...")] = None,
    folder: Annotated[Path, typer.Option(help="Where to write.")] = Path("certs"),
    host: Annotated[
        str | None, typer.Option(help="A host name or address to put into the certificates.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace certificates that are there.")] = False,
    fingerprint: Annotated[
        Path | None, typer.Option(help="Only print the pin of this certificate.", metavar="FILE")
    ] = None,
) -> None:
    """Make a development CA and one certificate a party."""
    from parties.certs import issue
    from parties.errors import ConfigError
    from parties.own import pin_of

    if fingerprint is not None:
        typer.echo(f'key = "{pin_of(fingerprint)}"')
        return
    if not names:
        raise ConfigError("certs: name the parties, such as `party certs platform logistics`")
    issue(folder, names, host=host, force=force)
    for name in names:
        typer.echo(f'[parties.{name}]\nkey = "{pin_of(folder / f"{name}.pem")}"\n')
    typer.echo(
        f"Wrote {folder}. Each party gets ca.pem, its own .pem and its own .key, and nobody else's .key.",
        err=True,
    )


@app.command()
def verify(
    config: Annotated[Path, typer.Option("--config", "-c", help="This party's party.toml.")] = Path(
        "party.toml"
    ),
    as_json: Annotated[
        bool, typer.Option("--json", help="Machine-readable: one JSON document on stdout.")
    ] = False,
) -> None:
    """Check your own certificate, key and CA: a line a finding."""
    from parties.config import load
    from parties.errors import IdentityError, exit_code
    from parties.verify import verify_own

    found = verify_own(load(config, for_training=False))
    faults = [one for one in found if one.outcome == "fault"]
    if as_json:
        document: dict[str, object] = {"findings": [one._asdict() for one in found]}
        if faults:
            code = exit_code(IdentityError())
            document["error"] = {"class": "IdentityError", "message": faults[0].line, "exit_code": code}
        typer.echo(json.dumps(document, indent=2))
    else:
        for one in found:
            typer.echo(f"{one.outcome:<8} {one.what:<12} {one.line}")
    if faults:
        raise typer.Exit(exit_code(IdentityError()))
