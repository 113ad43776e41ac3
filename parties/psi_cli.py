"""The command line of private set intersection: `party psi list | estimate | conformance`."""

import json
import re
import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

if TYPE_CHECKING:
    from psi import Psi
    from psi.estimate import Estimate

app = typer.Typer(
    help="Private set intersection: what there is, and what it costs.",
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Machine-readable: one JSON document on stdout.")]

BITS: Final = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9}
SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0}


def _bandwidth(text: str) -> float:
    """Bytes a second."""
    given = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([kMG]?)(?:bit/s)?", text)
    if not given or not float(given[1]):
        raise typer.BadParameter("write bits a second, such as 100M or 2.5G")
    return float(given[1]) * BITS[given[2]] / 8


def _rtt(text: str) -> float:
    """Seconds."""
    given = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s)", text)
    if not given:
        raise typer.BadParameter("write a time and its unit, such as 40ms")
    return float(given[1]) * SECONDS[given[2]]


@app.command("list")
def list_protocols(as_json: Json = False) -> None:
    """What is installed: cost, leakage, maturity."""
    from parties.contract import Psi as Agreed
    from psi import installed

    default = Agreed.model_fields["protocol"].default

    found: list[dict[str, object]] = []
    for name in installed():
        protocol, fault = _loaded(name)
        if protocol is None:
            found.append({"protocol": name, "fault": fault})
            continue
        found.append(
            {
                "protocol": name,
                "default": name == default,
                "parties": _how_many(protocol.parties),
                "secure": protocol.secure,
                "cost": protocol.cost,
                "leakage": protocol.leakage,
                "maturity": protocol.maturity,
            }
        )
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    typer.echo("\n\n".join(_paragraph(one) for one in found))
    typer.echo(
        '\nprotocol = "auto" in run.toml takes the secure one with the fewest bytes that all parties have; '
        "`party psi estimate` says which"
    )


@app.command()
def estimate(
    ids: Annotated[int, typer.Option(min=1, help="Ids of each party.")],
    parties: Annotated[int, typer.Option(min=2, max=16, help="How many align.")] = 2,
    bandwidth: Annotated[
        float, typer.Option(parser=_bandwidth, metavar="BITS/S", help="Of each party's line, such as 100M.")
    ] = "1G",  # type: ignore[assignment]  # what the parser gets
    rtt: Annotated[
        float, typer.Option(parser=_rtt, metavar="TIME", help="A message to a party and back, such as 40ms.")
    ] = "1ms",  # type: ignore[assignment]
    as_json: Json = False,
) -> None:
    """Seconds and bytes, after a trial on this machine."""
    import time

    from protos.memory import together
    from psi import choose, installed
    from psi.estimate import calibrate
    from psi.estimate import estimate as expected

    fit: dict[str, Psi] = {}
    estimates: dict[str, Estimate] = {}
    unfit, left_out = [], {}
    for name in installed():
        protocol, fault = _loaded(name)
        if protocol is None:
            left_out[name] = fault
            continue
        try:
            if parties not in protocol.parties:
                unfit.append(name)
                continue
            typer.echo(f"trying {name} ...", err=True)
            calibration = calibrate(protocol, parties, together, time.perf_counter)
            estimates[name] = expected(protocol, ids, parties, bandwidth, rtt, calibration)
            fit[name] = protocol
        except Exception as error:  # whatever a plug-in does, the others are told
            left_out[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    auto = choose([ids] * parties, fit)
    if as_json:
        rows = [
            {
                "protocol": name,
                "secure": fit[name].secure,
                "seconds": round(one.seconds, 3),
                "computing": round(one.computing, 3),
                "transfer": round(one.transfer, 3),
                "waiting": round(one.waiting, 3),
                "bytes": one.bytes,
                "bytes_per_id": round(one.bytes / ids, 1),
                "buckets": one.buckets,
            }
            for name, one in estimates.items()
        ]
        typer.echo(json.dumps({"estimates": rows, "auto": auto, "left_out": left_out}, indent=2))
        return
    typer.echo(
        f"{'protocol':<16}{'seconds':>9}  = {'compute':>8} + {'transfer':>8} + {'wait':>6}   bytes, all wires"
    )
    for name, one in sorted(estimates.items(), key=lambda each: (not fit[each[0]].secure, each[1].seconds)):
        remark = "   <- auto: the fewest bytes" if name == auto else ""
        typer.echo(f"{name:<16}{_row(one)}{remark if fit[name].secure else '   hides nothing'}")
    if unfit:
        typer.echo(f"not for {parties} parties: {', '.join(unfit)}")
    for name, reason in left_out.items():
        typer.echo(f"left out: {name}: {reason}")


@app.command()
def conformance(
    name: Annotated[str, typer.Argument(help="A protocol's name, or module:Class.")],
    seed: Annotated[int, typer.Option(min=0, help="Of all sets and all randomness; repeats a failure.")] = 1,
    as_json: Json = False,
) -> None:
    """Try a protocol against all that it must be."""
    from dataclasses import asdict

    from parties.errors import ConfigError, NotConforming, exit_code
    from psi.conformance import Result, check

    protocol, reason = _loaded(name)
    if protocol is None:
        raise ConfigError(reason)

    def begin(tried: str) -> None:
        typer.echo(f"trying {tried} ...", err=True)

    def say(result: Result) -> None:
        if not as_json:
            typer.echo(f"{result.outcome:<14}  {result.property:<20}  {result.reason or result.measured}")

    report = check(protocol, seed, watch=say, begin=begin)
    if as_json:
        typer.echo(json.dumps({**asdict(report), "conforms": report.conforms}, indent=2))
    if not report.conforms:
        again = f"`party psi conformance {name} --seed {seed}` repeats it"
        fault = NotConforming(f"{name} does not conform: {', '.join(report.failed)}; {again}")
        print(f"party: {fault}", file=sys.stderr)
        raise typer.Exit(exit_code(fault))


def _loaded(name: str) -> "tuple[Psi | None, str]":
    """The protocol, or why there is none."""
    from psi import DuplicateProtocol, UnknownProtocol, load

    try:
        return load(name), ""
    except (UnknownProtocol, DuplicateProtocol) as error:
        return None, str(error)


def _how_many(parties: object) -> str:
    if not isinstance(parties, range) or not parties:
        return f"{parties!r}, which is no range: a fault of the protocol's class"
    return f"{parties[0]} to {parties[-1]}" if len(parties) > 1 else str(parties[0])


def _paragraph(one: dict[str, object]) -> str:
    title = f"{one.pop('protocol')}{'   (the default)' if one.pop('default', False) else ''}"
    if "secure" in one:
        one["secure"] = "yes" if one["secure"] else "NO: needs psi.allow_insecure"
    return "\n".join([title, *(f"  {key:<9} {value}" for key, value in one.items())])


def _row(one: "Estimate") -> str:
    parts = f"{_seconds(one.computing):>8} + {_seconds(one.transfer):>8} + {_seconds(one.waiting):>6}"
    return f"{_seconds(one.seconds):>9}  = {parts}{_bytes(one.bytes):>19}"


def _seconds(count: float) -> str:
    return f"{count:.2g}" if 0.0001 <= count < 1 else f"{count:.1f}"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
