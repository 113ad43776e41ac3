"""`party status`: what this party's process is doing, or what the last one left."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from parties.config import Config
from parties.storage import is_locked
from parties.watch import EVERY, status_file

STALE = 10 * EVERY
"""Seconds after which a process that lives should have written."""


def status(config: Config) -> dict[str, Any]:
    """state: `running`, `frozen` (it holds the lock and has not written for ten seconds), `ended` (see
    `end`), `died` (without a word), `none` (nothing was ever started here). The rest is as the process last
    wrote it; a file that was damaged counts as not there. serves: does a `party serve` run beside it?
    """
    try:
        found = _look(config, json.loads(status_file(config).read_bytes()))
        text(found)  # can it be told?
        return found
    except (ArithmeticError, AttributeError, LookupError, OSError, RecursionError, TypeError, ValueError):
        return _look(config, {})


def _look(config: Config, written: dict[str, Any]) -> dict[str, Any]:
    storage, name = config.party.storage, config.name
    held = is_locked(storage, name)
    age = time.time() - _seconds(written["updated"]) if written else None
    if held:
        state = "running" if age is not None and age < STALE and written["end"] is None else "frozen"
    elif written:
        state = "ended" if written["end"] is not None else "died"
    else:
        state = "none"
    return {
        "state": state,
        "seconds_old": None if age is None else round(max(age, 0.0), 1),
        **written,
        "results": _newest(storage.glob(f"{config.contract.name}-*/{name}/summary.json")),
        "serves": is_locked(storage, f"{name}.serve"),
        "unfinished": _newest(storage.glob(f"{config.contract.name}-*-unfinished/{name}/*")),
    }


def text(found: dict[str, Any]) -> str:
    """For people: one topic a line."""
    if "party" not in found:
        none = "nothing was started here yet"
        lines = [("state", none if found["state"] == "none" else "its process has told nothing yet")]
    else:
        lines = [
            (
                "party",
                f"{found['party']} ({found['role']}), party {found['command']}, process {found['pid']}",
            ),
            ("state", _state(found)),
            ("phase", _phase(found)),
            *((peer, _peer(seen)) for peer, seen in found["peers"].items()),
            ("traffic", _traffic(found)),
            ("checkpoints", f"{found['checkpoints']} written"),
        ]
    if found["serves"]:
        lines.append(("serves", "a `party serve` runs; its metrics and its log tell more"))
    lines += [(key, found[key]) for key in ("unfinished", "results") if found[key] is not None]
    return "\n".join(f"{label:<13}{fact}" for label, fact in lines)


def _state(found: dict[str, Any]) -> str:
    since, old = found["began"][:19].replace("T", " "), found["seconds_old"]
    match found["state"]:
        case "running":
            return f"running since {since} UTC"
        case "frozen":
            return f"frozen: its process lives, and has told nothing for {old:.0f} s"
        case "died":
            return f"died {old:.0f} s ago without a word; start the same command again to go on"
    end = found["end"]
    said = f": {end['message']}" if "message" in end else ""
    return f"ended {old:.0f} s ago, exit code {end['exit_code']}{said}"


def _phase(found: dict[str, Any]) -> str:
    of = f" of {found['of']:,}" if found["of"] else ""
    step = f", step {found['step']:,}{of}" if found["step"] or found["of"] else ""
    seconds = _seconds(found["updated"]) - _seconds(found["phase_began"])
    return f"{found['phase']}{step}, for {seconds:,.0f} s"


def _peer(seen: dict[str, Any]) -> str:
    again = f", {seen['reconnects']} reconnects" if seen["reconnects"] else ""
    when = seen["last_seen"][11:19]
    return f"{'connected' if seen['connected'] else 'away'}, last seen {when} UTC, {_traffic(seen)}{again}"


def _traffic(counted: dict[str, Any]) -> str:
    return f"{counted['bytes_sent'] / 1e6:,.1f} MB out, {counted['bytes_received'] / 1e6:,.1f} MB in"


def _newest(paths: Any) -> str | None:
    """The folder of the newest of these files."""
    found: list[tuple[float, Path]] = [(path.stat().st_mtime, path) for path in paths]
    return str(max(found)[1].parent) if found else None


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).astimezone(UTC).timestamp()
