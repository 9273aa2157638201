"""Random bytes: from the operating system, or expanded from a secret seed."""

import os

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from collegium.algebra import Randomness
from collegium.crypto._errors import ByteLengthError
from collegium.crypto._hash import check_label, check_length

__all__ = ["SEED_BYTES", "Randomness", "Stream", "os_random"]

SEED_BYTES = 32
_KEY_INFO = b"collegium/v1/stream/key"
_SPLIT_INFO = b"collegium/v1/stream/split/"


def os_random(count: int) -> bytes:
    """Return `count` bytes of the operating system's generator."""
    return os.urandom(count)


class Stream:
    """A stream of pseudorandom bytes, fixed by its seed: AES-256 in counter mode (NIST SP 800-38A, 6.5).

    The AES key is HKDF-Expand(seed, "collegium/v1/stream/key") and the counter starts at 0, so the same seed replays
    the same bytes however they are cut into calls. Whoever does not know a uniform seed cannot tell b bytes of it from
    random better than (b / 16)^2 / 2^129, plus the advantage against AES.
    """

    __slots__ = ("_encryptor", "_seed")

    def __init__(self, seed: bytes) -> None:
        """Start the stream of a 32-byte seed.

        Raises:
            ByteLengthError: the seed is not 32 bytes.
        """
        self._seed = bytes(check_length("stream seed", seed, SEED_BYTES))
        key = _derive(self._seed, _KEY_INFO)
        self._encryptor = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()

    def __call__(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        if count < 0:
            raise ByteLengthError(f"asked for {count} random bytes, expected 0 or more", count=count)
        return self._encryptor.update(bytes(count))

    def split(self, label: str) -> "Stream":
        """Return the independent stream of this seed under `label`, whatever has been read from this one.

        Its seed is HKDF-Expand(seed, "collegium/v1/stream/split/" || label).
        """
        return Stream(_derive(self._seed, _SPLIT_INFO + check_label(label)))

    def __repr__(self) -> str:
        return "Stream(<secret>)"


def _derive(seed: bytes, info: bytes) -> bytes:
    return HKDFExpand(algorithm=SHA256(), length=SEED_BYTES, info=info).derive(seed)
