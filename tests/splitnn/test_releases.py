"""What left, over all attempts at a run: never less than how often a row left with noise of its own."""

from collections import Counter, defaultdict
from dataclasses import replace

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from splitnn.plan import Plan
from splitnn.releases import KINDS, Release, Released, Times, planned, releases
from splitnn.schedule import Split, batches, chunks
from splitnn.stopping import is_judged

ROWS = Split(torch.arange(50), torch.arange(50, 60), torch.arange(60, 70))
PLAN = Plan(b"public", batch=20, epochs=4, every=2)
STEPS = 3


def test_what_is_planned() -> None:
    plan = replace(PLAN, epochs=7, importance="columns")
    assert planned(plan, ROWS) == Times(7, 4, 1, 1)
    assert planned(plan, ROWS, 3) == Times(3, 1, 1, 1)
    assert releases(ROWS, planned(plan, ROWS)) == 7
    assert releases(ROWS, planned(plan, ROWS, 3)) == 3
    assert releases(ROWS, planned(plan, ROWS, 3), groups=2) == 21
    assert releases(ROWS, planned(replace(plan, importance="parties"), ROWS, 0), groups=2) == 1
    several = ROWS._replace(train=torch.tensor([0, 1, 1, 1, 2]))
    assert releases(several, planned(plan, several)) == 21


Attempt = tuple[int, int, int, int]
"""After which epoch it goes on, if an earlier attempt came so far; messages that leave; the epoch after which
training stops; from which message on its noise is another than the run's: it came to other gradients."""

ATTEMPTS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 25), st.integers(1, 4), st.integers(0, 30)), max_size=5
)


def messages(resumed: int, stops: int) -> list[tuple[str, int, list[int]]]:
    """Kind, epoch and rows of all that leaves after an epoch, with one column measured."""
    said = []
    for epoch in range(resumed + 1, stops + 1):
        order = batches(len(ROWS.train), PLAN.batch, PLAN.seed, epoch)
        said += [("activation", epoch, batch.tolist()) for batch in order]
        if is_judged(PLAN, ROWS, epoch):
            said += [("validation", epoch, chunk.tolist()) for chunk in chunks(ROWS.validation)]
    return [*said, *(("test", 0, chunk.tolist()) for chunk in chunks(ROWS.test))]


@settings(deadline=None)
@given(ATTEMPTS)
def test_no_row_left_more_often_than_is_counted(attempts: list[Attempt]) -> None:
    noted: list[Release] = []
    truly: defaultdict[int, set[bytes]] = defaultdict(set)
    undisturbed, furthest = True, 0
    for number, (resumed, sent, stops, other) in enumerate(attempts):
        resumed = min(resumed, furthest)
        released = Released(PLAN, ROWS, resumed, [*noted], noted.append)
        reserved = released.most()
        for place, (kind, epoch, rows) in enumerate(messages(resumed, max(stops, resumed))[:sent]):
            changed = place >= other
            noise = f"{kind} {epoch} {rows} {number if changed else ''}".encode()
            undisturbed = undisturbed and not changed
            for row in rows:
                truly[row].add(noise)
            released.draw(noise)
            release = released.next(kind)
            if release is None:
                continue
            if released.is_again(release):
                reserved = released.most(release)
            released.add(release)
            furthest = max(furthest, epoch - 1)
            assert all(left <= most for left, most in zip(released.left(), reserved, strict=True))
        assert released.most() == reserved
        counted = released.left()
        most = max((len(noises) for noises in truly.values()), default=0)
        assert most <= releases(ROWS, counted)
        assert Released(PLAN, ROWS, 0, noted).left() == counted
        if undisturbed:
            assert all(left <= n for left, n in zip(counted, planned(PLAN, ROWS), strict=True))


def test_without_noise_what_is_done_again_is_taken_to_be_the_same() -> None:
    released = Released(PLAN, ROWS, 3)
    assert released.left() == Times(3, 1, 0, 0)
    sent = Counter({"activation": STEPS, "validation": 1, "test": 1, "verdict": 1})
    for kind in sent.elements():
        release = released.next(kind)
        assert (release is None) == (kind not in KINDS)
        if release is not None:
            released.add(release)
    assert released.left() == planned(replace(PLAN, importance="none"), ROWS)


def test_a_test_part_after_another_verdict_has_left_twice() -> None:
    """The label holder ends training after epoch 2, has all begin again from there, and does not end it."""
    noted: list[Release] = []
    for resumed, stops in ((0, 2), (2, 4)):
        released = Released(PLAN, ROWS, resumed, [*noted], noted.append)
        for kind, epoch, rows in messages(resumed, stops):
            released.draw(f"{kind} {epoch} {rows} {stops}".encode())
            release = released.next(kind)
            assert release is not None
            released.add(release)
    assert released.left() == Times(4, 2, 2, 0)
