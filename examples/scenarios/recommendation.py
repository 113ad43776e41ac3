"""What to show on a product page? A person has many views, each with a label; what counts is the order of the
products within a session. The advertiser knows what people are interested in."""

import numpy as np
import pandas as pd
from scenario import CONTRACT, known, people, tell, yes

from parties import simulate
from parties.simulation import Simulated

KINDS = np.array(["shoes", "books", "garden", "games"])


def companies(count: int) -> dict[str, pd.DataFrame]:
    random = np.random.default_rng(4)
    mail = np.array([f"person{number}@example.org" for number in range(count)])
    interest, budget = random.integers(0, 4, count), random.normal(size=count)
    premium, returns = random.random(count) < 0.3, random.poisson(1, count)
    of = np.repeat(np.arange(count), 6)  # six products in each person's session
    kind, price = random.integers(0, 4, len(of)), random.normal(size=len(of))
    place = np.tile(np.arange(6), count)
    log_odds = 2.2 * (kind == interest[of]) + 0.9 * price * budget[of] - 0.25 * place - 1.2
    log_odds += 1.8 * (premium[of] - 0.3) * price - 0.5 * returns[of] * (kind == 0)
    views = {"email": mail[of], "session": of, "kind": KINDS[kind], "price": price, "place": place}
    advertiser = {"email": mail, "interest": KINDS[interest], "budget": budget}
    return {
        "platform": pd.DataFrame(views | {"clicked": yes(random, log_odds)}),
        "advertiser": known(random, pd.DataFrame(advertiser)),
        "logistics": known(random, pd.DataFrame({"email": mail, "premium": premium, "returns": returns})),
    }


def main(count: int) -> Simulated:
    found = simulate(
        companies(count),
        label_holder="platform",
        label="clicked",
        id="email",
        contract=CONTRACT | {"ids": {"type": "email"}, "examples": {"per_entity": "several"}},
        own={"platform": {"data": {"rank_within": "session", "ndcg_at": 3}}},
        seed=4,
    )
    tell(found, "What is clicked?", "gauc", "ndcg@3", "auc")
    return found


if __name__ == "__main__":
    main(people(2000))
