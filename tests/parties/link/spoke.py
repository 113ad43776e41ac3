"""A feature holder in a process of its own, to be killed or frozen: FOLDER NAME PORT OTHERS...

It talks with the hub until the end of time.
"""

import sys
from pathlib import Path

from parties.certs import load
from parties.dial import Spoke
from parties.limits import Limits
from protos.rounds import Receive, Rounds, Send


def chatter() -> Rounds[None]:
    while True:
        yield Send("platform", "ping", bytes(1000))
        yield Receive("platform", "pong", 1000)


folder, name, port = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
identity = load(folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key", name)
with Spoke(identity, "platform", f"127.0.0.1:{port}", sys.argv[4:], Limits(silence=3.0, away=10.0)) as spoke:
    spoke.open(20)
    print("open", flush=True)
    spoke.drive(chatter())
