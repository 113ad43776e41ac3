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
    from psi import installed

    found: list[dict[str, object]] = []
    for name in installed():
        protocol, fault = _loaded(name)
        if protocol is None:
            found.append({"protocol": name, "fault": fault})
            continue
        first, last = protocol.parties[0], protocol.parties[-1]
        found.append(
            {
                "protocol": name,
                "parties": f"{first} to {last}" if last > first else str(first),
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

    loaded = {name: protocol for name in installed() if (protocol := _loaded(name)[0]) is not None}
    fit = {name: protocol for name, protocol in loaded.items() if parties in protocol.parties}
    estimates = {}
    for name, protocol in fit.items():
        typer.echo(f"trying {name} ...", err=True)
        calibration = calibrate(protocol, parties, together, time.perf_counter)
        estimates[name] = expected(protocol, ids, parties, bandwidth, rtt, calibration)
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
        typer.echo(json.dumps({"estimates": rows, "auto": auto}, indent=2))
        return
    typer.echo(
        f"{'protocol':<16}{'seconds':>9}  = {'compute':>8} + {'transfer':>8} + {'wait':>6}{'bytes':>10}"
    )
    for name, one in sorted(estimates.items(), key=lambda each: each[1].seconds):
        typer.echo(f"{name:<16}{_row(one)}{'' if fit[name].secure else '   hides nothing'}")
    others = ", ".join(sorted(loaded.keys() - fit.keys()))
    if others:
        typer.echo(f"not for {parties} parties: {others}")
    typer.echo(f'protocol = "auto" takes {auto}, which sends the fewest bytes')


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

    def say(result: Result) -> None:
        if not as_json:
            typer.echo(f"{result.outcome:<14}  {result.property:<20}  {result.reason or result.measured}")

    report = check(protocol, seed, watch=say)
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


def _paragraph(one: dict[str, object]) -> str:
    name = one.pop("protocol")
    lines = [f"  {key:<9} {value}" for key, value in one.items()]
    return "\n".join([str(name), *lines])


def _row(one: "Estimate") -> str:
    parts = f"{one.computing:>9.1f} + {one.transfer:>8.1f} + {one.waiting:>6.1f}"
    return f"{one.seconds:>9.1f}  = {parts}{_bytes(one.bytes):>10}"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
