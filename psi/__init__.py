"""Private set intersection: ids in, alignment out. No sockets, no torch; `docs/psi.md` explains it.

    ids = normalise([[table["email"]]], ["email"], ["email"], key=contract_digest)
    psi = load("ecdh")
    rows = yield from psi.align(Setting(me, parties, run, at_most), ids.digests)
    table.iloc[ids.rows[rows]]    # the common people, in the same order at every party

A protocol of your own is a class with what `Psi` asks for, named in run.toml as `my_lab.fast_psi:FastPsi`.
"""

from psi.canonical import ID_TYPES, canonical
from psi.estimate import choose
from psi.ids import IdError, Ids, digest_of, normalise
from psi.interface import Engine, Psi, Setting
from psi.registry import DuplicateProtocol, UnknownProtocol, installed, load, protocol

__all__ = [
    "ID_TYPES",
    "DuplicateProtocol",
    "Engine",
    "IdError",
    "Ids",
    "Psi",
    "Setting",
    "UnknownProtocol",
    "canonical",
    "choose",
    "digest_of",
    "installed",
    "load",
    "normalise",
    "protocol",
]
