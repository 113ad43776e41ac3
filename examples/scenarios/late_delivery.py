"""Which parcels will be late? Here the carrier holds the label; the shop knows what is in them, and the
advertiser where demand is about to peak."""

import numpy as np
import pandas as pd
from scenario import CONTRACT, caught, known, people, tell, yes

from parties import simulate
from parties.simulation import Simulated


def companies(count: int) -> dict[str, pd.DataFrame]:
    random = np.random.default_rng(2)
    orders = 10_000_000 + np.arange(count)
    distance, load = random.gamma(2, 120, count), random.normal(size=count)
    weekday = random.choice(["mon", "tue", "wed", "thu", "fri"], count)
    items, bulky = random.poisson(2, count) + 1, random.random(count) < 0.2
    promised, warehouse = random.choice([1, 2, 4], count), random.choice(["a", "b", "c"], count)
    peak = random.normal(size=count)
    # Short promises fail on long ways; a peak of demand where the depot is full already.
    log_odds = distance / 150 * (promised == 1) + 1.2 * load * (peak > 0.5) + 1.5 * bulky - 2.2
    log_odds += 0.4 * load + 0.5 * (weekday == "fri") + 0.15 * items + 0.8 * (warehouse == "b")
    logistics = {"order": orders, "distance": distance, "load": load, "weekday": weekday}
    platform = {"order": orders, "items": items, "bulky": bulky, "promised": promised, "warehouse": warehouse}
    return {
        "logistics": known(random, pd.DataFrame(logistics | {"late": yes(random, log_odds)})),
        "platform": known(random, pd.DataFrame(platform)),
        "advertiser": known(random, pd.DataFrame({"order": orders, "peak": peak}), 0.8),
    }


def main(count: int) -> Simulated:
    found = simulate(
        companies(count), label_holder="logistics", label="late", id="order", contract=CONTRACT, seed=2
    )
    tell(found, "Which parcels are late?", "auc", "log_loss")
    print(f"\nthe 10 % of parcels at most risk hold {caught(found, 0.1):.0%} of the late ones")
    return found


if __name__ == "__main__":
    main(people())
