"""Labels keep purposes apart."""

import numpy as np

from psi import kdf


def test_labels_are_told_apart_by_parts_not_by_their_concatenation() -> None:
    labels = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), (b"ab", b"c", b"")]
    keys = {kdf.key(b"secret", *label) for label in labels}
    assert len(keys) == len(labels)
    assert kdf.key(b"secret", "ab") == kdf.key(b"secret", b"ab") != kdf.key(b"other", "ab")


def test_derived_values_depend_on_the_whole_output_and_the_label() -> None:
    outputs = np.zeros((33, 32), np.uint8)
    outputs[np.arange(32), np.arange(32)] = 1  # each differs from the last row in one byte
    for size in (8, 12):
        made = kdf.derive(outputs, kdf.key(b"", "mask"), size)
        assert made.shape == (33, size)
        assert len(np.unique(made, axis=0)) == 33
        assert not np.isin(
            made.view(f"V{size}"), kdf.derive(outputs, kdf.key(b"", "tag"), size).view(f"V{size}")
        ).any()


def test_prf_values_are_distinct_and_keyed() -> None:
    digests = np.arange(16 * 1000, dtype=np.uint16).view(np.uint8)[: 16 * 1000].reshape(-1, 16)
    one, two = kdf.prf64(b"k" * 32, digests), kdf.prf64(b"l" * 32, digests)
    assert len(np.unique(np.concatenate([one, two]))) == 2000
