"""What goes with the fusion `secure-sum`, checked before anybody is met."""

from typing import Any, Final

from parties.contract_privacy import Privacy
from parties.document import Section

SECURE_SUM: Final = "secure-sum"
"""As model.fusion: the label holder learns the sum of the feature holders' activations only."""

ROOM: Final = 1 << 31
"""Below which the sum's whole numbers must stay: they are words of 32 bits, read as signed."""

NEEDS: Final[dict[str, tuple[str, Any, str]]] = {
    "model": ("top", "mlp", "others look at single activations"),
    "training": ("schedule", "exact", "the others have no sums"),
    "codec": ("activations", "fp32", "what is masked is written whole"),
    "evaluation": ("importance", "none", "it is measured on single activations"),
}
"""By section, what a secure sum needs, and why (`splitnn.plan`)."""


def fits_secure_sum(name: str, section: Section, fusion: str) -> None:
    """Raises ValueError where a section of this name does not go with the fusion."""
    key, only, why = NEEDS[name]
    if fusion == SECURE_SUM and (found := getattr(section, key)) != only:
        raise ValueError(f"{key} must be {only!r} with model.fusion = 'secure-sum', not {found!r}: {why}")


def sum_has_room(privacy: Privacy, feature_holders: int) -> None:
    """Raises ValueError where the sum of so many could wrap around."""
    if feature_holders * int(privacy.sum_bound * 2**privacy.sum_fraction) >= ROOM:
        most = ROOM / feature_holders / 2**privacy.sum_fraction
        raise ValueError(
            f"the sum of {feature_holders} feature holders does not fit: {feature_holders} x sum_bound x "
            f"2^sum_fraction must be below 2^31; lower sum_bound below {most:g}, or sum_fraction"
        )
