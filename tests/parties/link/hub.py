"""A hub in a process of its own, so that its memory can be looked at: FOLDER WINDOW INBOX

It prints its port, answers `peak` with the most memory that it ever had (bytes), and `run` by an exchange
of words with logistics.
"""

import sys
from pathlib import Path

from parties.certs import load
from parties.hub import Hub
from parties.limits import Limits
from protos.rounds import Receive, Rounds, Send


def answer() -> Rounds[None]:
    yield Send("logistics", "word", (yield Receive("logistics", "word", 10)))


def status(key: str) -> int:
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key)]
    return int(line.split()[1]) << 10


folder, window, inbox = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
own = {
    name: load(folder / "ca.pem", folder / f"{name}.pem", folder / f"{name}.key", name)
    for name in ("platform", "logistics", "advertiser")
}
pins = {name: own[name].fingerprint for name in ("logistics", "advertiser")}
with Hub(own["platform"], "127.0.0.1:0", pins, Limits(window=window, inbox=inbox)) as hub:
    hub.open()
    print(hub.port, flush=True)
    for line in sys.stdin:
        if line == "peak\n":
            print(status("VmHWM"), flush=True)
        else:
            hub.wait_for_peers(20)
            hub.drive(answer())
            break
print("done", flush=True)
