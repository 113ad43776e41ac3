"""What left, in words."""

from parties.report.privacy import WORDS
from tests.test_docs import kinds

NOT_OF_A_RUN = {"prediction", "kept blocks", "people", "common people"}
"""Of `party predict` and `party extend`, which have logs of their own."""


def test_a_number_is_no_masked_id() -> None:
    for kind, told in {
        "count": "how many",
        "offer": "how many",
        "confirm": "checksum",
        "tags": "tags",
    }.items():
        assert told in WORDS[kind]
    assert len([kind for kind, told in WORDS.items() if told.startswith("masked or blinded ids")]) == 6


def test_every_kind_of_message_has_words() -> None:
    assert {*kinds()} - NOT_OF_A_RUN <= WORDS.keys()
