"""What a run sends from this machine, in words, before anything is sent: for `party check`."""

from parties.config import Config
from parties.contract import Contract
from parties.own import OwnData
from psi import Psi


def what_leaves(
    config: Config, data: OwnData | None, protocols: dict[str, Psi] | None, unfinished: str = ""
) -> list[str]:
    """In words, everything that a run sends from this machine. unfinished: what it would go on with."""
    contract, hub = config.contract, config.contract.label_holder
    own = " or ".join(f"{len(ids.rows):,} {kind} ids" for kind, ids in data.ids.items()) if data else "ids"
    size = (
        "psi.at_most, in place of how many ids you bring"
        if contract.psi.hide_sizes
        else "how many ids you bring"
    )
    all_others = ", ".join(name for name in contract.names if name != config.name)
    to = all_others if config.role == "label holder" else hub
    sent = [
        f"to {all_others}: run.toml, your certificate, which kinds of id you have, which psi protocols are "
        "installed, a signature and fresh keys (handshake)",
        f"to {to}: {size}",
    ]
    if unfinished:
        sent.append(f"to {all_others}: the id of the unfinished run here, and how far it got ({unfinished})")
    if contract.several and config.role == "label holder":
        sent.append(f"to {all_others}: how many rows you have of each user in common, nothing of their order")
    for name, protocol in (protocols or {}).items():
        hides = "never an id or a digest of one" if protocol.secure else "WHERE WHO GUESSES AN ID FINDS IT"
        sent.append(
            f"to {all_others}: the messages of {name}, made from your {own}, {hides} (its leakage, said "
            "under psi, is what they tell)"
        )
    sent.append(f"to {all_others}: a hash of the ids in common, which only who has the same ones can compare")
    up, down = _numbers_a_row(contract)
    by_columns = contract.evaluation.importance == "columns"
    retrains = contract.evaluation.contribution == "retrain"
    if config.role == "label holder":
        to = ", ".join(contract.feature_holders)
        sent.append(
            f"to {to}: {down} a row and step, the gradients at their cut layer{_defended(contract)}; "
            "and when training stops"
        )
        if by_columns:
            sent.append(f"to {to}: how much worse the test score gets without each group of their columns")
        if retrains:
            sent.append(f"to {to}: the same again in further trainings, each without one of them")
        sent.append("never: a label, a column or its name, a row, a prediction, a model")
    else:
        masked = (
            f", masked, so that {hub} learns the sum of all feature holders'" if contract.is_summed else ""
        )
        sent.append(
            f"to {hub}: {up} a row and step, the activations of your bottom model for the users in common"
            f"{_noised(contract)}{masked}"
        )
        if by_columns:
            sent.append(
                f"to {hub}: how many groups of columns you have, and for each the activations of the test "
                "rows with its values shuffled, several times: they can tell which rows share a value"
            )
        if retrains:
            others = len(contract.feature_holders) - 1
            sent.append(
                f"to {hub}: the same of {others} further bottom model(s), as each other feature holder is "
                "left out in turn"
            )
        sent.append("never: a column or its name, a row, a model")
    sent.append(
        "activations and gradients are computed from columns and labels, and can tell whoever receives them "
        "something about these: agree on this run with partners whom that may reach"
    )
    return sent


def _defended(contract: Contract) -> str:
    """What is done to gradients before they leave."""
    privacy, done = contract.privacy, list[str]()
    if privacy.label_defence != "none":
        strength = "" if privacy.label_strength is None else f" of strength {privacy.label_strength:g}"
        done.append(f"noise by {privacy.label_defence}{strength}")
    if privacy.label_epsilon is not None:
        done.append(f"labels that lie with epsilon {privacy.label_epsilon:g}")
    if privacy.max_label_leak is not None:
        done.append(f"none whose leak is above {privacy.max_label_leak:g}")
    return f" ({', '.join(done)})" if done else ""


def _noised(contract: Contract) -> str:
    """What is done to activations before they leave."""
    privacy = contract.privacy
    if privacy.embedding_clip is None:
        return ""
    noise = f", with noise of {privacy.embedding_sigma:g} times that" if privacy.embedding_sigma else ""
    return f" (no row longer than {privacy.embedding_clip:g}{noise})"


def _numbers_a_row(contract: Contract) -> tuple[str, str]:
    """What crosses of a row, up and down, as its codecs write it."""
    codec, cut = contract.codec, contract.model.cut
    names = {"fp32": "float32", "bf16": "bfloat16"}
    down = f"{codec.keep or cut} {names.get(codec.gradients, codec.gradients)} numbers"
    if codec.keep is not None:
        return f"{codec.keep} of {cut} float32 numbers, and which,", down
    if contract.is_summed:
        return f"{cut} whole numbers of 32 bits", down
    return f"{cut} {names.get(codec.activations, codec.activations)} numbers", down
