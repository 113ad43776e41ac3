"""What `party check` found, for people."""

from shutil import get_terminal_size
from textwrap import fill
from typing import Any, Final

from parties.check import Findings
from parties.columns.facts import lines
from parties.excluded import told_of_excluded
from parties.label_keys import told_of_delay
from parties.labels import told_of

WIDTH: Final = 110
"""Characters of a line."""


def text(found: Findings) -> str:
    """For people: one topic a line, long ones wrapped."""
    facts = [("party", f"{found.party} ({found.role})"), ("contract", found.contract)]
    facts += [("privacy", f"{key}: {value}") for key, value in found.privacy.items()]
    if found.identity:
        facts += [("key", found.identity["key"]), ("certificate", f"until {found.identity['expires']}")]
    if "listen" in found.link:
        facts += [("listen", f"{found.link['listen']}: {'free' if found.link['free'] else 'NOT FREE'}")]
    if "hub" in found.link:
        facts += [("hub", f"{found.link['hub']}: {'answers' if found.link['reachable'] else 'NO ANSWER'}")]
    if found.data:
        facts += _facts_of_data(found.data)
    if found.psi:
        facts += _facts_of_psi(found.psi, sized=bool(found.data))
    facts += [("leakage", one) for one in [*found.examples, *found.serving]]
    facts += [("warning", one) for one in found.identity.get("warnings", [])]
    facts += [("warning", one) for one in found.data.get("warnings", [])]
    shown = [_wrapped(f"{label:<13}", fact) for label, fact in facts]
    if found.data:
        shown += ["", *lines(found.data["columns"])]
    shown += ["", "What a run sends from this machine:", *(_wrapped("  - ", one) for one in found.leaves), ""]
    shown += [f"To mend: {len(found.faults)}" if found.faults else "All is well."]
    shown += [_wrapped("  - ", str(fault)) for fault in found.faults]
    return "\n".join(shown)


def _facts_of_data(data: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("data", f"{data['file']}: {data['rows']:,} rows"),
        *(
            (
                "id",
                f"{kind}: {', '.join(ids['columns'])} ({', '.join(ids['types'])}): {ids['usable']:,} usable; "
                f"dropped: {ids['null']:,} null, {ids['blank']:,} blank, "
                f"{ids['duplicate']:,} duplicate"
                + (" (the first row of each id counts)" if ids["duplicate"] else "")
                + (f"; {ids['further']:,} further examples of these ids" if ids["further"] else ""),
            )
            for kind, ids in data["ids"].items()
        ),
        *([("label", told_of(data["label"]))] if data["label"] else []),
        *([("delay", told_of_delay(data["delay"]))] if "delay" in data else []),
        ("pin", f'for [parties] of run.toml, to refuse a table of other columns: columns = "{data["pin"]}"'),
        *([("excluded", told_of_excluded(data["excluded"]))] if "excluded" in data else []),
    ]


def _facts_of_psi(psi: dict[str, Any], sized: bool) -> list[tuple[str, str]]:
    """sized: is it known how many ids there are? Without, no cost is."""
    facts = [] if psi["protocol"] in psi["protocols"] else [("psi", f"{psi['protocol']}: of these")]
    for name, one in psi["protocols"].items():
        size = one["bytes_hidden" if psi["hide_sizes"] else "bytes"] / 1e6
        filled, alike = "all sets are filled up to psi.at_most", "all have as many ids as you"
        assumed = filled if psi["hide_sizes"] else alike
        if not one["secure"]:
            facts.append(("warning", f"{name} hides nothing: whoever guesses an id finds it"))
        facts += [("psi", f"{name}: {one['maturity']}"), ("", f"leakage: {one['leakage']}")]
        if sized:
            facts.append(("", f"cost: {one['cost']}: {size:,.1f} MB on all wires if {assumed}"))
    ratio = f", at most {psi['largest_ratio']:g} times the smallest set" if psi["largest_ratio"] else ""
    hidden = "hidden" if psi["hide_sizes"] else "told"
    return [*facts, ("caps", f"at most {psi['at_most']:,} ids a party{ratio}; sizes are {hidden}")]


def _wrapped(label: str, fact: str) -> str:
    rest = " " * len(label)
    return fill(
        fact,
        min(WIDTH, get_terminal_size().columns),
        initial_indent=label,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
