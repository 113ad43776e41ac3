"""What may wait unread is what the contract's protocols need: enough for the largest, and little more."""

import math
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import psi
from parties import certs
from parties.certs import Identity, load
from parties.contract import Contract
from parties.dial import Spoke
from parties.hub import Hub
from parties.limits import MOST_ROOM, Limits
from parties.phases import plan_of
from parties.room import OTHER, to_align, to_run
from parties.wire import Wire
from protos.line import CHUNK, FRAME_COST
from protos.rounds import Receive, RemoteProtocolError, Rounds, RoundsError, Send
from psi.buckets import LARGEST
from splitnn.schedule import split_rows
from splitnn.schedules import SCHEDULES
from splitnn.window import MOST_UNANSWERED

NAMES = ("platform", "logistics")
ALL = {name: psi.load(name) for name in psi.installed()}
WINDOW = Limits.window


@pytest.fixture(scope="module")
def identities(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Identity]:
    folder: Path = tmp_path_factory.mktemp("certs")
    certs.issue(folder, NAMES)
    return {
        name: load(folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key", name) for name in NAMES
    }


def contract(identities: dict[str, Identity], **more: Any) -> Contract:
    content = {
        "version": 1, "name": "room", "seed": 1, "label_holder": "platform", "ids": {"type": "email"},
        "parties": {name: {"key": identities[name].fingerprint} for name in NAMES},
    }  # fmt: skip
    return Contract.model_validate(content | more)


def test_enough_for_every_protocol_and_not_twice_as_much(identities: dict[str, Identity]) -> None:
    for at_most in (1000, LARGEST, 10_000_000, 1 << 30):
        agreed = contract(identities, psi={"at_most": at_most})
        for name, protocol in ALL.items():
            needed = protocol.unread(min(at_most, LARGEST))
            room = to_align(agreed, {name: protocol})
            assert needed + FRAME_COST * (2 + needed // CHUNK) <= room <= max(WINDOW, needed + OTHER)
        assert to_align(agreed, ALL) == max(to_align(agreed, {name: one}) for name, one in ALL.items())
        assert to_align(agreed, ALL) <= Limits().inbox


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("several", [False, True])
def test_enough_for_training(identities: dict[str, Identity], schedule: str, several: bool) -> None:
    agreed = contract(
        identities,
        psi={"at_most": 100_000},
        training={"schedule": schedule, "batch": 4096},
        model={"cut": 256},
        evaluation={"validation": 0.3, "test": 0.2},
        examples={"per_entity": "several", "at_most": 200_000} if several else {},
    )
    plan, most = plan_of(agreed), SCHEDULES[schedule].most_bytes_unanswered
    aligning, room = to_align(agreed, ALL), to_run(agreed, ALL)
    assert room < MOST_ROOM
    for rows in (20, 5_000, 100_000):
        needed = most(plan, split_rows(rows, 0.3, 0.2, b"seed"))
        assert aligning + min(needed, MOST_UNANSWERED) + 4 * 100_000 * several <= room
    if not several:
        assert room <= aligning + math.ceil(1.001 * needed)


@pytest.mark.parametrize("more", [0, 1], ids=["all", "more"])
def test_the_largest_messages_pass_unread_and_more_does_not(
    identities: dict[str, Identity], more: int
) -> None:
    """The intersection's and an activation of 32 MiB, to a party that does not look before all is here."""
    agreed = contract(identities, model={"cut": 64}, training={"batch": 1 << 17})
    protocols = {"dh": ALL["dh"]}
    room = to_run(agreed, protocols)
    plan, rows = plan_of(agreed), split_rows(1_000_000, 0.15, 0.15, b"")
    sizes = [protocols["dh"].unread(1_000_000), SCHEDULES["exact"].most_bytes_unanswered(plan, rows)]
    sizes += [OTHER] * more
    assert sizes[1] > 32 << 20
    arrived = threading.Event()

    def sender() -> Rounds[None]:
        for size in sizes:
            yield Send("platform", "large", bytes(size))
        yield Receive("platform", "thanks", 0)

    def receiver() -> Rounds[list[int]]:
        arrived.wait(30)
        got = []
        for size in sizes:
            got.append(len((yield Receive("logistics", "large", size))))
        yield Send("logistics", "thanks", b"")
        return got

    ends: dict[str, Any] = {}

    def send(port: int) -> None:
        try:
            with Spoke(identities["logistics"], "platform", f"127.0.0.1:{port}") as spoke:
                spoke.open(10)
                spoke.drive(sender())
        except RoundsError as error:
            ends["logistics"] = error

    pins = {"logistics": identities["logistics"].fingerprint}
    with Hub(identities["platform"], "127.0.0.1:0", pins, Limits(inbox=room)) as hub:
        hub.open()
        thread = threading.Thread(target=send, args=(hub.port,))
        thread.start()
        hub.wait_for_peers(10)
        wire = hub._wires["logistics"]
        threading.Thread(target=lambda: (came(wire, sum(sizes)), arrived.set())).start()
        if more:
            with pytest.raises(RemoteProtocolError, match=f"more than the {room} bytes that may wait here"):
                hub.drive(receiver())
        else:
            assert hub.drive(receiver()) == sizes
    thread.join(10)
    assert bool(ends) == bool(more)


def came(wire: Wire, size: int) -> None:
    deadline = time.monotonic() + 25
    while wire.received < size and wire.verdict is None and time.monotonic() < deadline:
        time.sleep(0.01)
