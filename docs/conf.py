"""How Sphinx builds these pages (`make docs`). They are plain Markdown, which a forge shows as well."""

import re
import tomllib
from pathlib import Path

from sphinx.application import Sphinx

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]

project = PROJECT["name"]
version = release = PROJECT["version"]
extensions = ["myst_parser"]
myst_heading_anchors = 4
nitpicky = True
html_theme = "furo"
html_title = f"{project} {version}"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False


def _contents(app: Sphinx, page: str, source: list[str]) -> None:
    """The tables of contents: the links of index.md, heading by heading. A page that is not among them is a
    warning of Sphinx's, and so an error of `make docs`."""
    if page != "index":
        return
    _, *sections = re.split(r"^## (.+)$", source[0], flags=re.MULTILINE)
    for heading, text in zip(sections[::2], sections[1::2], strict=True):
        pages = "\n".join(re.findall(r"^- .*?\]\(([\w-]+)\.md\)", text, re.MULTILINE))
        source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n{pages}\n```\n"


def setup(app: Sphinx) -> None:
    app.connect("source-read", _contents)
