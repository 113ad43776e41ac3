"""Labels keep purposes apart, and bulk AES is AES block by block."""

import numpy as np
import pytest
from Crypto.Cipher import AES

from psi import kdf


def test_labels_are_told_apart_by_parts_not_by_their_concatenation() -> None:
    labels = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), (b"ab", b"c", b"")]
    keys = {kdf.key(b"secret", *label) for label in labels}
    assert len(keys) == len(labels)
    assert kdf.key(b"secret", "ab") == kdf.key(b"secret", b"ab") != kdf.key(b"other", "ab")


def test_derived_values_depend_on_the_whole_output_and_the_label() -> None:
    outputs = np.zeros((17, 16), np.uint8)
    outputs[np.arange(16), np.arange(16)] = 1  # each differs from the last row in one byte
    for size in (8, 12, 16):
        made = kdf.derive(outputs, kdf.key(b"", "mask"), size)
        assert made.shape == (17, size)
        assert len(np.unique(made, axis=0)) == 17
        assert not np.isin(
            made.view(f"V{size}"), kdf.derive(outputs, kdf.key(b"", "tag"), size).view(f"V{size}")
        ).any()


def test_deriving_is_not_a_permutation_of_the_output() -> None:
    """AES(u) XOR u by its definition: AES(u) alone could be decrypted by whoever knows the public label."""
    u, label = bytes(range(16)), kdf.key(b"", "mask")
    made = kdf.derive(np.frombuffer(u, np.uint8).reshape(1, 16), label, 10)
    expected = bytes(a ^ b for a, b in zip(AES.new(label, AES.MODE_ECB).encrypt(u), u, strict=True))
    assert made.tobytes() == expected[:10]


def test_permute_is_aes() -> None:
    """FIPS 197, appendices C.1 and C.3."""
    block = np.frombuffer(bytes.fromhex("00112233445566778899aabbccddeeff"), np.uint8).reshape(1, 16)
    for key, expected in [
        (bytes(range(16)), "69c4e0d86a7b0430d8cdb78070b4c55a"),
        (bytes(range(32)), "8ea2b7ca516745bfeafc49904b496089"),
    ]:
        assert kdf.permute(key, np.repeat(block, 3, axis=0)).tobytes().hex() == 3 * expected
    strided = np.zeros((4, 32), np.uint8)[::2, ::2]
    assert (kdf.permute(bytes(16), strided) == kdf.permute(bytes(16), np.zeros((2, 16), np.uint8))).all()
    with pytest.raises(ValueError, match="length"):
        kdf.permute(bytes(16), np.zeros((2, 32), np.uint8))


def test_no_rows_give_no_values() -> None:
    nothing = np.empty((0, 16), np.uint8)
    assert kdf.derive(nothing, bytes(32), 9).shape == (0, 9)
    assert kdf.prf64(bytes(32), nothing).shape == kdf.stream(bytes(32), 0).shape == (0,)


def test_prf_values_are_distinct_and_keyed() -> None:
    digests = np.arange(16 * 1000, dtype=np.uint16).view(np.uint8)[: 16 * 1000].reshape(-1, 16)
    one, two = kdf.prf64(b"k" * 32, digests), kdf.prf64(b"l" * 32, digests)
    assert len(np.unique(np.concatenate([one, two]))) == 2000


@pytest.mark.parametrize("words", [1, 2, 7, 1000])
def test_a_stream_is_counter_mode(words: int) -> None:
    counters = b"".join(i.to_bytes(16, "little") for i in range(words))
    expected = AES.new(b"s" * 32, AES.MODE_ECB).encrypt(counters)
    assert kdf.stream(b"s" * 32, words).tobytes() == expected[: 8 * words]
