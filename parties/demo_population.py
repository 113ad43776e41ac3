"""A made-up population for the demo: what three companies know about the same people, and who converts.

Everybody has six hidden traits. The columns of all companies follow from the traits, and so does the chance
of being a company's customer. The label does *not* see the traits: it is drawn from a probability that is a
function of the columns exactly as they stand in the three tables (rounded, with their gaps). Therefore
`Population.probability` is the true conditional probability given all the columns, and no model can expect to
rank better than it does.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Objects = NDArray[np.object_]

PARTIES: Final = ("platform", "logistics", "advertiser")
SHARE: Final = {"platform": 0.82, "logistics": 0.66, "advertiser": 0.57}
POSITIVE_RATE: Final = 0.18
"""Among the people whom all three companies know."""

NUMERIC: Final = {
    "platform": ["visits", "orders", "basket_amount", "days_since_visit", "session_minutes", "age"],
    "logistics": ["parcels", "returns", "delivery_days", "late_minutes", "distance_km", "rating"],
    "advertiser": ["impressions", "clicks", "hours_since_ad", "ad_spend", "video_seconds"],
}
DEVICES: Final = ["mobile", "desktop", "tablet", "app", "tv"]
SERVICES: Final = ["standard", "express", "locker", "sameday"]
CATEGORICAL: Final = {
    "platform": ["device", "favourite_product"],
    "logistics": ["service", "depot"],
    "advertiser": ["channel", "campaign"],
}


@dataclass(frozen=True)
class Population:
    """`people` persons; row i of every array and frame is the same person.

    frames: per party its feature columns, for everybody (a party sees the rows of its members).
    member: per party bool [people]. probability: float64 [people]. converted: bool [people].
    """

    frames: dict[str, pd.DataFrame]
    member: dict[str, Bools]
    probability: Floats
    converted: Bools


def population(people: int, random: np.random.Generator) -> Population:
    """Draw `people` persons. The same generator state gives the same population on every machine."""
    activity, wealth, urban, youth, patience, attention = random.normal(size=(6, people))

    def noisy(weight: float, *traits: Floats) -> Floats:
        """Standard normal, with `weight` of its standard deviation from the traits."""
        total = np.sum(traits, axis=0) / np.sqrt(len(traits))
        return np.asarray(weight * total + np.sqrt(1 - weight**2) * random.normal(size=people))

    def count(mean_log: float, spread: float, trait: Floats) -> Floats:
        return random.poisson(np.exp(mean_log + spread * trait)).astype(np.float64)

    def waiting(mean: float, spread: float, trait: Floats) -> Floats:
        return np.round(random.exponential(mean * np.exp(spread * trait)), 1)

    def amount(median: float, spread: float, trait: Floats) -> Floats:
        return np.round(median * np.exp(spread * trait), 2)

    def hide(values: Floats, chance: Floats | float) -> Floats:
        return np.where(random.random(people) < chance, np.nan, values)

    device = _zipf(DEVICES, 0.8, noisy(0.4, youth), random)
    basket = noisy(0.5, wealth)
    rating = np.clip(np.round(4.1 - 0.8 * noisy(0.3, patience), 1), 1, 5)
    frames = {
        "platform": pd.DataFrame(
            {
                "visits": count(1.8, 0.9, noisy(0.6, activity)),
                "orders": count(0.9, 0.8, noisy(0.5, activity, wealth)),
                # Not at random: who spends much tends to pay as a guest, and the amount is not kept.
                "basket_amount": hide(amount(38, 0.7, basket), _sigmoid(1.2 * basket - 2.6)),
                "days_since_visit": waiting(6, 0.7, noisy(0.5, -activity)),
                "session_minutes": amount(7, 0.8, noisy(0.4, patience)),
                # At random, given the device: the app does not ask for the age.
                "age": hide(np.clip(np.round(41 - 13 * youth), 16, 95), np.where(device == "app", 0.3, 0.03)),
                "device": device,
                "favourite_product": _zipf(_codes("P", 3000), 1.25, noisy(0.4, wealth, urban), random),
            }
        ),
        "logistics": pd.DataFrame(
            {
                "parcels": count(1.6, 0.9, noisy(0.5, activity)),
                "returns": count(0.3, 1.0, noisy(0.4, -patience)),
                "delivery_days": np.round(random.gamma(3.0, 0.9 * np.exp(-0.3 * urban)), 1),
                "late_minutes": waiting(30, 0.6, noisy(0.4, -urban)),
                "distance_km": hide(amount(24, 0.9, noisy(0.6, -urban)), 0.06),
                # Not at random: unhappy people do not answer the survey.
                "rating": hide(rating, _sigmoid(2.6 - 1.1 * rating)),
                "service": _zipf(
                    ["standard", "express", "locker", "sameday"], 0.9, noisy(0.4, urban), random
                ),
                "depot": _zipf(_codes("D", 400), 1.1, noisy(0.5, urban), random),
            }
        ),
        "advertiser": pd.DataFrame(
            {
                "impressions": count(3.0, 1.0, noisy(0.5, attention)),
                "clicks": count(0.7, 0.9, noisy(0.6, attention)),
                "hours_since_ad": waiting(40, 0.6, noisy(0.4, -attention)),
                "ad_spend": hide(amount(1.8, 0.9, noisy(0.4, wealth)), 0.05),
                "video_seconds": hide(waiting(15, 0.5, noisy(0.5, youth)), 0.1),
                "channel": _zipf(_codes("C", 9), 0.8, noisy(0.4, youth), random),
                "campaign": _zipf(_codes("A", 1200), 1.25, noisy(0.4, attention), random),
            }
        ),
    }
    # Each membership is biased; partly opposed tastes keep the triple overlap near 32 %.
    member = {
        "platform": _top(SHARE["platform"], noisy(0.5, activity, youth)),
        "logistics": _top(SHARE["logistics"], noisy(0.5, wealth, -patience, activity)),
        "advertiser": _top(SHARE["advertiser"], noisy(0.5, attention, youth)),
    }
    logit = _logit(frames, random)
    everywhere = np.logical_and.reduce([member[party] for party in PARTIES])
    probability = _sigmoid(logit + _intercept(logit[everywhere]))
    return Population(frames, member, probability, random.random(people) < probability)


def _logit(frames: dict[str, pd.DataFrame], random: np.random.Generator) -> Floats:
    """Log-odds of converting, up to a constant: each party's own effects, and pairs across parties."""
    z: dict[str, Floats] = {}
    level: dict[str, Floats] = {}
    for party in PARTIES:
        for column in NUMERIC[party]:
            z[column] = _squash(frames[party][column].to_numpy(np.float64))
        for column in CATEGORICAL[party]:
            level[column] = _level_effects(frames[party][column], random)
    # Habits show in several columns, none of which tells them alone.
    engagement = (z["visits"] + z["session_minutes"] - z["days_since_visit"]) / 3**0.5
    spending = (z["basket_amount"] + z["orders"]) / 2**0.5
    trouble = (z["late_minutes"] + z["delivery_days"] - z["rating"]) / 3**0.5
    demand = (z["parcels"] - z["returns"]) / 2**0.5
    attention = (z["clicks"] + z["video_seconds"] - z["hours_since_ad"]) / 3**0.5
    reach = (z["ad_spend"] + z["impressions"]) / 2**0.5
    product, depot, campaign = level["favourite_product"], level["depot"], level["campaign"]
    platform = 0.5 * engagement + 0.4 * spending + 0.4 * product + 0.3 * level["device"] - 0.3 * z["age"] ** 2
    logistics = 0.4 * demand - 0.4 * trouble + 0.35 * depot + 0.25 * level["service"] - 0.2 * z["distance_km"]
    advertiser = 0.5 * attention + 0.25 * reach + 0.35 * campaign + 0.25 * level["channel"]
    across = (
        engagement * attention
        - spending * trouble
        + 0.85 * demand * reach
        + 0.5 * product * attention
        - 0.5 * campaign * trouble
    )
    return np.asarray(platform + logistics + advertiser + across)


