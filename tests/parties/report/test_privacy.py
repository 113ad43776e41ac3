"""What left, in words."""

from parties.report.privacy import WORDS
from tests.test_docs import kinds

NOT_OF_A_RUN = {"prediction", "kept blocks", "people", "common people"}
"""Of `party predict` and `party extend`, which have logs of their own."""


def test_every_kind_of_message_has_words() -> None:
    assert {*kinds()} - NOT_OF_A_RUN <= WORDS.keys()
