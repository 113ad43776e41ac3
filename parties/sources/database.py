"""Which database a query is for; its URL, with a password, stands in no configuration."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from parties.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import URL


def faults_of_place(data: Mapping[str, Any]) -> Iterator[str]:
    """What the keys that say where rows are only say together."""
    database = data.get("database")
    if "file" in data and "query" in data:
        yield "data.query: not beside data.file; remove one of them"
    elif "query" in data and database is None:
        yield 'data.database: missing; say where the query is sent, such as { env = "DATABASE_URL" }'
    elif "file" not in data and "query" not in data:
        yield "data.file: missing; please add it"
    if database is not None and "query" not in data:
        yield "data.database: is for data.query; remove it"
    if isinstance(database, dict) and len(database) != 1:
        yield "data.database: must be one of env, file and sqlite"


class Database(NamedTuple):
    """One of: the environment variable or the file that holds the URL, or a SQLite file. `str` tells where it
    is said, and nothing of what is said there."""

    env: str | None = None
    file: Path | None = None
    sqlite: Path | None = None

    def __str__(self) -> str:
        return f"${self.env}" if self.env else str(self.file or self.sqlite)

    def url(self) -> "URL":
        """Raises ConfigError."""
        from sqlalchemy import URL, make_url

        if self.sqlite is not None:  # not made, where it is not there; not written to
            file = f"file:{quote(str(self.sqlite))}"
            return URL.create("sqlite", database=file, query={"mode": "ro", "uri": "true"})
        text = self._text()
        if len(text.splitlines()) > 1:
            raise ConfigError(f"{self}: holds several lines; write the database's URL and nothing else")
        try:
            url = make_url(text)
        except Exception:  # it quotes the text
            raise ConfigError(
                f"{self}: holds no URL of a database; such as postgresql://user:password@host:5432/name"
            ) from None
        if url.get_backend_name() == "sqlite":
            raise ConfigError(f"{self}: names a SQLite file; name it in data.database.sqlite")
        if url.get_backend_name() in ("postgresql", "postgres"):
            url = url.set(drivername="postgresql+psycopg")
            if "connect_timeout" not in url.query:
                url = url.update_query_dict({"connect_timeout": "10"})
        return url

    def _text(self) -> str:
        if self.env is not None:
            if not (text := os.environ.get(self.env, "").strip()):
                raise ConfigError(f"data.database.env: {self} is not set; set it to the database's URL")
            return text
        assert self.file is not None
        try:
            return self.file.read_text().strip()
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"data.database.file: {self.file} cannot be read as text") from None
