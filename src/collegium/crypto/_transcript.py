"""A Fiat-Shamir transcript: a SHA-256 hash chain that prover and verifier feed alike."""

import numpy as np
import numpy.typing as npt

from collegium.algebra import FieldArray, sample_field
from collegium.crypto._errors import ChallengeRangeError
from collegium.crypto._hash import DIGEST_BYTES, Digest, check_label, hash_fields, hash_numbered

__all__ = ["Transcript"]


class Transcript:
    """The running hash of everything a proof has said so far, and the source of its challenges.

    State s_0 = H("transcript", tag, fields...). Absorbing sets s = H("transcript/absorb", s, label, data). A challenge
    first sets s = H("transcript/challenge", s, label, kind, count, bound) and then reads the byte stream
    H("transcript/block", s, 0) || H("transcript/block", s, 1) || ...; H is `hash_fields`. So a challenge depends on
    every label, length and byte before it, and on how many values are drawn. docs/spec/crypto.md gives the argument.
    """

    __slots__ = ("_state",)

    def __init__(self, tag: str, *fields: bytes | int) -> None:
        """Start the transcript of one protocol, `tag`, about one statement, `fields`."""
        self._state = hash_fields("transcript", check_label(tag), *fields)

    @property
    def state(self) -> Digest:
        """The digest of all that was absorbed and drawn so far."""
        return self._state

    def absorb(self, label: str, data: bytes) -> None:
        """Bind the challenges that follow to `data`."""
        self._state = hash_fields("transcript/absorb", self._state, check_label(label), data)

    def challenge_bytes(self, label: str, count: int) -> bytes:
        """Draw `count` bytes."""
        return self._begin(label, "bytes", count)(count)

    def challenge_field(self, label: str, count: int) -> FieldArray:
        """Draw `count` uniform elements of F: the stream's 8-byte words, those not below P left out."""
        return sample_field(self._begin(label, "field", count), count)

    def challenge_ext(self, label: str, count: int) -> FieldArray:
        """Draw `count` uniform elements of K, shape (2, count); words 2 i and 2 i + 1 make element i."""
        words = sample_field(self._begin(label, "ext", count), 2 * count)
        return np.ascontiguousarray(words.reshape(count, 2).T)

    def challenge_indices(self, label: str, count: int, bound: int) -> npt.NDArray[np.int64]:
        """Draw a uniform set of `count` distinct indices below `bound`, in increasing order.

        Words of the stream at or above the largest multiple of `bound` below 2^64 are left out, the others taken
        modulo `bound`, repetitions left out. Takes about bound * ln(bound / (bound - count)) words.

        Raises:
            ChallengeRangeError: unless 0 <= count <= bound < 2^63.
        """
        if not 0 <= count <= bound < 1 << 63:
            raise ChallengeRangeError(f"cannot draw {count} distinct indices below {bound}", count=count, bound=bound)
        stream = self._begin(label, "indices", count, bound)
        limit = np.uint64((1 << 64) - 1 - (1 << 64) % max(bound, 1))
        drawn: set[int] = set()
        while (missing := count - len(drawn)) > 0:  # so many words cannot be too many
            words = np.frombuffer(stream(8 * missing), "<u8")
            drawn.update((words[words <= limit] % np.uint64(bound)).tolist())
        return np.array(sorted(drawn), np.int64)

    def _begin(self, label: str, kind: str, count: int, bound: int = 0) -> "_Expansion":
        if count < 0:
            raise ChallengeRangeError(f"cannot draw {count} values, expected 0 or more", count=count)
        fields = (check_label(label), kind.encode("ascii"), count, bound)
        self._state = hash_fields("transcript/challenge", self._state, *fields)
        return _Expansion(self._state)


class _Expansion:
    """The byte stream of one challenge."""

    __slots__ = ("_blocks", "_rest")

    def __init__(self, seed: Digest) -> None:
        self._blocks = hash_numbered("transcript/block", seed)
        self._rest = b""

    def __call__(self, count: int) -> bytes:
        missing = -(-(count - len(self._rest)) // DIGEST_BYTES)
        data = self._rest + b"".join(next(self._blocks) for _ in range(missing))
        self._rest = data[count:]
        return data[:count]
