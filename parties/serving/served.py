"""What is served: a version of the model with its users and this party's rows; and which it is, as versions
are promoted and rolled back, and users added, while `party serve` runs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from parties.certs import Identity
from parties.config import Config
from parties.errors import PartyError
from parties.model import Model, model
from parties.people import digests_of
from parties.promoted import promoted_run
from parties.serving.greeting import Host
from parties.serving.store import Store, users_of
from parties.versions import find
from psi import IdError

EVERY: Final = 2.0
"""Seconds from one look at what is promoted to the next."""


@dataclass(frozen=True)
class Served:
    """users: `users_of` the model."""

    trained: Model
    host: Host
    users: NDArray[np.uint8]
    store: Store

    @classmethod
    def read(cls, config: Config, identity: Identity, folder: Path) -> Self:
        """Raises ConfigError, DataError, IdError, StorageError."""
        trained = model(config, folder)
        users = users_of(config, trained)
        host = Host(identity, config.contract, trained.digest, digests_of(trained, [users])[-1])
        return cls(trained, host, users, Store.read(config, trained, users))

    def __str__(self) -> str:
        return f"the model of run {self.trained.run.hex()[:12]}, digest {self.trained.digest.hex()[:12]}"


class Follow:
    """promotions: follow them, or only the users of this version. put: what is to be served in place of what
    was; it may raise PartyError, and has changed nothing then."""

    def __init__(
        self,
        first: Served,
        promotions: bool,
        put: Callable[[Served], None],
        say: Callable[[str], None],
    ) -> None:
        self._served, self._promotions, self._put, self._say = first, promotions, put, say
        self._now = self._tried = first.trained.run, _additions(first.trained.folder)
        self._said = ""

    def look(self, asked: bool = False) -> None:
        """asked: try also what could not be served before."""
        trained, host = self._served.trained, self._served.host
        try:
            run = (promoted_run(trained.config) if self._promotions else None) or trained.run
            folder = trained.folder if run == trained.run else find(trained.config, run.hex()).folder
            wanted = run, _additions(folder)
            if wanted == self._now or (wanted == self._tried and not asked):
                return
            self._tried = wanted
            served = Served.read(trained.config, host.identity, folder)
            self._put(served)
        except (PartyError, IdError) as error:
            self._tell(f"{error}; the version before goes on serving")
        except Exception as error:
            self._tell(f"cannot be served ({type(error).__name__}); the version before goes on serving")
        else:
            self._served, self._now, self._said = served, wanted, ""
            self._say(f"serves {served} from here on, with {len(served.users):,} users")

    def _tell(self, line: str) -> None:
        if line != self._said:
            self._said = line
            self._say(line)


def _additions(folder: Path) -> int:
    """How many lists of users were added to the run's."""
    return sum(1 for _ in folder.glob("people-*.parquet"))
