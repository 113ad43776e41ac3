"""Writes the pages of the reference from the program: party-toml.md, run-toml.md, commands.md, exit-codes.md.

`make reference` runs it; tests/test_reference.py fails where a page is not what it would write, or where a
key, a command or an option does not say what it is for.
"""

import ast
import inspect
import json
import re
import types
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

import typer
from pydantic.fields import FieldInfo

from parties.cli import app
from parties.contract import Contract
from parties.document import Section
from parties.errors import EXIT_CODES
from parties.party_toml import PartyConfig

HERE = Path(__file__).parent

WRITTEN = "*Written from the program by `make reference`; a test sees to it that it is current.*\n"

PLAIN = {bool: "`true` or `false`", int: "a whole number", float: "a number", str: "a text", Path: "a path"}


class Key(NamedTuple):
    """One key of a TOML file: `data.id`, and all that is said of it."""

    name: str
    kind: str
    default: str
    meaning: str


class Table(NamedTuple):
    """One table of a TOML file."""

    heading: str
    about: str
    keys: list[Key]


def tables(model: type[Section], heading: str = "", before: str = "") -> Iterator[Table]:
    """The tables of a file, the outermost first."""
    hints, said = get_type_hints(model, include_extras=True), docstrings(model)
    keys: list[Key] = []
    inner: list[Table] = []
    for name, field in model.model_fields.items():
        section, place = _section(hints[name]), f"{before}{name}"
        if section is not None and get_origin(field.annotation) is dict:
            place = f"{place}.NAME"
        if section is not None:
            inner += tables(section, f"[{place}]", f"{place}.")
        if section is None or name in said:
            default = "required" if field.is_required() else _written(field.default)
            kind = "tables" if section is not None else words(hints[name], field)
            keys.append(
                Key(f"[{place}]" if section is not None else place, kind, default, said.get(name, ""))
            )
    yield Table(heading, inspect.getdoc(model) or "", keys)
    yield from inner


def _section(hint: Any) -> type[Section] | None:
    """The model of the tables that may stand here: one, one a name, or several."""
    while get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    if get_origin(hint) in (dict, tuple, Union, types.UnionType):
        return next((found for one in get_args(hint) if (found := _section(one))), None)
    return hint if isinstance(hint, type) and issubclass(hint, Section) else None


def docstrings(model: type[Section]) -> dict[str, str]:
    """What stands under each field."""
    [body] = ast.parse(inspect.getsource(model)).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        match (field, text):
            case (ast.AnnAssign(target=ast.Name(name)), ast.Expr(value=ast.Constant(value=str(said)))):
                found[name] = " ".join(said.split())
    return found


def words(hint: Any, field: FieldInfo | None = None) -> str:
    """What may stand there, for people: its type's own description, or type and bounds."""
    kind, args = get_origin(hint), get_args(hint)
    if field is not None and field.description:
        return field.description
    own: Sequence[Any] = field.metadata if field is not None else ()
    if kind is Annotated:
        infos = [one for one in args[1:] if isinstance(one, FieldInfo)]
        described = [info.description for info in infos if info.description]
        own = own or [bound for info in infos for bound in info.metadata]
        return described[-1] if described else words(args[0]) + bounds(own)
    if kind in (Union, types.UnionType):
        return " or ".join(words(one) for one in args if one is not type(None)) + bounds(own)
    if kind is Literal:
        return ", ".join(f"`{one}`" for one in args)
    if kind is tuple:
        return f"a list of {words(args[0]).removeprefix('a ')}{bounds(own)}"
    return PLAIN[hint] + bounds(own)


def bounds(metadata: Sequence[Any]) -> str:
    least = most = ""
    for one in metadata:
        if (ge := getattr(one, "ge", None)) is not None:
            least = f"at least {_number(ge)}"
        if (gt := getattr(one, "gt", None)) is not None:
            least = f"above {_number(gt)}"
        if (le := getattr(one, "le", None)) is not None:
            most = f"at most {_number(le)}"
        if (lt := getattr(one, "lt", None)) is not None:
            most = f"below {_number(lt)}"
        if (longest := getattr(one, "max_length", None)) is not None:
            most = f"at most {longest} of them"
    if least.startswith("at least ") and most.startswith("at most "):
        return f", {least.removeprefix('at least ')} to {most.removeprefix('at most ')}"
    return "".join(f", {one}" for one in (least, most) if one)


def _number(value: float) -> str:
    if value >= 1 << 20 and value == 1 << (int(value).bit_length() - 1):
        return f"2^{int(value).bit_length() - 1}"
    return re.sub(r"^1e\+0?(\d+)$", r"10^\1", f"{value:,g}") if value >= 10**9 else f"{value:,}"


def _written(default: object) -> str:
    if default is None or default == "":
        return "none"
    if isinstance(default, float) and default.is_integer():
        default = int(default)
    return f"`{json.dumps(str(default) if isinstance(default, Path) else default)}`"


def linked(text: str) -> str:
    """`docs/psi.md#ids` as a link that works in this folder; and no bar that would end a cell."""
    text = re.sub(r"docs/([\w-]+\.md)((?:#[\w-]+)?)", r"[\1](\1\2)", text)
    return text.replace("|", "\\|")