def _squash(values: Floats) -> Floats:
    """A smooth score in (-2, 2) of the column as it is written; a gap has an effect of its own."""
    logs = np.log1p(values)
    centred = (logs - np.nanmean(logs)) / np.nanstd(logs)
    return np.where(np.isnan(values), 0.7, 2 * np.tanh(centred / 2))


def _level_effects(column: "pd.Series[str]", random: np.random.Generator) -> Floats:
    """One standard-normal effect a level; levels beyond the sixty most frequent ones have a third of it."""
    codes, names = pd.factorize(column)
    frequency = np.bincount(codes, minlength=len(names))
    rank = np.argsort(np.argsort(-frequency, kind="stable"))
    effect = random.normal(size=len(names)) * np.where(rank < 60, 1.0, 1 / 3)
    effect -= np.average(effect, weights=frequency)
    return np.asarray((effect / np.sqrt(np.average(effect**2, weights=frequency)))[codes])


def _zipf(names: list[str], exponent: float, score: Floats, random: np.random.Generator) -> Objects:
    """Levels with Zipf frequencies; people of similar score tend to have levels that are neighbours."""
    weight = np.arange(1, len(names) + 1) ** -exponent
    order = random.permutation(len(names))
    edges = np.cumsum(weight[order]) / weight.sum()
    uniform = (np.argsort(np.argsort(score)) + 0.5) / len(score)
    return np.array(names, dtype=object)[order][np.minimum(np.searchsorted(edges, uniform), len(names) - 1)]


def _codes(letter: str, levels: int) -> list[str]:
    return [f"{letter}{number:04d}" for number in range(levels)]


def _top(share: float, score: Floats) -> Bools:
    return np.asarray(score > np.quantile(score, 1 - share))


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-values)))


def _intercept(logit: Floats) -> float:
    """The constant that makes the mean probability POSITIVE_RATE, by bisection."""
    low, high = -30.0, 30.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if _sigmoid(logit + middle).mean() < POSITIVE_RATE else (low, middle)
    return low
