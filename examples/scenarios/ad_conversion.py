"""Who buys within a week of a campaign? The platform knows who did; its carrier and advertiser know why."""

import numpy as np
import pandas as pd
from scenario import CONTRACT, known, people, tell, yes

from parties import simulate
from parties.simulation import Simulated


def companies(count: int) -> dict[str, pd.DataFrame]:
    random = np.random.default_rng(1)
    mail = [f"person{number}@example.org" for number in range(count)]
    visits, basket = random.poisson(4, count), np.exp(random.normal(3, 0.6, count))
    late, returns = random.beta(2, 6, count), random.poisson(1.5, count)
    region = random.choice(["north", "south", "east", "west"], count)
    shown, campaign = random.poisson(6, count), random.choice(["new", "sale", "brand"], count)
    clicked = random.binomial(shown, 0.3)
    # Interest makes a sale only where deliveries came on time, and a campaign only where it was clicked.
    log_odds = (
        0.2 * visits - 1.5 + 0.8 * clicked * (campaign == "sale") - 5 * (late - 0.25) * (1 + visits / 4)
    )
    log_odds += 0.4 * (region == "north") - 0.3 * returns
    platform = {"email": mail, "visits": visits, "basket": basket, "converted": yes(random, log_odds)}
    logistics = {"email": mail, "late": late, "returns": returns, "region": region}
    advertiser = {
        "mail": [one.upper() for one in mail],
        "shown": shown,
        "clicked": clicked,
        "campaign": campaign,
    }
    return {
        "platform": known(random, pd.DataFrame(platform)),
        "logistics": known(random, pd.DataFrame(logistics)),
        "advertiser": known(random, pd.DataFrame(advertiser), 0.8),
    }


def main(count: int) -> Simulated:
    found = simulate(
        companies(count),
        label_holder="platform",
        label="converted",
        id="email",
        contract=CONTRACT | {"ids": {"type": "email"}},
        own={"advertiser": {"data": {"id": "mail"}}},
        seed=1,
    )
    tell(found, "Who converts?", "auc", "log_loss")
    return found


if __name__ == "__main__":
    main(people())
