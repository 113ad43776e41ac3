"""How will each merchant's sales develop, and on what does it depend? A regression; here the common entities
are shops, not people."""

import numpy as np
import pandas as pd
from scenario import CONTRACT, known, people, tell

from parties import simulate
from parties.simulation import Simulated


def companies(count: int) -> dict[str, pd.DataFrame]:
    random = np.random.default_rng(5)
    shop = [f"DE-{number:06d}" for number in range(count)]
    sales, rating = np.exp(random.normal(9, 0.5, count)), random.beta(8, 2, count) * 5
    days, damaged = random.gamma(4, 0.8, count), random.beta(1, 20, count)
    spent, reach = np.exp(random.normal(6, 1, count)), random.normal(size=count)
    # Advertising sells what is delivered in time.
    growth = 6 * np.log(spent / 400) * (days < 3) + 4 * reach - 3 * (days - 3) - 80 * (damaged - 0.05)
    growth += 4 * (rating - 4) + random.normal(0, 4, count)
    platform = {"shop": shop, "sales": sales, "rating": rating, "growth": growth.round(2)}
    return {
        "platform": known(random, pd.DataFrame(platform)),
        "logistics": known(random, pd.DataFrame({"shop": shop, "days": days, "damaged": damaged})),
        "advertiser": known(random, pd.DataFrame({"shop": shop, "spent": spent, "reach": reach})),
    }


def main(count: int) -> Simulated:
    contract = CONTRACT | {"model": CONTRACT["model"] | {"task": "regression"}}
    contract["evaluation"] = CONTRACT["evaluation"] | {"importance": "columns"}
    found = simulate(
        companies(count), label_holder="platform", label="growth", id="shop", contract=contract, seed=5
    )
    tell(found, "How do sales grow, in percent?", "r2", "rmse", "mae")
    print("\nhow much larger the error gets when a column is shuffled")
    for result in found.parties.values():  # each party knows the names of its own columns only
        own = result.summary["importance"]["columns"][result.party]
        for column, drop in sorted(own.items(), key=lambda item: -item[1]["mean"]):
            print(f"{result.party:<20}{column:<20}{drop['mean']:>+12.1%}")
    scores = found.parties["platform"].scores
    assert scores is not None
    for text, some in (("best", scores.nlargest(3, "score")), ("worst", scores.nsmallest(3, "score"))):
        told = ", ".join(
            f"{shop} {grows:+.0f} %" for shop, grows in zip(some["id"], some["score"], strict=True)
        )
        print(f"the {text} prospects: {told}")
    return found


if __name__ == "__main__":
    main(people())