def page_of_keys(title: str, about: str, model: type[Section]) -> str:
    parts = [f"# {title}\n", WRITTEN, f"{about}\n"]
    for table in tables(model):
        if table.heading:
            parts.append(f"## `{table.heading}`\n\n{linked(table.about)}\n")
        rows = [
            f"| `{key.name}` | {key.kind} | {key.default} | {linked(key.meaning)} |" for key in table.keys
        ]
        parts.append("\n".join(["| key | value | default | meaning |", "|---|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


class Command(NamedTuple):
    """One command: `psi estimate`, what it does, and its parameters as rows."""

    name: str
    about: str
    arguments: str
    rows: list[tuple[str, str, str, str]]


def commands(group: Any = None, before: str = "party") -> Iterator[Command]:
    """Every command, those of a group after it."""
    here: Any = typer.main.get_command(app) if group is None else group
    arguments, rows = "", []
    for parameter in here.params:
        kind = _kind(parameter)
        default = "required" if parameter.required else _written(_plain(getattr(parameter, "default", None)))
        if isinstance(parameter, typer.core.TyperArgument):
            name = parameter.metavar or parameter.name.upper()
            arguments += f" {name}"
        else:
            name = ", ".join(sorted(parameter.opts + parameter.secondary_opts, key=len))
        if kind == "":
            default = ""
        rows.append((name, kind, default, parameter.help or ""))
    if getattr(here, "commands", None):
        arguments += " COMMAND"
    yield Command(before, here.help or "", arguments, rows)
    for name, command in getattr(here, "commands", {}).items():
        yield from commands(command, f"{before} {name}")


def _kind(parameter: Any) -> str:
    """Nothing for a flag."""
    if getattr(parameter, "is_flag", False):
        return ""
    kind = parameter.type_descriptor.annotation
    several = get_origin(kind) is list
    kind = get_args(kind)[0] if several else kind
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{one.value}`" for one in kind)
    if get_origin(kind) is tuple:
        return " and ".join(PLAIN[one] for one in get_args(kind))
    words = PLAIN[kind]
    least, most = getattr(parameter, "min", None), getattr(parameter, "max", None)
    if least is not None and most is not None:
        words += f", {_number(least)} to {_number(most)}"
    elif least is not None:
        words += f", at least {_number(least)}"
    return f"{words}; one or more" if several else words


def _plain(default: object) -> object:
    return default.value if isinstance(default, Enum) else default


def page_of_commands() -> str:
    parts = ["# Commands\n", WRITTEN]
    parts.append("Every command answers `--help`. What ends one: [exit-codes.md](exit-codes.md)\n")
    for command in commands():
        options = " [OPTIONS]" if any(row[0].startswith("-") for row in command.rows) else ""
        parts.append(f"## `{command.name}`\n\n{linked(command.about)}\n")
        parts.append(f"```\n{command.name}{options}{command.arguments}\n```\n")
        if command.rows:
            rows = [f"| `{row[0]}` | {row[1]} | {row[2]} | {linked(row[3])} |" for row in command.rows]
            parts.append(
                "\n".join(["| option | value | default | meaning |", "|---|---|---|---|", *rows]) + "\n"
            )
    return "\n".join(parts)


def page_of_exit_codes() -> str:
    parts = ["# Exit codes\n", WRITTEN]
    parts.append(
        "Every error is one line on stderr, `party: ` and what is wrong, where, and what to do. With\n"
        '`--json` stdout holds one JSON document: the result, or `{"error": {"class", "message",\n'
        '"exit_code"}}`. `party check` tries everything whether or not something fails, lists `faults`, and\n'
        "ends with the code of the first.\n"
    )
    rows = [(0, "", "it worked")]
    rows += [
        (
            1,
            "",
            "an unforeseen error; the line names a file with its trace, which quotes no data",
        )
    ]
    rows += [(code, f"`{kind.__name__}`", _about(kind)) for kind, code, _ in EXIT_CODES]
    rows.sort(key=lambda row: row[0])
    lines = [f"| {code} | {kind} | {linked(about)} |" for code, kind, about in rows]
    return "\n".join([*parts, "| code | class | meaning |", "|---|---|---|", *lines]) + "\n"


def _about(kind: type[BaseException]) -> str:
    """The first paragraph of a class's docstring."""
    said = (inspect.getdoc(kind) or "").partition("\n\n")[0]
    return " ".join(said.split()) if kind is not KeyboardInterrupt else "the same"


def pages() -> dict[str, str]:
    """Each page by its name in this folder."""
    return {
        "party-toml.md": page_of_keys(
            "party.toml",
            "What a party keeps to itself. How the two files are read, and what several keys mean together:\n"
            "[configuration.md](configuration.md). Paths are relative to the folder of this file.",
            PartyConfig,
        ),
        "run-toml.md": page_of_keys(
            "run.toml",
            "The contract, the same at all parties. How the two files are read, and what several keys mean\n"
            "together: [configuration.md](configuration.md).",
            Contract,
        ),
        "commands.md": page_of_commands(),
        "exit-codes.md": page_of_exit_codes(),
    }


if __name__ == "__main__":
    for name, text in pages().items():
        (HERE / name).write_text(text)
